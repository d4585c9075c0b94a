"""Entropy-coded size of tensors: the bytes that lossless compression could still save.

Files hold plain codes, so that they can be read with a few lines; this size is reported beside theirs. The coder is
LZMA2 of Python's library without a header, and each tensor takes the smallest of

- its bytes,
- its bytes, compressed,
- its codes, one to a byte, compressed: beyond 8 bits first all low bytes, then all high ones; floats likewise.
"""

import lzma
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from potstill.core import Encoded
from potstill.functional.packing import MOST_BITS, pack_bits, unpack_bits

__all__ = ["MOST_CODED", "compress_tensor", "decompress_tensor", "entropy_coded_bytes"]

MOST_CODED = 32 << 20
"""Largest tensors in bytes that are compressed: a megabyte takes a core one to three seconds."""
_THOROUGH = 1 << 20
"""Bytes up to which the coder searches longer."""
_WAYS = ("as-is", "bytes", "planes")


def entropy_coded_bytes(stored: Encoded) -> int | None:
    """Return the compressed bytes of an encoded tensor; ``None``: above 32 MB."""
    if sum(t.numel() * t.element_size() for t in stored.tensors.values()) > MOST_CODED:
        return None
    bits = _bits(stored.metadata)
    return sum(len(compress_tensor(t, bits if suffix == "" else None)[1]) for suffix, t in stored.tensors.items())


def compress_tensor(tensor: Tensor, bits: int | None = None) -> tuple[str, bytes]:
    """Return the name of the smallest form of a tensor, and its bytes.

    Args:
        bits: of the codes packed in a uint8 tensor; ``None``: no packed codes.
    """
    raw = _raw(tensor)
    bits = bits if tensor.dtype == torch.uint8 else None
    forms = {"as-is": raw, "bytes": _lzma(raw, len(raw))}
    if tensor.element_size() > 1 or (bits is not None and bits != 8):
        forms["planes"] = _lzma(_planes(tensor, bits), len(raw))
    way = min(forms, key=lambda w: (len(forms[w]), _WAYS.index(w)))
    return way, forms[way]


def decompress_tensor(way: str, coded: bytes, like: Tensor, bits: int | None = None) -> Tensor:
    """Return the tensor that `compress_tensor` compressed.

    Args:
        way, coded: what it returned.
        like: an empty tensor of the same type and shape.
        bits: as given to it.
    """
    size = like.numel() * like.element_size()
    if way != "as-is":
        coded = lzma.decompress(coded, lzma.FORMAT_RAW, filters=_filters(size))
    if way == "planes":
        bits = bits if like.dtype == torch.uint8 else None
        coded = _from_planes(coded, size, like.element_size(), bits)
    return torch.frombuffer(bytearray(coded), dtype=torch.uint8).view(like.dtype).reshape(like.shape)


def _bits(metadata: Mapping[str, Any]) -> int | None:
    """Return the bits of the packed codes, also of an inner tensor."""
    within = metadata.get("within")
    found = metadata.get("bits", within.get("bits") if isinstance(within, Mapping) else None)
    return found if type(found) is int and 1 <= found <= MOST_BITS else None


def _raw(tensor: Tensor) -> bytes:
    flat = tensor.detach().cpu().contiguous().flatten()
    return bytes(flat.view(torch.uint8).numpy().tobytes()) if flat.numel() else b""


def _planes(tensor: Tensor, bits: int | None) -> bytes:
    """Return byte planes: the first byte of every code or number, then the second."""
    if bits is None:
        return np.frombuffer(_raw(tensor), np.uint8).reshape(-1, tensor.element_size()).T.tobytes()
    codes = unpack_bits(tensor, bits, 8 * len(tensor) // bits).numpy().astype("<u2")
    return codes.astype(np.uint8).tobytes() if bits < 8 else codes.view(np.uint8).reshape(-1, 2).T.tobytes()


def _from_planes(planes: bytes, size: int, width: int, bits: int | None) -> bytes:
    if bits is None:
        return np.frombuffer(planes, np.uint8).reshape(width, -1).T.tobytes()
    found = np.frombuffer(planes, np.uint8)
    codes = found if bits < 8 else np.ascontiguousarray(found.reshape(2, -1).T).view("<u2").reshape(-1)
    return bytes(pack_bits(torch.from_numpy(codes.astype(np.int64)), bits).numpy().tobytes()).ljust(size, b"\0")


def _filters(size: int) -> list[dict[str, int]]:
    thorough = lzma.PRESET_EXTREME if size <= _THOROUGH else 0
    window = min(max(1 << 12, 8 * size), 1 << 26)  # of the codes one to a byte, which are up to eight times as many
    return [{"id": lzma.FILTER_LZMA2, "preset": 6 | thorough, "dict_size": window, "lc": 3, "lp": 0, "pb": 0}]


def _lzma(raw: bytes, size: int) -> bytes:
    return lzma.compress(raw, lzma.FORMAT_RAW, filters=_filters(size))
