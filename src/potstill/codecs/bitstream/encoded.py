"""Encoded tensors with their codes as arithmetic-coded streams, and back.

Metadata key ``stream`` names, for each tensor that is a stream, its layout: ``{"": "picture"}``. Streams of
floating-point numbers name type and shape too (``"sequence:float16:190"``): all high halves of 16 bits, then all low
ones.
The number and bits of codes follow from the codec's own metadata.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from potstill.codecs.bitstream.layouts import COLUMNS, LAYOUTS, PICTURE, SEQUENCE, SORTED, Layout
from potstill.codecs.bitstream.stream import MOST_CODES, decode_codes, encode_codes
from potstill.core import Encoded
from potstill.errors import PotstillError
from potstill.functional.packing import MOST_BITS, pack_bits, packed_bytes, unpack_bits

__all__ = ["compress_encoded", "expand_encoded", "is_compressed"]

_LEAST: Final = 24
"""Bytes that a stream must save: naming it in the header takes as many."""
_FLOATS: Final = {torch.float16: "float16", torch.float32: "float32"}
_MOST_FLOATS: Final = 1 << 17
_BY_SHAPE: Final = ("ints", "grid", "levels", "uniform", "step", "rows")


def is_compressed(stored: Encoded) -> bool:
    """Return whether any of its tensors is a stream."""
    return bool(_described(stored.metadata).get("stream"))


def compress_encoded(stored: Encoded, groups: Sequence[int] | None = None) -> Encoded:
    """Return the same tensor with its codes, and the ranges and levels beside them, as streams where those are smaller.

    Floating-point values (codec ``float``), codecs other than Potstill's own, picture files, tensors of over 2^24
    codes and those of under 48 bytes stay as they are.

    Args:
        groups: number of items of each class, in order, as context; ignored for tensors of other items.
    """
    if is_compressed(stored):
        return stored
    described = _described(stored.metadata)
    codes, tensors = _code_shapes(described), dict(stored.tensors)
    streams: dict[str, str] = {}
    for suffix in sorted(stored.tensors, key=lambda suffix: suffix not in codes):
        tensor, stream = stored.tensors[suffix], None
        if suffix in codes:
            stream = _compress_codes(tensor, *codes[suffix], groups or ())
        elif tensor.dtype in _FLOATS and suffix and streams:
            stream = _compress_floats(tensor)
        if stream is not None:
            tensors[suffix], streams[suffix] = torch.frombuffer(bytearray(stream[1]), dtype=torch.uint8), stream[0]
    if not streams:
        return stored
    metadata: dict[str, Any] = {**described, "stream": streams}
    return Encoded(tensors, {**stored.metadata, "within": metadata} if described is not stored.metadata else metadata)


def expand_encoded(stored: Encoded) -> Encoded:
    """Return the same tensor with packed codes in place of streams.

    Raises:
        PotstillError: a stream is damaged, or contradicts the metadata.
    """
    described = _described(stored.metadata)
    if "stream" not in described:
        return stored
    streams = described["stream"]
    if not isinstance(streams, Mapping) or not all(
        isinstance(layout, str) and suffix in stored.tensors for suffix, layout in streams.items()
    ):
        raise PotstillError(f"its stream must name the layouts of its tensors, not {str(streams)[:60]}")
    codes, tensors = _code_shapes(described), dict(stored.tensors)
    for suffix, layout in streams.items():
        data = tensors[suffix]
        if data.dtype != torch.uint8 or data.ndim != 1:
            raise PotstillError(f"its stream must be one row of bytes, not {data.dtype} of {list(data.shape)}")
        raw = data.contiguous().numpy().tobytes()
        if ":" in layout:
            tensors[suffix] = _expand_floats(raw, layout)
        elif suffix in codes and layout in LAYOUTS:
            shape, bits = codes[suffix]
            values = torch.from_numpy(decode_codes(raw, shape, bits, LAYOUTS[layout]))
            tensors[suffix] = pack_bits(values.flatten(), bits)
        else:
            raise PotstillError(f"its codec has no stream {layout[:40]!r}; upgrade potstill")
    metadata = {name: value for name, value in described.items() if name != "stream"}
    return Encoded(tensors, {**stored.metadata, "within": metadata} if described is not stored.metadata else metadata)


def _described(metadata: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what describes the tensors: of smaller images it is within."""
    within = metadata.get("within")
    return within if metadata.get("codec") == "small" and isinstance(within, Mapping) else metadata


