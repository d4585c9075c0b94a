"""Elias-Fano coding of rows of increasing numbers, all rows of the same length: class indices of sparse labels.

Elias and Fano's code of sorted numbers (Elias, "Efficient storage and retrieval by content and address of static
files", J. ACM 21(2), 1974): of each of k numbers below K the ``low`` last bits as they are, and of the rest the
differences from one to the next, in unary: number i with the high part h sets bit ``h + i`` of a row of
``k + ((K − 1) >> low)`` bits. No code of one length is shorter by more than a bit for each number. Where the numbers
are so many that one bit for each of the K takes no more, that is what is stored.

Bits lie low first, as in all that Potstill packs.
"""

import numpy as np
from numpy.typing import NDArray

from potstill.errors import PotstillError

__all__ = ["increasing_bytes", "pack_increasing", "unpack_increasing"]


def _low(count: int, below: int) -> int:
    """Return the number of raw low bits in the shortest code; −1 for a bitmap of ``below`` bits."""
    low = min(range(below.bit_length() + 1), key=lambda b: _bits(count, below, b))
    return -1 if below <= _bits(count, below, low) else low


def _bits(count: int, below: int, low: int) -> int:
    return below if low < 0 else count * low + count + ((below - 1) >> low)


def increasing_bytes(count: int, below: int) -> int:
    """Return the bytes of a row of ``count`` increasing numbers in 0…``below`` − 1."""
    return -(-_bits(count, below, _low(count, below)) // 8)


def pack_increasing(rows: NDArray[np.int64], below: int) -> NDArray[np.uint8]:
    """Encode increasing rows (m, k) of numbers in 0…``below`` − 1 as bytes (m, `increasing_bytes`)."""
    m, count = rows.shape
    low = _low(count, below)
    bits = np.zeros((m, _bits(count, below, low)), np.uint8)
    if low < 0:
        np.put_along_axis(bits, rows, 1, axis=1)
    else:
        bits[:, : count * low] = (rows[:, :, None] >> np.arange(low) & 1).reshape(m, count * low)
        np.put_along_axis(bits, count * low + (rows >> low) + np.arange(count), 1, axis=1)
    return np.packbits(bits, axis=1, bitorder="little")


def unpack_increasing(packed: NDArray[np.uint8], count: int, below: int) -> NDArray[np.int64]:
    """Decode the rows (m, ``count``) of `pack_increasing`.

    Raises:
        PotstillError: the bytes are no such code (damaged file).
    """
    low = _low(count, below)
    bits = np.unpackbits(packed, axis=1, bitorder="little")
    unary = bits[:, max(low, 0) * count :]
    if len(bits) and not bool((unary.sum(1, dtype=np.int64) == count).all()):
        raise PotstillError(
            f"rows of {count} increasing numbers are required, but some hold others; get the file again"
        )
    rows = np.nonzero(unary)[1].reshape(len(bits), count)
    if low >= 0:
        tails = bits[:, : low * count].reshape(len(bits), count, low) @ (1 << np.arange(low))
        rows = (rows - np.arange(count) << low) + tails
    if rows.size and (int(rows[:, -1].max()) >= below or not bool((np.diff(rows, axis=1) > 0).all())):
        raise PotstillError(f"increasing numbers below {below} are required, but others are packed; get the file again")
    return rows
