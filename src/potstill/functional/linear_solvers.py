"""Iterative solvers of linear systems that are known by their products: conjugate gradients and Neumann series."""

from collections.abc import Callable, Mapping
from typing import TypeAlias

import torch
from torch import Tensor

__all__ = ["Tangent", "conjugate_gradients", "neumann_series"]

Tangent: TypeAlias = Mapping[str, Tensor]
"""A vector in parts, such as one number for each parameter, by the names of parameters."""


def conjugate_gradients(
    product: Callable[[Tangent], Tangent], b: Tangent, steps: int, small: float = 1e-10
) -> dict[str, Tensor]:
    """Return ``M⁻¹ b`` for a symmetric positive definite M, after so many steps from zero, or when the rest is small.

    Of an M that is not positive definite, the steps end at the first direction of curvature 0 or less, as those of a
    truncated Newton method do.

    Args:
        product: M times a tangent.
        b: right-hand side.
        steps: largest number of products.
        small: the part of ‖b‖² that is left, at which it ends.
    """
    x = {n: torch.zeros_like(t) for n, t in b.items()}
    rest = direction = dict(b)
    size = first = _dot(rest, rest)
    for _ in range(steps):
        if size <= small * first:
            break
        moved = product(direction)
        curvature = _dot(direction, moved)
        if curvature <= 0:
            break
        by = size / curvature
        x = {n: x[n] + by * direction[n] for n in x}
        rest = {n: rest[n] - by * moved[n] for n in x}
        after = _dot(rest, rest)
        direction = {n: rest[n] + after / size * direction[n] for n in x}
        size = after
    return x


def neumann_series(product: Callable[[Tangent], Tangent], b: Tangent, steps: int, rate: float) -> dict[str, Tensor]:
    r"""Return ``M⁻¹ b`` by the truncated series ``rate · Σ_{i=0..steps} (I − rate · M)^i b``.

    It converges where ``rate`` is below 2 over the largest eigenvalue of M, at the speed of gradient descent.

    Args:
        product: M times a tangent.
        b: right-hand side.
        steps: number of products.
        rate: factor of M, above 0.
    """
    term = total = dict(b)
    for _ in range(steps):
        moved = product(term)
        term = {n: t - rate * moved[n] for n, t in term.items()}
        total = {n: t + term[n] for n, t in total.items()}
    return {n: rate * t for n, t in total.items()}


def _dot(a: Tangent, b: Tangent) -> float:
    return sum(float((t.double() * b[n].double()).sum()) for n, t in a.items())
