r"""Kernels of infinitely wide fully connected ReLU networks, and of the features of finite ones.

Of inputs of d numbers, with weights of variance σ_w² over the width and biases of variance σ_b² (NTK parameterization):

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
"""Of 1 − cos²: closer to an end than this, the slope of the angle counts as 0."""


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
        """Of every row of ``a`` with every row of ``b``; differentiable by both.

        Where two rows point the same way, the NTK has a kink: its slope there counts as 0.
        """
        a, b = a.double(), b.double()
        d = a.shape[1]
        k = self._affine(a @ b.T / d)
        va, vb = self._affine(a.square().sum(1) / d), self._affine(b.square().sum(1) / d)
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
    """π − θ, θ = arccos c; slope 1 / √(1 − c²), and 0 at the ends."""

    @staticmethod
    def forward(ctx: Any, c: Tensor) -> Tensor:
        ctx.save_for_backward(c)
        return torch.acos(-c)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (c,) = ctx.saved_tensors
        left = 1 - c * c
        inside = left > NEAR
        return torch.where(inside, grad * torch.where(inside, left, torch.ones_like(left)).rsqrt(), 0.0)


class _ArcCosine1(torch.autograd.Function):
    """sin θ + (π − θ) cos θ; slope π − θ."""

    @staticmethod
    def forward(ctx: Any, c: Tensor) -> Tensor:
        ctx.save_for_backward(c)
        return (1 - c * c).clamp_min(0.0).sqrt() + torch.acos(-c) * c

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (c,) = ctx.saved_tensors
        return grad * _arc_cosine_0(c)


def _arc_cosine_0(c: Tensor) -> Tensor:
    made: Tensor = _ArcCosine0.apply(c)  # type: ignore[no-untyped-call]
    return made


def _arc_cosine_1(c: Tensor) -> Tensor:
    made: Tensor = _ArcCosine1.apply(c)  # type: ignore[no-untyped-call]
    return made


def concat_embeddings(networks: Sequence[Network], x: Inputs) -> Float[Tensor, "n d"]:
    """What the networks embed, side by side: features whose kernel is `FullyConnected` of depth 0.

    That divides products by how many features there are, so that more and wider networks make the kernel more exact,
    and no larger.
    """
    return torch.cat([net.embed(x) for net in networks], 1)
