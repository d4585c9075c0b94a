"""Typed columns of a table, each in the codes that its own distribution needs.

Columns differ: a category spread over several columns (one-hot) is one code; ages and counts are whole multiples of a
step; amounts have a long tail, of which equal steps tell little. Codes are entropy-coded with the column, its parent
column and the class as contexts (`potstill.codecs.bitstream`), so that a rare category costs little.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from potstill.codecs.container import get_tensor, parse_int, parse_shape, unpack_codes
from potstill.core import Encoded
from potstill.errors import PotstillError
from potstill.functional.packing import MOST_BITS, pack_bits

__all__ = ["Columns", "decode_columns"]

_MOST_CATEGORIES = 1 << 12
_DECIMALS = (1, 10, 100, 1000)
"""Parts of 1 that values are whole multiples of."""
_GAIN = 0.5
"""A long tail gets uneven levels where their error in ranks is below so many times that of equal ones."""
_WIDER = 1.3
"""Times the range of a column that a scale may span that it shares with others."""
_MOVED = 0.125
"""Parts of a step that float16 may move a level by."""
_KINDS = (torch.float16, torch.float32)

Column = Float[np.ndarray, " n"]


@dataclass(frozen=True, kw_only=True)
class Columns:
    """Columns of a table by their type: one-hot groups, whole multiples of a step, real values, long tails.

    - A run of columns of zeros and ones, exactly one of which is 1 in every row, is one code.
    - Whole multiples of a step lose nothing where 2^``bits`` codes tell them apart.
    - Other columns are rounded to 2^``bits`` levels between their ends: at equal distances or, where that tells ranks
      apart much worse, at equal distances of asinh((x - c) / s), c the median and s the middle distance from it.

    Raises:
        PotstillError: a setting is out of its range.
    """

    bits: int = 4
    """Bits of a value that is no category, 1 … 12; before entropy coding."""
    labels: int = 8
    """Bits of a soft label's number, 1 … 16."""

    def __post_init__(self) -> None:
        for name, most in (("bits", 12), ("labels", MOST_BITS)):
            if not 1 <= getattr(self, name) <= most:
                raise PotstillError(f"columns: {name} must be from 1 to {most}, not {getattr(self, name)}")

    @property
    def label_bits(self) -> int:
        """Bits of a soft label's number."""
        return self.labels

    @property
    def planned_bits(self) -> float:
        """Bits of a value that a size budget is shared out by."""
        return float(self.bits)

    def coarser(self) -> "Columns":
        """Return the codec with one bit less; with 1 bit, itself."""
        return replace(self, bits=max(1, self.bits - 1))

    def pack(self, x: Tensor, /) -> Encoded:
        """Encode rows ``x`` (n, d) in the data's own units.

        Raises:
            PotstillError: ``x`` has another shape.
        """
        if x.ndim != 2:
            raise PotstillError(
                f"columns needs a table (rows, columns), but a tensor has shape {list(x.shape)}; take uint"
            )
        rows = x.detach().cpu().double().numpy()
        widths = _find_groups(rows)
        starts = np.concatenate([[0], np.cumsum(widths)])
        numbers = [k for k, width in enumerate(widths) if width == 1]
        shared, of_number = _share([_fit(rows[:, starts[k]], self.bits) for k in numbers], self.bits)
        levels = np.array([scale.values for scale in shared], dtype=np.float64).reshape(-1, 4)
        stored = torch.from_numpy(levels).to(_dtype(shared, self.bits))
        codes = np.zeros((len(rows), len(widths)), dtype=np.int64)
        for k, width in enumerate(widths):
            if width > 1:
                codes[:, k] = rows[:, starts[k] : starts[k + 1]].argmax(1)
        for k, at in zip(numbers, of_number, strict=True):
            codes[:, k] = _to_codes(rows[:, starts[k]], stored[at].double().numpy(), self.bits)
        bits = max(1, int(codes.max()).bit_length() if codes.size else 1)
        described = {"codec": "columns", "shape": list(x.shape), "bits": bits, "columns": len(widths)}
        tensors = {"": pack_bits(torch.from_numpy(codes).flatten(), bits), ".low": stored[:, 0], ".step": stored[:, 1]}
        if len(shared) > 1:
            tensors[".group"] = torch.tensor(of_number, dtype=torch.uint8 if len(shared) <= 256 else torch.int16)
        if len(widths) < rows.shape[1]:
            tensors[".width"] = torch.tensor(widths, dtype=torch.int16)
        if (bent := stored[:, 3] > 0).any():
            tensors[".bent"] = torch.where(bent)[0].to(torch.int16)
            tensors[".centre"], tensors[".scale"] = stored[bent, 2], stored[bent, 3]
        return Encoded({name: t.contiguous() for name, t in tensors.items()}, described)


