"""Packing of codes of few bits into bytes without gaps, least significant bit first.

Code i takes bits b·i … b·i + b − 1 of the stream, least significant first; bit j of the stream is bit j mod 8 of byte
⌊j / 8⌋. 4-bit codes 1, 2, 15, 0 are the bytes 21 0F (hexadecimal); 2-bit codes 3, 0, 1, 2 are 93. The last byte is
filled with 0.
"""

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

__all__ = ["MOST_BITS", "pack_bits", "packed_bytes", "unpack_bits"]

MOST_BITS = 16
_CHUNK = 1 << 22
"""Codes per chunk, a multiple of 8."""


def packed_bytes(count: int, bits: int) -> int:
    """Return the number of bytes of ``count`` codes of ``bits`` bits."""
    return -(-count * bits // 8)


def pack_bits(codes: Int64[Tensor, " n"], bits: int) -> UInt8[Tensor, " m"]:
    """Pack ``codes`` (any integer dtype, in 0 … 2^bits − 1) into m = ⌈n · bits / 8⌉ bytes.

    Raises:
        ValueError: bits are not in 1 … 16, or a code does not fit into them.
    """
    _check(bits)
    flat = codes.detach().cpu().flatten()
    if flat.numel() and (int(flat.min()) < 0 or int(flat.max()) >= 1 << bits):
        raise ValueError(f"codes must be in 0…{(1 << bits) - 1}, but they go from {flat.min()} to {flat.max()}")
    values = flat.to(torch.int32).numpy().astype("<u2")
    if bits in (8, 16):
        return torch.from_numpy(values.astype("u1") if bits == 8 else values.view("u1").copy())
    parts = [np.zeros(0, np.uint8)]
    for first in range(0, len(values), _CHUNK):
        part = values[first : first + _CHUNK].view("u1").reshape(-1, 2)
        rows = np.unpackbits(part, axis=1, bitorder="little")[:, :bits]
        parts.append(np.packbits(rows.reshape(-1), bitorder="little"))
    return torch.from_numpy(np.concatenate(parts))


def unpack_bits(packed: UInt8[Tensor, " m"], bits: int, count: int) -> Int64[Tensor, " count"]:
    """Unpack the first ``count`` codes of ``bits`` bits to int64.

    Raises:
        ValueError: bits are not in 1 … 16, or ``packed`` is not flat uint8 of as many bytes as the codes need.
    """
    _check(bits)
    if packed.dtype != torch.uint8 or packed.ndim != 1 or len(packed) != packed_bytes(count, bits):
        raise ValueError(
            f"{count} codes of {bits} bits need {packed_bytes(count, bits)} bytes of uint8, but there are "
            f"{list(packed.shape)} of {packed.dtype}"
        )
    raw = packed.detach().cpu().contiguous().numpy()
    if bits in (8, 16):
        return torch.from_numpy(raw.astype(np.int64) if bits == 8 else raw.view("<u2").astype(np.int64))
    codes = np.empty(count, np.int64)
    weights = 1 << np.arange(bits, dtype=np.int64)
    step = _CHUNK * bits // 8
    for n, first in enumerate(range(0, len(raw), step)):
        size = min(_CHUNK, count - n * _CHUNK)
        stream = np.unpackbits(raw[first : first + step], bitorder="little")[: size * bits]
        codes[n * _CHUNK : n * _CHUNK + size] = stream.reshape(size, bits) @ weights
    return torch.from_numpy(codes)


def _check(bits: int) -> None:
    if not 1 <= bits <= MOST_BITS:
        raise ValueError(f"codes have 1 to {MOST_BITS} bits, not {bits}")
