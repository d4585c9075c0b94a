r"""Curvature of a loss along its gradient by the inputs, as a term of a loss.

CURE (Moosavi-Dezfooli et al., CVPR 2019, arXiv:1811.09716) lowers it while a network is trained, and GUARD (Xue et al.,
AAAI 2025, arXiv:2403.10045) while a set is distilled. For a sample x with loss ℓ, both have a finite difference of
gradients along the steepest direction z:

.. math::
    r(x) = \lVert \nabla_x \ell(x + h z) - \nabla_x \ell(x) \rVert_2, \qquad
    z = \nabla_x \ell(x) / \lVert \nabla_x \ell(x) \rVert_2

As in GUARD's program (pretrain_cifar.py) the norm is not squared, and z is a constant of the derivative. Its loss is
the mean of a batch, so that its weight of 100 for batches of 128 is a weight of 100 / 128 here, where ℓ is of a sample.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["Curvature", "gradient_differences"]

_TINY = 1e-12


def gradient_differences(
    loss: Callable[[Tensor], Tensor], x: Float[Tensor, "n *d"], h: float
) -> Float[Tensor, " n"]:  # fmt: skip
    """Return r of each sample, differentiable by ``x`` and by what ``loss`` depends on.

    Args:
        loss: sum of the samples' losses, a function of their inputs; no sample's loss depends on another sample.
        x: inputs.
        h: length of the step along z, in units of the inputs.
    """
    with torch.enable_grad():
        x = x if x.requires_grad else x.detach().requires_grad_()
        (before,) = torch.autograd.grad(loss(x), x, create_graph=True)
        z = before.detach() / _lengths(before.detach()).clamp(min=_TINY)
        moved = x + h * z
        (after,) = torch.autograd.grad(loss(moved), moved, create_graph=True)
        return _lengths(after - before).flatten()


def _lengths(x: Tensor) -> Tensor:
    lengths: Tensor = torch.linalg.vector_norm(x, dim=list(range(1, x.ndim)), keepdim=True)
    return lengths


@dataclass(frozen=True, kw_only=True)
class Curvature:
    """The curvature as a regularizer (`potstill.core.Regularizer`).

    Raises:
        ValueError: a number is not above 0, or not finite.
    """

    weight: float = 1.0
    """λ, for losses of single samples."""
    h: float = 3.0
    """Length of the step along the gradient, in units of normalized inputs (GUARD: 3)."""

    def __post_init__(self) -> None:
        if not (0 < self.weight < math.inf and 0 < self.h < math.inf):
            raise ValueError(f"weight and h must be above 0 and finite, but they are {self.weight:g} and {self.h:g}")

    def __str__(self) -> str:
        return f"curvature:weight={self.weight:g},h={self.h:g}"

    def terms(self, loss: Callable[[Tensor], Tensor], x: Float[Tensor, "n *d"], /) -> Float[Tensor, " n"]:
        """Return λ r of each sample."""
        return self.weight * gradient_differences(loss, x, self.h)