def decode_columns(stored: Encoded) -> Tensor:
    """Decode codec ``columns``.

    Raises:
        PotstillError: its tensors are missing, or do not fit each other.
    """
    shape = parse_shape(stored.metadata)
    if len(shape) != 2:
        raise PotstillError(f"its codec columns must describe a table, not {list(shape)}")
    n, d = shape
    count = parse_int(stored.metadata, "columns", 0, d)
    widths = torch.ones(count, dtype=torch.long)
    if ".width" in stored.tensors:
        widths = get_tensor(stored, ".width", (torch.int16,), (count,)).long()
    if int(widths.sum()) != d or bool((widths < 1).any()):
        raise PotstillError(f"its columns must be of at least one value and {d} in all, not {int(widths.sum())}")
    codes = unpack_codes(stored, (n, count))
    (numbers,) = torch.where(widths == 1)
    group = torch.zeros(len(numbers), dtype=torch.long)
    if ".group" in stored.tensors:
        group = get_tensor(stored, ".group", (torch.uint8, torch.int16), (len(numbers),)).long()
    low = get_tensor(stored, ".low", _KINDS).double()
    step = get_tensor(stored, ".step", _KINDS, (len(low),) if low.ndim == 1 else None).double()
    if low.ndim != 1 or bool(((group < 0) | (group >= len(low))).any()):
        raise PotstillError(f"its numbers must have one of the {low.numel()} scales that there are; get the file again")
    values = low[group] + step[group] * codes[:, numbers].double()
    if ".bent" in stored.tensors:
        bent = get_tensor(stored, ".bent", (torch.int16,)).long()
        if bent.ndim != 1 or bool(((bent < 0) | (bent >= len(low))).any()):
            raise PotstillError(f"its bent scales must be numbers below {len(low)}; get the file again")
        found = (get_tensor(stored, name, _KINDS, (len(bent),)).double() for name in (".centre", ".scale"))
        centre, scale = (torch.zeros_like(low).scatter(0, bent, t) for t in found)
        is_bent = torch.zeros_like(low, dtype=torch.bool).scatter(0, bent, True)[group]
        values = torch.where(is_bent, centre[group] + scale[group] * torch.sinh(values), values)
    if bool((codes >= widths)[:, widths > 1].any()):
        raise PotstillError("its codes number more categories than a column has; get the file again")
    starts = widths.cumsum(0) - widths
    made = torch.zeros(n, d)
    made[:, starts[numbers]] = values.float()
    (groups,) = torch.where(widths > 1)
    made.scatter_(1, starts[groups] + codes[:, groups], 1.0)
    return made


@dataclass(frozen=True, kw_only=True)
class _Scale:
    """Levels of a column, ``low + step · q``; where ``scale`` is above 0, of asinh((x - centre) / scale)."""

    low: float
    step: float
    centre: float = 0.0
    scale: float = 0.0
    exact: bool = False
    """It loses nothing."""
    high: float = 0.0
    """Largest value."""
    narrowest: float = 0.0
    """Range of the column that has the smallest one."""

    @property
    def values(self) -> tuple[float, float, float, float]:
        return self.low, self.step, self.centre, self.scale


def _find_groups(rows: NDArray[np.float64]) -> list[int]:
    """Return the widths of columns: above 1 for a run of zeros and ones of which one is 1 in every row."""
    n, d = rows.shape
    is_binary = ((rows == 0) | (rows == 1)).all(0) if n else np.zeros(d, dtype=bool)
    widths, at = list[int](), 0
    while at < d:
        total, end = np.zeros(n), at
        while (
            end < min(d, at + _MOST_CATEGORIES)
            and is_binary[end]
            and total.max(initial=0.0) <= 1
            and total.min(initial=1.0) < 1
        ):
            total = total + rows[:, end]
            end += 1
        whole = end - at > 1 and bool((total == 1).all())
        widths.append(end - at if whole else 1)
        at += widths[-1]
    return widths


