"""Conversion of users' arrays to the tensors that sources hold: shapes, value ranges, labels."""

import math
import unicodedata
from collections import Counter
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Int
from torch import Tensor

from potstill.core import InputSpec
from potstill.data.canonicalize import (
    note_ambiguous_axes,
    note_channels,
    note_float16,
    note_merged_values,
    restore_uint8,
)
from potstill.data.error_text import reason
from potstill.errors import PotstillError

__all__ = ["canonicalize_inputs", "encode_labels"]

Array = npt.NDArray[Any]

_FAR = 4
"""Largest ratio between the parts' maxima for which both count as one scale, where one part lies in [0, 1]."""


def to_array(values: Any, where: str) -> Array:
    """``values`` (NumPy, a tensor, a list) as a NumPy array.

    Raises:
        PotstillError: ``values`` are ragged or not array-like, or some of them are masked.
    """
    if isinstance(values, np.ma.MaskedArray):
        if masked := int(np.ma.getmaskarray(values).sum()):
            raise PotstillError(
                f"{where}: {masked:,} of {values.size:,} values are masked, that is missing; fill them "
                "(x.filled(…)) or leave such samples out"
            )
        values = values.data
    if isinstance(values, Tensor):
        values = values.detach().cpu()
        return np.asarray((values.float() if values.dtype == torch.bfloat16 else values).numpy())
    try:
        return np.asarray(values)
    except (ValueError, TypeError) as error:
        raise PotstillError(f"{where}: not an array ({reason(error)}); give samples of one shape") from None


def check_one_dtype(samples: Sequence[Any], where: str) -> None:
    """Refuse samples of several dtypes: stacking would convert them and keep each sample's own value range."""
    first: tuple[int, str] | None = None
    for i, x in enumerate(samples):
        if isinstance(x, np.ndarray | Tensor):
            kind = str(x.dtype).removeprefix("torch.")
            first = first or (i, kind)
            if kind != first[1]:
                raise PotstillError(f"{where}: input {first[0]} is {first[1]}, input {i} {kind}; give all in one type")


def _check_finite(x: Array, where: str) -> None:
    if x.dtype.kind != "f" or np.isfinite(x).all():
        return
    bad = ~np.isfinite(x)
    at = tuple(int(i) for i in np.argwhere(bad)[0])
    value = "nan" if np.isnan(x[at]) else "infinite"
    raise PotstillError(
        f"{where}[{', '.join(map(str, at))}] is {value} ({int(bad.sum()):,} such values in all); fill or remove them"
    )


def _channels_first(x: Array, last: bool) -> Array:
    if x.ndim == 3:
        return x[:, None]
    return np.moveaxis(x, -1, 1) if last else x


def _value_range(arrays: list[Array]) -> tuple[float, float]:
    filled = [x for x in arrays if x.size]
    return (min(float(x.min()) for x in filled), max(float(x.max()) for x in filled)) if filled else (0.0, 0.0)


class _PixelScale(NamedTuple):
    """Value scale detected in image arrays."""

    scale: Literal["two", "eight", "sixteen", "unit", "given"]
    low: float
    high: float
    is_integral: bool
    """Floats that hold whole numbers."""


_SCALES = {
    "two": "0 and 1: black and white",
    "eight": "0 … 255: 8-bit pixels, divided by 255",
    "sixteen": "0 … 65,535: 16-bit pixels, divided by 65,535",
    "unit": "in [0,1] as they are",
    "given": "no pixels in [0,1]",
}


def _detect_scale(arrays: list[Array]) -> _PixelScale:
    """Detect the value scale of arrays of one dtype together, from the dtype and the range of values."""
    low, high = _value_range(arrays)
    kind = arrays[0].dtype.kind
    if kind == "b" or (kind in "iu" and low >= 0 and high == 1):
        return _PixelScale("two", low, high, False)
    if _is_wide(arrays[0]) and high > 255:
        return _PixelScale("sixteen", low, high, False)
    is_integral = kind in "iu" or (high > 1 and all(bool((x == np.floor(x)).all()) for x in arrays))
    if is_integral and low >= 0 and high <= 255:
        return _PixelScale("eight", low, high, kind == "f")
    return _PixelScale("unit" if low >= 0 and high <= 1 else "given", low, high, False)


def _is_wide(x: Array) -> bool:
    """Return True for unsigned 16-bit integers of any byte order."""
    return x.dtype.kind == "u" and x.dtype.itemsize == 2


def _rescale(x: Array, way: str) -> Array:
    if way == "two":
        return np.where(x != 0, 255, 0).astype(np.uint8)
    if way == "sixteen":
        return x.astype(np.float32) / np.float32(65535)
    return x.astype(np.uint8, copy=False) if way == "eight" else x.astype(np.float32)


