"""What the process does with memory that torch gives back."""

import ctypes
import sys
from functools import cache

__all__ = ["keep_freed_memory"]

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_ALWAYS = 2**31 - 1


@cache
def keep_freed_memory() -> bool:
    """Let the C library keep large freed blocks for the next tensor. Only glibc is asked; True if it agreed.

    By default glibc takes every block above 32 MB from the system and gives it back when it is freed, so each step of
    a run touches the same hundreds of megabytes of fresh pages again: a quarter to a half of the time of a training
    step at width 128 (``benchmarks/speed.py``). Values are not affected; the process keeps its peak until it ends.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library (musl) has no mallopt
        return False
    return bool(mallopt(_MMAP_THRESHOLD, _ALWAYS)) and bool(mallopt(_TRIM_THRESHOLD, _ALWAYS))
