"""Counter-based random numbers: the same words for the same key and counter, in any order of calls.

Philox4x32-10: Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011, section 3.3. Whole
arrays of counters are hashed at once, in integers, so every machine gives the same words.
"""

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["Words", "philox", "random_below", "random_permutation", "uniform"]

Words: TypeAlias = NDArray[np.uint64]
"""32-bit words, each in a 64-bit integer."""

_MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
_WEYL = (0x9E3779B9, 0xBB67AE85)
_MASK = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)
_ROUNDS = 10


def philox(key: int, *counter: ArrayLike) -> tuple[Words, Words, Words, Words]:
    """Return four words for each counter.

    Args:
        key: in [0, 2**64); its lower half is the paper's first key word.
        counter: up to four broadcastable arrays of integers in [0, 2**32), least significant word first; missing
            ones are 0.

    Returns:
        Four arrays of words of the broadcast shape.
    """
    arrays = np.broadcast_arrays(*(np.asarray(c, np.uint64) for c in (*counter, 0, 0, 0, 0)[:4]))
    c0, c1, c2, c3 = (c.ravel() for c in arrays)  # not of no axes: NumPy would make scalars of them
    k0, k1 = key & 0xFFFFFFFF, key >> 32
    for _ in range(_ROUNDS):
        first, second = c0 * _MULTIPLIERS[0], c2 * _MULTIPLIERS[1]
        c0, c1, c2, c3 = (
            (second >> _HALF) ^ c1 ^ np.uint64(k0),
            second & _MASK,
            (first >> _HALF) ^ c3 ^ np.uint64(k1),
            first & _MASK,
        )
        k0, k1 = (k0 + _WEYL[0]) & 0xFFFFFFFF, (k1 + _WEYL[1]) & 0xFFFFFFFF
    shape = arrays[0].shape
    return c0.reshape(shape), c1.reshape(shape), c2.reshape(shape), c3.reshape(shape)


def uniform(words: Words) -> NDArray[np.float64]:
    """Map each word to a uniform number in (0, 1): the middle of its 2**-32."""
    return (words.astype(np.float64) + 0.5) * 2.0**-32


def random_below(words: Words, limit: ArrayLike) -> NDArray[np.int64]:
    """Map each word to an integer in [0, limit), limit ≤ 2**31, uniform to within limit · 2**-32."""
    return ((words * np.asarray(limit, np.uint64)) >> _HALF).astype(np.int64)


def random_permutation(key: int, n: int, *counter: int) -> NDArray[np.int64]:
    """Return a random permutation of 0 … n − 1: positions sorted by 64 random bits each, ties by position.

    Args:
        key: as for `philox`.
        n: below 2**32.
        counter: up to three words that identify the permutation.
    """
    c: tuple[Any, ...] = (np.arange(n, dtype=np.uint64), *counter)
    high, low, _, _ = philox(key, *c)
    return np.argsort((high << _HALF) | low, kind="stable").astype(np.int64)