def _fit(x: Column, bits: int) -> _Scale:
    """Return the levels of a column."""
    if len(x) == 0 or x.min() == x.max():
        value = float(x[0]) if len(x) else 0.0
        return _Scale(low=value, step=0.0, exact=True, high=value)
    low, high, most = float(x.min()), float(x.max()), (1 << bits) - 1
    step = _common_step(x)
    if step and round((high - low) / step) <= most:
        return _Scale(low=low, step=step, exact=True, high=high)
    even = _Scale(low=low, step=(high - low) / most, high=high, narrowest=high - low)
    centre = float(np.median(x))
    away = np.abs(x - centre)
    scale = float(np.median(away[away > 0]))
    ends = np.arcsinh((np.array([low, high]) - centre) / scale)
    bent = _Scale(low=float(ends[0]), step=float(ends[1] - ends[0]) / most, centre=centre, scale=scale)
    return bent if _rank_error(x, bent, bits) < _GAIN * _rank_error(x, even, bits) else even


def _share(fitted: list[_Scale], bits: int) -> tuple[list[_Scale], list[int]]:
    """Return scales that columns share, and the one of each.

    Few scales take few bytes, and columns whose codes mean the same tell more of each other.
    """
    shared, of_column = list[_Scale](), list[int]()
    for scale in fitted:
        for at, other in enumerate(shared):
            if (both := _union(other, scale, bits)) is not None:
                shared[at] = both
                of_column.append(at)
                break
        else:
            shared.append(scale)
            of_column.append(len(shared) - 1)
    return shared, of_column


def _union(a: _Scale, b: _Scale, bits: int) -> _Scale | None:
    """Return a scale for the columns of both; ``None``: it would lose more than theirs."""
    most = (1 << bits) - 1
    if a.scale or b.scale or a.exact != b.exact:
        return None
    low, high = min(a.low, b.low), max(a.high, b.high)
    if a.exact:
        step = a.step or b.step
        if (a.step and b.step and a.step != b.step) or (step and (a.low - b.low) % step):
            return None
        if not step:
            return a if a.low == b.low else None
        return replace(a, low=low, step=step, high=high) if round((high - low) / step) <= most else None
    narrowest = min(a.narrowest, b.narrowest)
    if high - low > _WIDER * narrowest:
        return None
    return _Scale(low=low, step=(high - low) / most, high=high, narrowest=narrowest)


def _common_step(x: Column) -> float:
    """Return the step that all values are whole multiples of, from the least; 0: none."""
    for parts in _DECIMALS:
        whole = np.round(x * parts)
        if np.abs(whole).max() < 2**24 and np.array_equal((whole / parts).astype(np.float32), x.astype(np.float32)):
            return math.gcd(*np.unique(whole - whole.min()).astype(np.int64).tolist()) / parts
    return 0.0


def _to_codes(x: Column, scale: Float[np.ndarray, " 4"], bits: int) -> NDArray[np.int64]:
    """Return the nearest codes in levels as they are stored."""
    low, step, centre, bend = scale.tolist()
    if step == 0:
        return np.zeros(len(x), dtype=np.int64)
    t = np.arcsinh((x - centre) / bend) if bend > 0 else x
    codes: NDArray[np.int64] = np.clip(np.round((t - low) / step), 0, (1 << bits) - 1).astype(np.int64)
    return codes


def _rank_error(x: Column, scale: _Scale, bits: int) -> float:
    """Return the mean distance of ranks, as a fraction, that the levels cause: of values in one level the middle is
    read."""
    codes = _to_codes(x, np.array(scale.values), bits)
    _, of_value, counted = np.unique(x, return_inverse=True, return_counts=True)
    ranks = (counted.cumsum() - (counted - 1) / 2)[of_value] / len(x)  # of equal values their mean
    sums, counts = np.bincount(codes, ranks), np.bincount(codes)
    middle = sums / np.maximum(1, counts)
    return float(np.abs(ranks - middle[codes]).mean())


def _dtype(fitted: list[_Scale], bits: int) -> torch.dtype:
    """Return float16 where it holds the levels: to the last bit of those that lose nothing, else to a small part of a
    step at either end."""
    for scale in fitted:
        values = torch.tensor(scale.values, dtype=torch.float64)
        halves = values.half().double()
        away = (halves - values).abs()
        moved = float(away[0] + away[1] * ((1 << bits) - 1))
        if scale.exact and not torch.equal(halves, values):
            return torch.float32
        if not bool(torch.isfinite(halves).all()) or not moved <= _MOVED * scale.step:
            return torch.float32
        if scale.scale and not (float(halves[3]) > 0 and float(away[2] + away[3]) <= _MOVED * scale.scale):
            return torch.float32
    return torch.float16