def _code_shapes(metadata: Mapping[str, Any]) -> dict[str, tuple[tuple[int, ...], int]]:
    """Return shape and bits of packed codes by the suffix of their tensor; nothing where they are invalid."""
    codec, bits, shape = metadata.get("codec"), metadata.get("bits"), metadata.get("shape")
    if not isinstance(shape, list) or not all(type(n) is int and n >= 0 for n in shape) or len(shape) > 8:
        return {}
    if type(bits) is not int or not 1 <= bits <= MOST_BITS:
        return {}
    if codec in _BY_SHAPE:
        return {"": (tuple(shape), bits)}
    if codec == "halves":
        return {"": ((2, *shape), bits)}
    positions = metadata.get("positions")
    if codec == "cosine" and len(shape) >= 4 and type(positions) is int and positions >= 0:
        return {"": ((math.prod(shape[:-3]), shape[-3], positions), bits)}
    columns = metadata.get("columns")
    if codec == "columns" and len(shape) == 2 and type(columns) is int and columns >= 0:
        return {"": ((shape[0], columns), bits)}
    if codec == "palette" and len(shape) >= 4:
        return {"": ((math.prod(shape[:-3]), 1, *shape[-2:]), bits)}
    if codec == "patches" and len(shape) >= 4:
        sizes: dict[str, tuple[tuple[int, ...], int]] = {"": (tuple(shape), bits)}
        side, group_bits = metadata.get("side"), metadata.get("group_bits")
        if type(side) is int and side > 0 and type(group_bits) is int and 1 <= group_bits <= 8:
            side = min(side, max(1, *shape[-2:]))
            rows, columns = (-(-n // side) for n in shape[-2:])
            sizes[".group"] = ((math.prod(shape[:-3]), 1, rows, columns), group_bits)
        return sizes
    return {}


def _compress_codes(
    tensor: Tensor, shape: tuple[int, ...], bits: int, groups: Sequence[int]
) -> tuple[str, bytes] | None:
    count = math.prod(shape)
    room = packed_bytes(count, bits) - _LEAST
    if count > MOST_CODES or room < _LEAST or tensor.numel() != packed_bytes(count, bits):
        return None
    codes = unpack_bits(tensor, bits, count).reshape(shape).numpy()
    coded: list[tuple[str, bytes]] = []
    for layout in _layouts(codes.shape):
        stream = encode_codes(codes, bits, layout, groups, room)
        if stream is not None:
            coded.append((layout.name, stream))
    return min(coded, key=lambda named: len(named[1]), default=None)


def _layouts(shape: tuple[int, ...]) -> list[Layout]:
    if PICTURE.plane(shape) is not None:
        return [PICTURE]
    kept = [COLUMNS] if len(shape) >= 2 else [SEQUENCE]
    return [*kept, SORTED] if shape and shape[-1] > 1 else kept


def _compress_floats(tensor: Tensor) -> tuple[str, bytes] | None:
    size = tensor.element_size()
    if not 0 < tensor.numel() <= _MOST_FLOATS or size * tensor.numel() < 2 * _LEAST:
        return None
    halves = tensor.contiguous().flatten().view(torch.uint8).numpy().view("<u2").reshape(-1, size // 2)
    codes = np.ascontiguousarray(halves.T[::-1]).astype(np.int64).reshape(-1)
    stream = encode_codes(codes, 16, SEQUENCE, (), size * tensor.numel() - _LEAST)
    shape = "x".join(map(str, tensor.shape))
    return None if stream is None else (f"{SEQUENCE.name}:{_FLOATS[tensor.dtype]}:{shape}", stream)


def _expand_floats(raw: bytes, form: str) -> Tensor:
    name, kind, sizes = [*form.split(":"), "", ""][:3]
    dtype = next((dtype for dtype, known in _FLOATS.items() if known == kind), None)
    shape = tuple(int(n) for n in sizes.split("x") if n.isdecimal() and n.isascii() and len(n) < 8)
    if name != SEQUENCE.name or dtype is None or form != f"{name}:{kind}:{'x'.join(map(str, shape))}":
        raise PotstillError(f"its stream of numbers is {form[:60]!r}, which this version does not know")
    count, size = math.prod(shape), 2 if dtype == torch.float16 else 4
    if not 0 < count <= _MOST_FLOATS:
        raise PotstillError(
            f"its stream of numbers must hold 1 to {_MOST_FLOATS:,}, not {count:,}; the file is damaged"
        )
    codes = decode_codes(raw, (count * size // 2,), 16, SEQUENCE).reshape(size // 2, count)
    halves = np.ascontiguousarray(codes[::-1].T.astype("<u2"))
    return torch.from_numpy(halves.view(np.uint8).reshape(-1)).view(dtype).reshape(shape)
