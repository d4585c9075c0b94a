"""Per-sample gradient norms, and the last layer's per-sample gradients as two factors.

Legend: n samples, k classes, d features. The loss is the cross-entropy; the classifier is linear with a bias, so the
gradient of sample i with respect to it is the outer product of δ_i = p_i − onehot(y_i) and h̃_i = (h_i, 1).
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor
from torch.func import functional_call, grad, vmap

from potstill.core import Network
from potstill.functional.train import cross_entropy

__all__ = ["Factors", "factors", "gradient_norms", "last_layer_norms"]

_NUMBERS = 1 << 25
"""Gradient entries held at a time: 128 MiB in float32."""


class Factors(NamedTuple):
    """The last layer's per-sample gradients in factors: gradient i is ``delta[i] ⊗ features[i]``."""

    delta: Float[Tensor, "n k"]
    features: Float[Tensor, "n d1"]
    """Features with a last column of ones for the bias."""

    def inner(self, other: "Factors") -> Float[Tensor, "n m"]:
        """Return ``⟨g_i, g_j⟩`` with the gradients of ``other``."""
        return (self.delta @ other.delta.T) * (self.features @ other.features.T)

    def along(self, direction: Float[Tensor, "k d1"]) -> Float[Tensor, " n"]:
        """Return ``⟨g_i, direction⟩``."""
        return ((self.delta @ direction) * self.features).sum(1)

    def total(self) -> Float[Tensor, "k d1"]:
        """Return ``Σ_i g_i``."""
        return self.delta.T @ self.features

    def squared(self) -> Float[Tensor, " n"]:
        """Return ``‖g_i‖²``."""
        return self.delta.square().sum(1) * self.features.square().sum(1)

    def take(self, index: Int[Tensor, " m"]) -> "Factors":
        """Return the gradients at ``index``."""
        return Factors(self.delta[index], self.features[index])


def factors(network: Network, x: Tensor, y: Int[Tensor, " n"]) -> Factors:
    """Return the last layer's gradients of the samples ``x`` (n, …), in the network's current mode."""
    with torch.no_grad():
        h = network.embed(x)
        p = network.classifier(h).softmax(1)
    return factors_of(p, h, y)


def factors_of(p: Float[Tensor, "n k"], h: Float[Tensor, "n d"], y: Int[Tensor, " n"]) -> Factors:
    """Return the last layer's gradients from probabilities ``p`` and features ``h``."""
    return Factors(p - F.one_hot(y, p.shape[1]).to(p), torch.cat([h, torch.ones_like(h[:, :1])], 1))


def last_layer_norms(network: Network, x: Tensor, y: Int[Tensor, " n"]) -> Float[Tensor, " n"]:
    """Return ``‖δ_i‖ ‖h̃_i‖``, the exact norm of the classifier's part of each sample's gradient."""
    return factors(network, x, y).squared().sqrt()


def gradient_norms(network: Network, x: Tensor, y: Int[Tensor, " n"]) -> Float[Tensor, " n"]:
    """Return the exact norm of each sample's gradient with respect to all parameters.

    A network with BatchNorm must be in evaluation mode. Batches hold about 33 million gradient entries.
    """
    theta = {name: p.detach() for name, p in network.named_parameters()}
    buffers = {name: b.detach() for name, b in network.named_buffers()}

    def loss(params: dict[str, Tensor], one: Tensor, label: Tensor) -> Tensor:
        return cross_entropy(functional_call(network, {**params, **buffers}, (one[None],)), label[None])

    each = vmap(grad(loss), in_dims=(None, 0, 0))
    size = max(1, _NUMBERS // sum(p.numel() for p in theta.values()))
    norms = []
    for batch, labels in zip(torch.split(x, size), torch.split(y, size), strict=True):
        grads = each(theta, batch, labels)
        norms.append(sum(g.flatten(1).square().sum(1) for g in grads.values()).sqrt())
    return torch.cat(norms)