def _check_same_scale(arrays: list[Array], name: str) -> None:
    """Refuse two parts of one dtype whose values lie on two scales."""
    (low, high), (low_2, high_2) = (_value_range([x]) for x in arrays)
    small, large = min(high, high_2), max(high, high_2)
    most = 255 if _is_wide(arrays[0]) else 1
    if arrays[0].dtype.kind == "b" or min(low, low_2) < 0 or not 0 < small <= most or large <= max(most, _FAR * small):
        return
    raise PotstillError(
        f"{name}: training values go from {low:.4g} to {high:.4g}, test values from {low_2:.4g} to {high_2:.4g}, both "
        f"{_dtype_word(arrays[0])}: the scale is unclear; give both parts on one scale"
    )


def _dtype_word(x: Array) -> str:
    return "floats" if x.dtype.kind == "f" else str(x.dtype.newbyteorder("="))


def _read_pixels(arrays: list[Array], name: str) -> tuple[list[Array], str, list[str]]:
    """Convert images to uint8 where that is lossless, else to float32; also return the units and notes."""
    types = [_dtype_word(x) for x in arrays]
    if len(set(types)) == 2 and all(x.size for x in arrays):
        scales = [_detect_scale([x]) for x in arrays]
        texts = [f"{t} ({_SCALES[r.scale]})" for t, r in zip(types, scales, strict=True)]
        unclear = [i for i, r in enumerate(scales) if r.scale == "given"]
        if len(unclear) == 1 or (unclear and "floats" in types):
            r = scales[unclear[0]]
            raise PotstillError(
                f"{name}: training pixels are {types[0]}, test pixels {types[1]}, and the {types[unclear[0]]} values, "
                f"from {r.low:.4g} to {r.high:.4g}, are neither in [0,1] nor whole numbers in 0 … 255, so their scale "
                "cannot be told; give both parts in one type and on one scale"
            )
        if not unclear:
            scaled = [_rescale(x, r.scale) for x, r in zip(arrays, scales, strict=True)]
            scaled = restore_uint8(scaled)
            if scaled[0].dtype != scaled[1].dtype:
                scaled = [x if x.dtype == np.float32 else x.astype(np.float32) / np.float32(255) for x in scaled]
            notes = [f"{name}: training pixels are {texts[0]}, test pixels {texts[1]}; each was read by its own type"]
            return scaled, "pixels in [0,1]", notes
    elif len(arrays) == 2:
        _check_same_scale(arrays, name)
    way, low, high, floats = _detect_scale(arrays)
    notes = {
        "two": [f"{name}: the pixels are 0 and 1: read as black and white"],
        "sixteen": [f"{name}: 16-bit pixels divided by 65,535"],
        "eight": [f"{name}: whole numbers up to {high:.0f} in floats: read as 8-bit pixels"] if floats else [],
        "given": [f"{name}: values from {low:.4g} to {high:.4g} are no pixels in [0,1]; kept as given"],
    }.get(way, [])
    scaled = [_rescale(x, way) for x in arrays]
    if way == "given":
        return scaled, "as given", notes
    return restore_uint8(scaled), "pixels in [0,1]", notes + (note_float16(arrays, name) if way == "unit" else [])


