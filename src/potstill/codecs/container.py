"""Encoded tensors as a file has them: named tensors, and JSON that says how to decode them.

The list of encodings is closed, so that a file can be read by whoever has it. Every `Codec` writes one of these,
but for a `ContextCodec`, which decodes by itself:

========  ==============================================================================================================
codec     tensors by suffix, and the value at each place
========  ==============================================================================================================
float     the values themselves, float32 or float16
ints      codes of ``bits`` bits, ``least + q``: whole numbers
halves    twice as many codes of 16 bits, first all low halves, then all high ones, ``least + low + 2^16 · high``
runs      counts of 0, 1, 2 … in a sorted row: labels in the order of classes
grid      codes of ``bits`` bits, ``q / parts``: pixels of 8 bits have 255 parts
levels    codes of ``bits`` bits, and ``.levels``, which they number
uniform   codes of ``bits`` bits, and ``.low`` and ``.step`` along ``axis`` or one for all: ``low + step · q``
step      codes of ``bits`` bits, and ``.step``: ``(least + q) · step``
rows      codes of ``bits`` bits, rows of which are divided by their sum: probabilities
cosine    codes of ``bits`` bits (items, channels, ``positions``), ``.step`` and ``.mean``: ``(least + q) · step`` are
          cosine coefficients (`potstill.codecs.cosine`)
columns   codes of ``bits`` bits (rows, ``columns``), ``.low`` and ``.step`` of each number: ``low + step · q``;
          ``.width`` of each column: above 1 it is a category, one of so many zeros and ones; ``.bent`` numbers whose
          values are ``.centre + .scale · sinh(low + step · q)`` (`potstill.codecs.columns`)
small     smaller images, described by ``within``, enlarged to ``shape`` (`potstill.codecs.downsample`)
mosaic    the bytes of one PNG, WebP, JPEG or AVIF of all images, ``columns`` to a row (`potstill.codecs.mosaic`)
palette   numbers of ``bits`` bits, one for each pixel, and ``.colours`` (palettes, K, c) (`potstill.codecs.palette`)
patches   codes of ``bits`` bits, ``.group`` of each patch in ``group_bits``, ``.low`` and ``.step`` of each group
          (`potstill.codecs.patches`)
========  ==============================================================================================================

Codes are packed as `potstill.functional.packing` says; where ``stream`` names a layout, they are a stream of
`potstill.codecs.bitstream` instead.
"""

import importlib
import math
from collections.abc import Callable, Mapping
from typing import Any, Final

import torch
from torch import Tensor

from potstill.codecs.bitstream import expand_encoded
from potstill.core import ContextCodec, DecodeContext, Encoded
from potstill.core.registry import create, targets
from potstill.errors import PotstillError
from potstill.functional.packing import MOST_BITS, unpack_bits

__all__ = ["DECODERS", "decode", "encoded_bytes", "get_tensor", "parse_int", "parse_shape"]

MOST_VALUES = 2**33
"""Maximum number of values of one tensor."""


def encoded_bytes(stored: Encoded) -> int:
    """Return the bytes of all its tensors."""
    return sum(t.numel() * t.element_size() for t in stored.tensors.values())


def parse_shape(description: Mapping[str, Any]) -> tuple[int, ...]:
    """Return the shape in a description.

    Raises:
        PotstillError: it is invalid or too large.
    """
    shape = description.get("shape")
    if not isinstance(shape, list) or not all(type(n) is int and n >= 0 for n in shape) or len(shape) > 8:
        raise PotstillError(f"its shape must be a list of whole numbers, not {str(shape)[:60]}")
    if math.prod(shape) > MOST_VALUES:
        raise PotstillError(f"a shape of {shape} has more than {MOST_VALUES:,} values; it is refused")
    return tuple(shape)


def parse_int(description: Mapping[str, Any], name: str, least: int, most: int) -> int:
    """Return a whole number of a description.

    Raises:
        PotstillError: it is missing, no whole number, or out of its bounds.
    """
    value = description.get(name)
    if type(value) is not int or not least <= value <= most:
        raise PotstillError(f"its {name} must be a whole number from {least} to {most}, not {str(value)[:60]}")
    return value


def get_tensor(
    stored: Encoded, suffix: str, kinds: tuple[torch.dtype, ...], shape: tuple[int, ...] | None = None
) -> Tensor:
    """Return one of its tensors, of one of ``kinds`` and, if given, of this shape.

    Raises:
        PotstillError: it is missing, or of another type or shape.
    """
    tensor = stored.tensors.get(suffix)
    if tensor is None or tensor.dtype not in kinds or (shape is not None and tuple(tensor.shape) != shape):
        what = "is missing" if tensor is None else f"is {tensor.dtype} of {list(tensor.shape)}"
        raise PotstillError(f"its {suffix.lstrip('.') or 'values'} tensor {what}, which its codec does not write")
    return tensor


def unpack_codes(stored: Encoded, shape: tuple[int, ...]) -> Tensor:
    """Return the codes of a tensor of ``shape``, int64.

    Raises:
        PotstillError: they are missing, or of another number.
    """
    bits = parse_int(stored.metadata, "bits", 1, MOST_BITS)
    packed = get_tensor(stored, "", (torch.uint8,))
    try:
        unpacked: Tensor = unpack_bits(packed, bits, math.prod(shape))
    except ValueError as error:
        raise PotstillError(str(error)) from error
    return unpacked.reshape(shape)


_FLOATS: Final = (torch.float32, torch.float16)


def _float(stored: Encoded) -> Tensor:
    shape = parse_shape(stored.metadata)
    return get_tensor(stored, "", _FLOATS, shape).float()


