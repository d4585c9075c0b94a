"""Uniform quantisation with a range per group: its fit, codes and straight-through estimator.

With b bits and Q = 2^b − 1, a group of values x with a lowest level l and a step s becomes::

    q = clamp(round((x − l) / s), 0, Q),      x̂ = l + s q

A group of equal values has s = 0, and its codes are 0.
"""

import torch
from jaxtyping import Float, Int64
from torch import Tensor

__all__ = ["fit_range", "group_shape", "quantize", "straight_through"]

_ROUNDS = 16


def group_shape(x: Tensor, axis: int | None) -> tuple[int, ...]:
    """Return the shape of one number per slice of ``x`` along ``axis``; all ones if it is ``None``."""
    return tuple(n if d == axis else 1 for d, n in enumerate(x.shape))


def fit_range(x: Float[Tensor, "..."], bits: int, axis: int | None) -> tuple[Tensor, Tensor]:
    """Return lowest level and step of each group, float32 of shape `group_shape`, with a locally minimal squared error.

    Codes and range are fitted in turn from the group's minimum and maximum (Lloyd's algorithm: given codes, the best l
    and s are a line fit in closed form), which never raises the error. From 5 bits on minimum and maximum are kept.

    Args:
        x: values, any shape.
        bits: 1 … 16.
        axis: groups are slices along it; ``None``: one group.
    """
    shape = group_shape(x, axis)
    if bits >= 5:  # nothing is fitted, so nothing need be held in 64 bits
        over = tuple(d for d in range(x.ndim) if d != axis)
        low, high = (end(over, keepdim=True).double() for end in (x.detach().amin, x.detach().amax))
        return low.float(), ((high - low) / ((1 << bits) - 1)).float()
    x = x.detach().double()
    rows = (x.reshape(1, -1) if axis is None else x.movedim(axis, 0).reshape(x.shape[axis], -1)).contiguous()
    low, high = rows.amin(1, keepdim=True), rows.amax(1, keepdim=True)
    most = (1 << bits) - 1
    step = (high - low) / most
    low, step = _line(rows, low, step, most)
    return low.reshape(shape).float(), step.reshape(shape).float()


def _line(x: Tensor, low: Tensor, step: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """Run Lloyd's algorithm for rows of ``x`` (groups, n), from lows and steps (groups, 1); all float64."""
    n = x.shape[1]
    middle = x.mean(1, keepdim=True)
    around = x - middle  # sums of squares about the mean lose no digits
    for _ in range(_ROUNDS):
        q = (x - low).div_(torch.where(step > 0, step, torch.ones_like(step))).round_().clamp_(0, most)
        centre = q.mean(1, keepdim=True)
        spread = torch.linalg.vecdot(q, q)[:, None] - n * centre.square()
        fitted = spread > 0.5 * (n - 1) / n  # codes are whole: one that differs from the others makes (n − 1) / n
        slope = torch.linalg.vecdot(q, around)[:, None] / torch.where(fitted, spread, torch.ones_like(spread))
        last, step = step, torch.where(fitted, slope, step)
        low = torch.where(fitted, middle - slope * centre, low)
        if torch.equal(last, step):
            break
    return low, step


def quantize(x: Tensor, low: Tensor, step: Tensor, bits: int) -> Int64[Tensor, "..."]:
    """Return codes q of ``x``, int64, for ranges of shape `group_shape`."""
    safe = torch.where(step > 0, step, torch.ones_like(step))
    q = ((x - low) / safe).round().clamp(0, (1 << bits) - 1)
    return torch.where(step > 0, q, torch.zeros_like(q)).long()


def straight_through(x: Tensor, low: Tensor, step: Tensor, bits: int) -> Tensor:
    """Return x̂ with straight-through gradients: 1 by ``x`` inside the range, 0 outside; LSQ's by ``low`` and ``step``.

    LSQ (Esser et al., arXiv:1902.08153, eq. 3) with an offset: inside, ``∂x̂/∂s = q − (x − l)/s`` and ``∂x̂/∂l = 0``;
    outside ``∂x̂/∂s = 0`` or Q and ``∂x̂/∂l = 1``. The range here extends half a step beyond both end levels, so that
    with 1 bit not half of all values stand still.
    """
    most = (1 << bits) - 1
    v = ((x - low) / step).clamp(-0.5, most + 0.5)
    return low + step * (v + (v.round().clamp(0, most) - v).detach())