def canonicalize_inputs(
    train: Any, test: Any, *, kind: str | None = None, name: str = "arrays"
) -> tuple[Tensor, Tensor | None, InputSpec, tuple[str, ...]]:
    """Convert input arrays to the form that sources hold.

    The channel axis of a picture is the shorter of the two it can be: (n, 28, 28, 3) has it last, (n, 3, 28, 28)
    second (a tie goes to second). Whole numbers in 0 … 255 become uint8, and so do fractions that are such numbers
    over 255; anything else float32. Parts of one type are read by the range of both; of two types each is scaled by
    its own, and where that leaves a doubt they are refused.

    Args:
        train: (n, h, w), (n, h, w, c), (n, c, h, w) or (n, d).
        test: the same for the test part, or ``None``.
        kind: ``"image"``, ``"table"``, another kind (float32, shape kept), or ``None``: by the number of axes.
        name: for messages.

    Returns:
        train, test, the spec of one input, and notes on what was decided.

    Raises:
        PotstillError: values that are not finite or no numbers, shapes that do not fit, parts on two scales.
    """
    for values, where in ((train, name), (test, f"{name} (test)")):
        if isinstance(values, list | tuple):
            check_one_dtype(values, where)
    arrays = [to_array(train, name)] + ([] if test is None else [to_array(test, f"{name} (test)")])
    for x, where in zip(arrays, (name, f"{name} (test)"), strict=False):
        if x.dtype.kind not in "biuf":
            raise PotstillError(f"{where}: inputs must be numbers, not {x.dtype}; encode them first")
        _check_finite(x, where)
    shape = arrays[0].shape
    if len(arrays) == 2 and arrays[1].shape[1:] != shape[1:]:
        raise PotstillError(
            f"{name}: training inputs have shape {shape[1:]}, test inputs {arrays[1].shape[1:]}; make them the same"
        )
    kind = kind or {2: "table", 3: "image", 4: "image"}.get(len(shape), "")
    axes = {"image": (3, 4), "table": (2,)}.get(kind, tuple(range(2, 9)))
    if not kind or len(shape) not in axes or math.prod(shape[1:]) == 0:
        raise PotstillError(
            f"{name}: inputs of shape {shape} are not understood; give pictures (n, h, w), (n, h, w, c) or "
            "(n, c, h, w), or a table (n, d)"
        )
    notes: list[str] = []
    if kind == "image":
        last = len(shape) == 4 and shape[3] < shape[1]
        if last:
            notes.append(f"{name}: shape {shape} read as (n, h, w, c)")
        notes += note_ambiguous_axes(shape, name, last)
        arrays, units, more = _read_pixels([_channels_first(x, last) for x in arrays], name)
        notes += more + note_channels(arrays, name)
    else:
        units = "column values" if kind == "table" else "as given"
        notes += [note for x in arrays[:1] if kind == "table" for note in note_merged_values(x, name)]
        with np.errstate(over="ignore"):  # a float64 beyond float32 becomes infinite and is refused below
            arrays = [x.astype(np.float32) for x in arrays]
    for x in arrays:
        _check_finite(x, f"{name} (as float32)")
    tensors = [torch.from_numpy(np.array(x, order="C")) for x in arrays]
    spec = InputSpec(kind=kind, shape=tuple(tensors[0].shape[1:]), units=units)
    return tensors[0], tensors[1] if len(tensors) == 2 else None, spec, tuple(notes)


def _check_label_list(labels: Sequence[Any], where: str) -> None:
    """Refuse label lists that NumPy would silently turn into texts or objects."""
    first: tuple[int, bool] | None = None
    for i, value in enumerate(labels):
        if value is None or value is np.ma.masked or (isinstance(value, float | np.floating) and np.isnan(value)):
            raise PotstillError(f"{where}: label {i} is missing ({value}); fill it or leave the sample out")
        if isinstance(value, str | bytes | bool | int | float | np.generic):
            text = isinstance(value, str | bytes)
            first = first or (i, text)
            if text != first[1]:
                raise PotstillError(
                    f"{where}: label {first[0]} is {labels[first[0]]!r} and label {i} is {value!r}; give texts or "
                    "numbers, not both"
                )


def _to_int64(y: Array, where: str) -> Array:
    """Convert whole numbers to int64; refuse values that int64 or the float type cannot tell apart."""
    if y.dtype.kind == "f":
        if not np.isfinite(y).all() or (y != np.floor(y)).any():
            bad = int(np.argwhere(~np.isfinite(y) | (y != np.floor(y)))[0, 0])
            raise PotstillError(f"{where}: label {bad} is {y[bad]}, a real number; labels must be classes")
        exact = 2 ** (np.finfo(y.dtype).nmant + 1)  # beyond it, floats of this type leave whole numbers out
        beyond, why = np.abs(y) > exact, f"{y.dtype} cannot tell whole numbers beyond ±{exact:,} apart"
    else:
        beyond, why = y > np.iinfo(np.int64).max if y.dtype.kind == "u" else np.zeros(1, bool), "it is 2⁶³ or more"
    if beyond.any():
        at = int(beyond.argmax())
        raise PotstillError(f"{where}: label {at} is {y[at]}, too large for a class: {why}; give such labels as texts")
    return y.astype(np.int64)


def _label_array(labels: Any, where: str) -> Array:
    """Return labels as a one-dimensional array of int64 or of strings."""
    if isinstance(labels, list | tuple):
        _check_label_list(labels, where)
    y = to_array(labels, where)
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.ndim == 2 and y.dtype.kind in "biuf" and y.shape[1] > 1:
        if not (((y == 0) | (y == 1)).all() and (y.sum(1) == 1).all()):
            raise PotstillError(f"{where}: labels of shape {y.shape} are not one-hot rows; give one class per sample")
        y = y.argmax(1)
    if y.ndim != 1:
        hint = ', or `task="segmentation"` for masks' if y.ndim == 3 else ""
        raise PotstillError(f"{where}: labels have shape {y.shape}; give one class per sample, shape (n,){hint}")
    if y.dtype.kind == "O":
        _check_label_list(y.tolist(), where)
        if all(isinstance(v, bool | int) for v in y.tolist()):
            wide = [i for i, v in enumerate(y.tolist()) if not -(2**63) <= v < 2**63]
            if wide:
                raise PotstillError(f"{where}: label {wide[0]} is {y[wide[0]]}, too large for a class; give texts")
            return y.astype(np.int64)
    if y.dtype.kind in "biuf":
        return _to_int64(y, where)
    if y.dtype.kind == "S":
        y = np.char.decode(y, "utf-8")
    elif y.dtype.kind in "UT" or (y.dtype.kind == "O" and all(isinstance(v, str) for v in y)):
        y = y.astype(str)
    else:
        raise PotstillError(f"{where}: labels of type {y.dtype} are not understood; give integers or strings")
    if (blank := np.char.strip(y) == "").any():
        raise PotstillError(f"{where}: label {int(blank.argmax())} is empty; fill it or leave the sample out")
    return y


