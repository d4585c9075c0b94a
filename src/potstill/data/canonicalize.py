"""One canonical form for equal data, and notes where a form is ambiguous or loses information."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = [
    "float32_offsets", "note_ambiguous_axes", "note_channels", "note_float16", "note_merged_values",
    "restore_uint8",
]  # fmt: skip

Array = npt.NDArray[Any]

_PIXEL_CHANNELS = (1, 3, 4)
_FEW = 4096  # values that are tried before all are
_LOST = 1e-3  # of a column's deviation: what float32 may round off before the column is centred


def restore_uint8(arrays: list[Array]) -> list[Array]:
    """Return pixels in [0, 1] as uint8 if all of them are 255ths, else unchanged.

    So the same pictures are the same source, whether somebody divided by 255 before or not.
    """
    converted = [_of_255(x) for x in arrays]
    return [m for m in converted if m is not None] if all(m is not None for m in converted) else arrays


def _of_255(x: Array) -> Array | None:
    if x.dtype == np.uint8:
        return x
    for part in (x.reshape(-1)[:_FEW], x):
        with np.errstate(over="ignore", invalid="ignore"):
            whole = np.rint(part * np.float32(255)).clip(0, 255).astype(np.uint8)
        if not np.array_equal(whole.astype(np.float32) / np.float32(255), part):
            return None
    return whole


def note_float16(arrays: list[Array], name: str) -> list[str]:
    if any(x.dtype.kind == "f" and x.dtype.itemsize == 2 for x in arrays):
        return [f"{name}: floats of 16 bits, which hold three digits: not the same pixels as with more"]
    return []


def note_ambiguous_axes(shape: tuple[int, ...], name: str, last: bool) -> list[str]:
    """Return a note if the second and the last of four axes could both be channels."""
    if last or len(shape) != 4 or shape[3] not in _PIXEL_CHANNELS or (shape[1] in _PIXEL_CHANNELS and shape[3] == 1):
        return []
    return [f"{name}: shape {shape} read as (n, c, h, w); where the last axis is the channels, move it to the second"]


def note_channels(arrays: list[Array], name: str) -> list[str]:
    """Return a note on three equal channels and on four channels, which image files are read without."""
    channels = arrays[0].shape[1]
    if channels == 4:
        return [f"{name}: 4 channels, kept as they are; files with transparency are put on white, which leaves 3"]
    if channels == 3 and all(np.array_equal(x[:, :1], x[:, i : i + 1]) for x in arrays for i in (1, 2)):
        return [f"{name}: 3 equal channels, kept as they are; files of grey pictures become 1 channel"]
    return []


def note_merged_values(x: Array, name: str, columns: Sequence[str] = ()) -> list[str]:
    """Return a note on columns (n, d) of which float32 distinguishes half as many values, or fewer."""
    if x.dtype.itemsize <= 4 and x.dtype.kind == "f":
        return []
    merged_columns: list[tuple[int, int, int]] = []
    for i in range(x.shape[1]):
        values = x[:, i][np.isfinite(x[:, i])]
        with np.errstate(over="ignore"):
            after = len(np.unique(values.astype(np.float32)))
        if 2 * after <= (before := len(np.unique(values))):
            merged_columns.append((i, before, after))
    if not merged_columns:
        return []
    at, before, after = merged_columns[0]
    more = f" (so it is with {len(merged_columns):,} of {x.shape[1]:,} columns)" if len(merged_columns) > 1 else ""
    return [
        f"{name}: column {columns[at] if columns else at + 1!r} has more digits than floats of 32 bits: {before:,} "
        f"values become {after:,}{more}; subtract what all have in common"
    ]


def float32_offsets(x: Array) -> tuple[float, ...]:
    """Return the offset to subtract from each column (n, d) in float64, so that float32 resolves its differences.

    0 where float32 rounds less than a thousandth of the column's deviation. Else a round number near the mean, so that
    a few rows more or less do not move it.
    """
    column_offsets = []
    for column in x.astype(np.float64).T:
        values = column[np.isfinite(column)]
        spread = float(np.ptp(values)) if values.size else 0.0
        with np.errstate(over="ignore"):
            lost = float(np.abs(values - values.astype(np.float32)).max(initial=0.0))
        if not spread or not np.isfinite(lost) or lost <= _LOST * float(values.std()):
            column_offsets.append(0.0)
            continue
        step = 10.0 ** np.ceil(np.log10(spread))
        column_offsets.append(float(np.round(values.mean() / step) * step))
    return tuple(column_offsets)
