"""Tables of the arithmetic coder, made by whole numbers alone, so that they are equal on every processor."""

from functools import cache
from math import factorial
from typing import Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["BUCKETS", "EDGE", "SPAN", "coder_tables", "log2_table"]

EDGE: Final = 2815
"""Largest logit ln(p / (1 − p)) of a mixture, in 1/256."""
SPAN: Final = 2 * EDGE + 2
BUCKETS: Final = (0, 1, 2, 3, 4, 5, 6, 8, 10, 13, 17, 24, 40, 80, 160, 400)
"""Counts at which a context's next bucket of confidence begins."""
_STEEPEST = 2047
_UNIT = 1 << 96


def _decay() -> int:
    """Return e^(−1/256) in units of 2^−96, by its series."""
    return sum((-1) ** k * _UNIT // (256**k * factorial(k)) for k in range(16))


@cache
def coder_tables() -> NDArray[np.int32]:
    """Return the tables, one after the other.

    ====================  =============================================================================================
    2 · `EDGE` + 2        probability of a 1 in 1/65536 by its logit in 1/256, from −`EDGE` − 1 on
    4096                  logit in 1/256 by the probability in 1/4096, within ±2047
    1024                  share of a new bit in 1/65536, 1 / (n + 1.5), by the number n of bits seen
    1024                  bucket of confidence by the number of bits seen
    ====================  =============================================================================================
    """
    powers, decay = [_UNIT], _decay()
    for _ in range(EDGE + 1):
        powers.append(powers[-1] * decay // _UNIT)
    rising = [(2 * 65536 * _UNIT + _UNIT + powers[x]) // (2 * (_UNIT + powers[x])) for x in range(EDGE + 2)]
    squash = [65536 - rising[-x] if x < 0 else rising[x] for x in range(-EDGE - 1, EDGE + 1)]
    squash = [min(65535, max(1, p)) for p in squash]
    stretch, x = [], -_STEEPEST
    for p in range(4096):
        while x < _STEEPEST and squash[x + EDGE + 1] < 16 * p + 8:
            x += 1
        stretch.append(x)
    shares = [(2 * 65536 + n + 1) // (2 * n + 3) for n in range(1024)]
    bucket = [sum(n >= first for first in BUCKETS) - 1 for n in range(1024)]
    return np.array(squash + stretch + shares + bucket, np.int32)


@cache
def log2_table(most: int) -> NDArray[np.int64]:
    """Return n · log2 n in 1/256 for n of 0 … ``most``, rounded down, by repeated squaring."""
    values = [0, 0]
    for n in range(2, most + 1):
        exponent = n.bit_length() - 1
        mantissa, bits = (n << 62) >> exponent, exponent
        for _ in range(12):
            mantissa = mantissa * mantissa >> 62
            bits <<= 1
            if mantissa >> 63:
                mantissa >>= 1
                bits |= 1
        values.append(n * bits >> 4)
    return np.array(values[: most + 1], np.int64)