def _label_indices(y: Array, values: Array, where: str, named: str) -> Tensor:
    """Return the position of each entry of ``y`` in ``values``."""
    order = np.argsort(values, kind="stable")
    at = np.searchsorted(values, y, sorter=order).clip(max=len(values) - 1)
    index = order[at]
    if (wrong := values[index] != y).any():
        strange = ", ".join(repr(v) for v in np.unique(y[wrong])[:3].tolist())
        raise PotstillError(f"{where}: label {strange} is not {named}; add such samples there or remove them here")
    return torch.from_numpy(index.astype(np.int64))


def _sort_classes(values: Array) -> Array:
    """Sort class names, by number if all of them are numbers."""
    if values.dtype.kind != "U" or not all(v.isdecimal() for v in values.tolist()):
        return values
    return np.array(sorted(values.tolist(), key=lambda v: (int(v), v)))


def _is_boolean(labels: Any, where: str) -> bool:
    y = labels if isinstance(labels, np.ndarray) else to_array(labels, where)
    if y.ndim != 1 and not (y.ndim == 2 and y.shape[1] == 1):
        return False
    return bool(y.dtype.kind == "b" or (y.dtype.kind == "O" and y.size and all(isinstance(v, bool) for v in y.flat)))


def _compose_unicode(texts: Array) -> tuple[Array, list[str]]:
    """Return texts in composed Unicode (NFC), and those that occurred in several forms."""
    if texts.dtype.kind != "U":
        return texts, []
    written, place = np.unique(texts, return_inverse=True)
    plain = [unicodedata.normalize("NFC", t) for t in written.tolist()]
    return np.array(plain)[place], [t for t, n in Counter(plain).items() if n > 1]


def encode_labels(
    train: Any, test: Any, *, classes: tuple[str, ...] | None = None, name: str = "arrays"
) -> tuple[Int[Tensor, " n"], Tensor | None, tuple[str, ...], tuple[str, ...]]:
    """Encode labels as int64 numbers and return the class names in their order.

    With ``classes``, integer labels are places in it and strings are looked up. Without, the sorted distinct training
    labels are the classes (numbers sort as numbers, also where they are texts). Booleans are the classes False and
    True. Texts are compared in composed Unicode (NFC).

    Returns:
        train labels (n,), test labels or ``None``, class names, notes.

    Raises:
        PotstillError: labels that are no classes, or test labels of a class that training lacks.
    """
    y = _label_array(train, name)
    z = None if test is None else _label_array(test, f"{name} (test)")
    booleans = classes is None and all(_is_boolean(part, name) for part in (train, test) if part is not None)
    y, several = _compose_unicode(y)
    z = None if z is None else _compose_unicode(z)[0]
    classes = None if classes is None else tuple(unicodedata.normalize("NFC", c) for c in classes)
    notes: tuple[str, ...] = ()
    if several:
        shown = ", ".join(map(repr, several[:3]))
        notes = (f"{name}: labels written in different forms of Unicode were read as one class: {shown}",)
    if classes is not None and y.dtype.kind == "i":
        values: Array = np.arange(len(classes))
        named = f"in 0 … {len(classes) - 1}, as the {len(classes)} class names require"
    elif classes is not None:
        values, named = np.asarray(classes), "among the class names"
    else:
        values, named = _sort_classes(np.unique(y)), "a class of the training data"
        if y.dtype.kind == "i" and not booleans and len(y) and not np.array_equal(values, np.arange(len(values))):
            notes = (f"{name}: labels {values[0]} … {values[-1]} numbered anew as 0 … {len(values) - 1}",)
    if len(values) == 0:
        raise PotstillError(f"{name}: there are no labels; give at least one sample")
    if z is not None and z.dtype.kind != y.dtype.kind:
        raise PotstillError(f"{name}: training labels are {y.dtype}, test labels {z.dtype}; give both the same way")
    return (
        _label_indices(y, values, name, named),
        None if z is None else _label_indices(z, values, f"{name} (test)", named),
        classes if classes is not None else tuple(str(bool(v) if booleans else v) for v in values.tolist()),
        notes,
    )