def _ints(stored: Encoded) -> Tensor:
    return unpack_codes(stored, parse_shape(stored.metadata)) + parse_int(stored.metadata, "least", -(2**62), 2**62)


def _halves(stored: Encoded) -> Tensor:
    shape = parse_shape(stored.metadata)
    low, high = unpack_codes(stored, (2, *shape))
    values: Tensor = low + (high << MOST_BITS) + parse_int(stored.metadata, "least", -(2**62), 2**62)
    return values


def _runs(stored: Encoded) -> Tensor:
    (n,) = parse_shape(stored.metadata)
    counts = get_tensor(stored, "", (torch.uint8, torch.int16, torch.int32)).long()
    if counts.ndim != 1 or bool((counts < 0).any()) or int(counts.sum()) != n:
        raise PotstillError(f"its runs must be numbers of at least 0 that sum to {n}")
    return torch.repeat_interleave(torch.arange(len(counts)), counts)


def _grid(stored: Encoded) -> Tensor:
    values: Tensor = unpack_codes(stored, parse_shape(stored.metadata)).float() / parse_int(
        stored.metadata, "parts", 1, 2**16
    )
    return values


def _levels(stored: Encoded) -> Tensor:
    levels = get_tensor(stored, ".levels", _FLOATS).float()
    found = unpack_codes(stored, parse_shape(stored.metadata))
    if levels.ndim != 1 or len(levels) == 0 or (found.numel() and int(found.max()) >= len(levels)):
        raise PotstillError(f"its codes number more levels than the {levels.numel()} that there are")
    return levels[found]


def parse_axis(description: Mapping[str, Any], ndim: int) -> int | None:
    """Return the axis of its groups; ``None``: one group.

    Raises:
        PotstillError: there is no such axis.
    """
    return None if description.get("axis") is None else parse_int(description, "axis", 0, ndim - 1)


def _uniform(stored: Encoded) -> Tensor:
    shape = parse_shape(stored.metadata)
    axis = parse_axis(stored.metadata, len(shape))
    groups = (1,) if axis is None else (shape[axis],)
    beside = [1] * len(shape)
    if axis is not None:
        beside[axis] = shape[axis]
    low, step = (get_tensor(stored, suffix, _FLOATS, groups).float().reshape(beside) for suffix in (".low", ".step"))
    made = unpack_codes(stored, shape).float()
    return made.mul_(step).add_(low)


def _step(stored: Encoded) -> Tensor:
    step = get_tensor(stored, ".step", _FLOATS, (1,)).float()
    least = parse_int(stored.metadata, "least", -(2**MOST_BITS), 2**MOST_BITS)
    return (unpack_codes(stored, parse_shape(stored.metadata)) + least).float() * step


def _rows(stored: Encoded) -> Tensor:
    shape = parse_shape(stored.metadata)
    found = unpack_codes(stored, shape).double()
    if len(shape) != 2 or (len(found) and bool((found.sum(1) == 0).any())):
        raise PotstillError("its rows must each have a class with a probability")
    return (found / found.sum(1, keepdim=True)).float()


DECODERS: Mapping[str, Callable[[Encoded], Tensor] | str] = {
    "float": _float,
    "ints": _ints,
    "halves": _halves,
    "runs": _runs,
    "grid": _grid,
    "levels": _levels,
    "uniform": _uniform,
    "step": _step,
    "rows": _rows,
    "cosine": "potstill.codecs.cosine:decode_cosine",
    "columns": "potstill.codecs.columns:decode_columns",
    "small": "potstill.codecs.downsample:decode_downsampled",
    "mosaic": "potstill.codecs.mosaic:decode_mosaic",
    "palette": "potstill.codecs.palette:decode_palette",
    "patches": "potstill.codecs.patches:decode_patches",
}
"""Decoders by name: functions, or ``module:function`` for those that need more than torch."""


def decode(stored: Encoded, context: DecodeContext | None = None) -> Tensor:
    """Decode a tensor: float32, or int64 for whole numbers.

    Args:
        context: context of the data, for inputs that a `ContextCodec` wrote.

    Raises:
        PotstillError: description and tensors do not fit each other, or there is no such codec.
    """
    stored = expand_encoded(stored)
    name = stored.metadata.get("codec")
    decoder = DECODERS.get(name) if isinstance(name, str) else None
    if (
        decoder is None
        and context is not None
        and isinstance(name, str)
        and name.partition(":")[0] in targets("codecs")
    ):
        return _unpack(stored, name[:200], context)
    if decoder is None:
        raise PotstillError(
            f"its codec is {str(name)[:40]!r}, but this version reads {', '.join(DECODERS)}; upgrade potstill"
        )
    if isinstance(decoder, str):
        module, _, attribute = decoder.partition(":")
        decoder = getattr(importlib.import_module(module), attribute)
    tensor: Tensor = decoder(stored)
    return tensor


def _unpack(stored: Encoded, name: str, context: DecodeContext) -> Tensor:
    codec, shape = create("codecs", name), parse_shape(stored.metadata)
    if not isinstance(codec, ContextCodec) or shape[1:] != context.shape:
        raise PotstillError(f"its codec {name!r} does not write inputs of {list(context.shape)}; get the file again")
    try:
        x = codec.unpack(stored, context)
    except (RuntimeError, ValueError, KeyError, IndexError, TypeError) as error:
        # Torch operations on tensors that the codec did not write raise any of these: the file is wrong.
        line = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        raise PotstillError(f"its tensors do not fit its codec {name!r} ({line}); get the file again") from error
    if tuple(x.shape) != shape or not x.is_floating_point():
        raise PotstillError(f"its codec {name!r} decodes to {list(x.shape)}, not {list(shape)}; get the file again")
    return x.float()
