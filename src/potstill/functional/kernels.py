r"""NTK and NNGP kernels of infinitely wide fully connected ReLU networks, and features of finite networks.

For inputs with d values, weights of variance σ_w² over the width and biases of variance σ_b² (NTK parameterization):

.. math::
    K^{(0)} = \sigma_w^2 \, x^\top x' / d + \sigma_b^2, \qquad \Theta^{(0)} = K^{(0)}, \\
    K^{(l+1)} = \sigma_w^2 \, \frac{r}{2\pi} \big(\sin\theta + (\pi - \theta)\cos\theta\big) + \sigma_b^2, \\
    \Theta^{(l+1)} = K^{(l+1)} + \sigma_w^2 \, \frac{\pi - \theta}{2\pi} \, \Theta^{(l)}, \qquad
    r = \sqrt{K^{(l)}(x, x)\, K^{(l)}(x', x')}, \quad \cos\theta = K^{(l)}(x, x') / r

(Cho and Saul, NeurIPS 2009, the arc-cosine kernels; Jacot et al., NeurIPS 2018, arXiv:1806.07572). K is the covariance
of the network's output at its beginning (NNGP), Θ the kernel of its training (NTK). σ_w² = 2 and σ_b² = 0.01 are those
of KIP's fully connected networks (google-research/kip/KIP.ipynb: W_std √2, b_std 0.1), where FC1 has one hidden layer.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from potstill.core import Inputs, Network

__all__ = ["FullyConnected", "concat_embeddings"]

NEAR = 1e-12
"""Value of 1 − cos² below which the derivative of the angle counts as 0."""


@dataclass(frozen=True, kw_only=True)
class FullyConnected:
    """The kernel of a fully connected ReLU network of ``depth`` hidden layers, in float64."""

    depth: int = 1
    """Hidden layers; 0 is the linear kernel, σ_w² · x·x' / d + σ_b²."""
    kind: Literal["ntk", "nngp"] = "ntk"
    weights: float = 2.0
    """σ_w²."""
    biases: float = 0.01
    """σ_b²."""

    def __call__(self, a: Float[Tensor, "m d"], b: Float[Tensor, "n d"]) -> Float[Tensor, "m n"]:
        """Return the kernel of every row of ``a`` with every row of ``b``, differentiable by both.

        The NTK has a kink at parallel rows: its derivative there counts as 0.
        """
        a, b = a.double(), b.double()
        d = a.shape[1]
        return self.of_products(a @ b.T / d, a.square().sum(1) / d, b.square().sum(1) / d)

    def of_products(
        self, ab: Float[Tensor, "m n"], aa: Float[Tensor, " m"], bb: Float[Tensor, " n"]
    ) -> Float[Tensor, "m n"]:
        """Return the kernel from products of rows over their length d: of each with each other, and with itself."""
        k = self._affine(ab)
        va, vb = self._affine(aa), self._affine(bb)
        theta = k
        for _ in range(self.depth):
            r = (va[:, None] * vb[None, :]).clamp_min(torch.finfo(k.dtype).tiny).sqrt()
            cos = (k / r).clamp(-1.0, 1.0)
            k = self._affine(r * _arc_cosine_1(cos) / (2 * math.pi))
            if self.kind == "ntk":
                theta = k + self.weights * _arc_cosine_0(cos) / (2 * math.pi) * theta
            va, vb = self._affine(va / 2), self._affine(vb / 2)
        return theta if self.kind == "ntk" else k

    def _affine(self, of: Tensor) -> Tensor:
        return self.weights * of + self.biases


class _ArcCosine0(torch.autograd.Function):
    """π − θ, θ = arccos c; derivative 1 / √(1 − c²), and 0 at the ends."""

    @staticmethod
    def forward(ctx: Any, c: Tensor) -> Tensor:
        ctx.save_for_backward(c)
        return torch.acos(-c)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (c,) = ctx.saved_tensors
        sin_square = 1 - c * c
        inside = sin_square > NEAR
        return torch.where(inside, grad * torch.where(inside, sin_square, torch.ones_like(c)).rsqrt(), 0.0)


class _ArcCosine1(torch.autograd.Function):
    """sin θ + (π − θ) cos θ; derivative π − θ."""

    @staticmethod
    def forward(ctx: Any, c: Tensor) -> Tensor:
        ctx.save_for_backward(c)
        return (1 - c * c).clamp_min(0.0).sqrt() + torch.acos(-c) * c

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (c,) = ctx.saved_tensors
        return grad * _arc_cosine_0(c)


def _arc_cosine_0(c: Tensor) -> Tensor:
    angle: Tensor = _ArcCosine0.apply(c)  # type: ignore[no-untyped-call]
    return angle


def _arc_cosine_1(c: Tensor) -> Tensor:
    value: Tensor = _ArcCosine1.apply(c)  # type: ignore[no-untyped-call]
    return value


def concat_embeddings(networks: Sequence[Network], x: Inputs) -> Float[Tensor, "n d"]:
    """Return the networks' embeddings side by side: features for `FullyConnected` of depth 0.

    That kernel divides by the number of features, so that more networks make it more exact, not larger.
    """
    return torch.cat([net.embed(x) for net in networks], 1)
