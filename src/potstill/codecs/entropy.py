"""How many bytes the same tensors take when they are entropy-coded without loss: what a file could still save.

Beside the size of the tensors, never instead of it: files of ``potstill/2`` hold codes as they are, so that anybody can
read them with a few lines. The coder is LZMA2 of Python's own library, without a header (its models learn while they
code, so nothing else need be kept), and each tensor takes the smallest of:

- its bytes as they are;
- its bytes, coded;
- its codes, one to a byte, coded: of more than 8 bits first all low bytes, then all high ones. Floats likewise, byte
  by byte of a number.

`code` and `decode` are that coder, and a size is the length of what `code` gives.
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
"""Bytes of one description beyond which nothing is coded: a megabyte takes a core one to three seconds."""
_THOROUGH = 1 << 20
"""Up to so many bytes the coder searches longer."""
_WAYS = ("as-is", "bytes", "planes")


def entropy_coded_bytes(stored: Encoded) -> int | None:
    """Bytes of all tensors of a stored tensor, each at its smallest; ``None`` above 32 MB of them."""
    if sum(t.numel() * t.element_size() for t in stored.tensors.values()) > MOST_CODED:
        return None
    bits = _bits(stored.metadata)
    return sum(len(compress_tensor(t, bits if suffix == "" else None)[1]) for suffix, t in stored.tensors.items())


def compress_tensor(tensor: Tensor, bits: int | None = None) -> tuple[str, bytes]:
    """How a tensor is smallest, and those bytes.

    Args:
        tensor: any, whole.
        bits: of the codes that are packed in it; ``None``: it holds no packed codes. Codes are bytes: of other types
            of numbers it is not read.
    """
    raw = _raw(tensor)
    bits = bits if tensor.dtype == torch.uint8 else None
    made = {"as-is": raw, "bytes": _lzma(raw, len(raw))}
    if tensor.element_size() > 1 or (bits is not None and bits != 8):
        made["planes"] = _lzma(_planes(tensor, bits), len(raw))
    way = min(made, key=lambda w: (len(made[w]), _WAYS.index(w)))
    return way, made[way]


def decompress_tensor(way: str, coded: bytes, like: Tensor, bits: int | None = None) -> Tensor:
    """The tensor again.

    Args:
        way, coded: what `code` gave.
        like: an empty tensor of the same type and shape: the file's header says both.
        bits: as there.
    """
    size = like.numel() * like.element_size()
    if way != "as-is":
        coded = lzma.decompress(coded, lzma.FORMAT_RAW, filters=_filters(size))
    if way == "planes":
        bits = bits if like.dtype == torch.uint8 else None
        coded = _whole(coded, size, like.element_size(), bits)
    return torch.frombuffer(bytearray(coded), dtype=torch.uint8).view(like.dtype).reshape(like.shape)


def _bits(said: Mapping[str, Any]) -> int | None:
    """Bits of the packed codes, of what is within too."""
    within = said.get("within")
    found = said.get("bits", within.get("bits") if isinstance(within, Mapping) else None)
    return found if type(found) is int and 1 <= found <= MOST_BITS else None


def _raw(tensor: Tensor) -> bytes:
    flat = tensor.detach().cpu().contiguous().flatten()
    return bytes(flat.view(torch.uint8).numpy().tobytes()) if flat.numel() else b""


def _planes(tensor: Tensor, bits: int | None) -> bytes:
    """One byte of each code, or of each number, after the other."""
    if bits is None:
        return np.frombuffer(_raw(tensor), np.uint8).reshape(-1, tensor.element_size()).T.tobytes()
    codes = unpack_bits(tensor, bits, 8 * len(tensor) // bits).numpy().astype("<u2")
    return codes.astype(np.uint8).tobytes() if bits < 8 else codes.view(np.uint8).reshape(-1, 2).T.tobytes()


def _whole(planes: bytes, size: int, width: int, bits: int | None) -> bytes:
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
