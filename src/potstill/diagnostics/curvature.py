"""The Hessian of a loss by its products with vectors: its trace, and its largest eigenvalue.

A product ``H v`` is the gradient of ``⟨∇L, v⟩`` (Pearlmutter, 1994); the Hessian is never formed.

- Trace: the mean of ``vᵀ H v`` over vectors of random signs (Hutchinson, 1990), with its standard error.
- Largest eigenvalue in magnitude: power iteration from a random start, until the relative change is small.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from potstill.errors import PotstillError

__all__ = ["Eigenvalue", "Trace", "Vector", "largest", "product", "trace"]

Vector = tuple[Tensor, ...]
"""One tensor per parameter."""


def product(loss: Callable[[Vector], Tensor], at: Sequence[Tensor]) -> Callable[[Sequence[Tensor]], Vector]:
    """Return the map ``v ↦ H v`` of ``loss`` at the parameters ``at``; one gradient graph serves all products.

    Args:
        loss: of parameters in the order of ``at``, twice differentiable, a number.
    """
    with torch.enable_grad():
        theta = tuple(t.detach().requires_grad_() for t in at)
        slopes = torch.autograd.grad(loss(theta), theta, create_graph=True, materialize_grads=True)

    def times(v: Sequence[Tensor]) -> Vector:
        with torch.enable_grad():
            along = torch.stack([(g * u).sum() for g, u in zip(slopes, v, strict=True)]).sum()
            if not along.requires_grad:  # the loss is linear
                return tuple(torch.zeros_like(t) for t in theta)
            found = torch.autograd.grad(along, theta, retain_graph=True, materialize_grads=True)
        return tuple(t.detach() for t in found)

    return times


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """Estimate of a trace: the mean over random vectors."""

    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        return math.fsum(self.values) / len(self.values)

    @property
    def error(self) -> float | None:
        """Standard error of the mean; ``None`` for one vector."""
        n = len(self.values)
        if n < 2:
            return None
        return math.sqrt(math.fsum((v - self.mean) ** 2 for v in self.values) / (n - 1) / n)


def trace(times: Callable[[Sequence[Tensor]], Vector], like: Sequence[Tensor], vectors: int, rng: Generator) -> Trace:
    """Hutchinson's estimate of the trace of ``times`` from ``vectors`` vectors of signs drawn from ``rng``.

    Args:
        like: tensors of the shapes and on the device of what ``times`` takes.

    Raises:
        PotstillError: no vector is to be drawn.
    """
    if vectors < 1:
        raise PotstillError(f"a trace is estimated from at least one vector, but vectors is {vectors}; use 10")
    values = []
    for _ in range(vectors):
        v = [_signs(t, rng) for t in like]
        values.append(_dot(v, times(v)))
    return Trace(values=tuple(values))


@dataclass(frozen=True, slots=True, kw_only=True)
class Eigenvalue:
    """Eigenvalue of the largest magnitude, by power iteration."""

    value: float
    products: int
    """Hessian-vector products computed."""
    settled: bool
    """True if the last product changed the value by less than the tolerance."""


def largest(
    times: Callable[[Sequence[Tensor]], Vector], like: Sequence[Tensor], most: int, rng: Generator, part: float = 1e-3
) -> Eigenvalue:
    """The Rayleigh quotient of power iteration after at most ``most`` products.

    Args:
        like: as for `trace`.
        part: relative change at which the iteration stops.

    Raises:
        PotstillError: no product is to be made.
    """
    if most < 1:
        raise PotstillError(f"power iteration makes at least one product, but most is {most}; use 30")
    v: Sequence[Tensor] = _unit([torch.randn(t.shape, generator=rng).to(t) for t in like])
    value = math.inf
    for made in range(1, most + 1):
        turned = times(v)
        before, value = value, _dot(v, turned)
        if abs(value - before) <= part * abs(value):
            return Eigenvalue(value=value, products=made, settled=True)
        v = _unit(turned)
    return Eigenvalue(value=value, products=most, settled=False)


def _signs(t: Tensor, rng: Generator) -> Tensor:
    return torch.randint(0, 2, t.shape, generator=rng).mul_(2).sub_(1).to(t)


def _dot(a: Sequence[Tensor], b: Sequence[Tensor]) -> float:
    return math.fsum(float((x.double() * y.double()).sum()) for x, y in zip(a, b, strict=True))


def _unit(v: Sequence[Tensor]) -> list[Tensor]:
    long = math.sqrt(_dot(v, v))
    return [t / long for t in v] if long > 0 else [*v]
