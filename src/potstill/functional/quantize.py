"""Rounding to few levels: the uniform quantiser with a range for each group, its fit, and its straight-through form.

With b bits and Q = 2^b − 1, a group of values x with a lowest level l and a step s becomes::

    q = clamp(round((x − l) / s), 0, Q),      x̂ = l + s q

A group of equal values has s = 0, and its codes are 0.
"""

import torch
from jaxtyping import Float, Int64
from torch import Tensor

__all__ = ["codes_of", "fit_range", "grouped", "straight_through"]

_ROUNDS = 16


def grouped(x: Tensor, axis: int | None) -> tuple[int, ...]:
    """The shape of what holds one number for each slice of ``x`` along ``axis``; all ones where it is ``None``."""
    return tuple(n if d == axis else 1 for d, n in enumerate(x.shape))


def fit_range(x: Float[Tensor, "..."], bits: int, axis: int | None) -> tuple[Tensor, Tensor]:
    """Lowest level and step of each group, float32 of shape `grouped`: of least squared error, locally.

    From the group's least and greatest value on, codes and range are fitted to each other in turn (Lloyd's algorithm:
    given codes, the best l and s are a line's through (q, x), in closed form), which cannot raise the error. From 5
    bits on the least and the greatest value are kept as they are: there is nothing to win, and no value is cut off.

    Args:
        x: values, any shape.
        bits: 1 … 16.
        axis: groups are slices along it; ``None``: one group.
    """
    over = tuple(d for d in range(x.ndim) if d != axis)
    x = x.detach().double()
    low, high = x.amin(over, keepdim=True), x.amax(over, keepdim=True)
    most = (1 << bits) - 1
    step = (high - low) / most
    for _ in range(_ROUNDS if bits < 5 else 0):
        q = codes_of(x, low, step, bits).double()
        centre, middle = q.mean(over, keepdim=True), x.mean(over, keepdim=True)
        spread = (q - centre).square().sum(over, keepdim=True)
        slope = ((q - centre) * (x - middle)).sum(over, keepdim=True) / spread.clamp_min(1e-300)
        fitted = spread > 0
        step = torch.where(fitted, slope, step)
        low = torch.where(fitted, middle - slope * centre, low)
    return low.float(), step.float()


def codes_of(x: Tensor, low: Tensor, step: Tensor, bits: int) -> Int64[Tensor, "..."]:
    """Codes q of ``x``, int64, for ranges of shape `grouped`."""
    safe = torch.where(step > 0, step, torch.ones_like(step))
    q = ((x - low) / safe).round().clamp(0, (1 << bits) - 1)
    return torch.where(step > 0, q, torch.zeros_like(q)).long()


def straight_through(x: Tensor, low: Tensor, step: Tensor, bits: int) -> Tensor:
    """x̂ with a gradient: 1 by ``x`` inside the range, 0 outside; by ``low`` and ``step`` that of learned step sizes.

    (LSQ; Esser et al., arXiv:1902.08153, eq. 3, here with an offset.) Inside, ``∂x̂/∂s = q − (x − l)/s`` and
    ``∂x̂/∂l = 0``; outside ``∂x̂/∂s = 0`` or Q and ``∂x̂/∂l = 1``.
    """
    v = ((x - low) / step).clamp(0, (1 << bits) - 1)
    return low + step * (v + (v.round() - v).detach())
