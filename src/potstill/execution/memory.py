"""Memory of the process, and what the C library does with freed memory."""

import contextlib
import ctypes
import resource
import sys
from functools import cache
from pathlib import Path

__all__ = ["keep_freed_memory", "peak_memory", "resident_memory", "return_freed_memory"]

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_ALWAYS = 2**31 - 1


@cache
def keep_freed_memory() -> bool:
    """Make glibc keep large freed blocks for the next tensor; True if it did.

    By default glibc returns every block above 32 MB to the system, so that each step touches hundreds of megabytes of
    fresh pages: a quarter to a half of a training step at width 128 (``benchmarks/speed.py``). Values do not change;
    the process keeps its peak until it ends.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library (musl) has no mallopt
        return False
    return bool(mallopt(_MMAP_THRESHOLD, _ALWAYS)) and bool(mallopt(_TRIM_THRESHOLD, _ALWAYS))


def return_freed_memory() -> bool:
    """Make glibc return freed memory to the system; True if it could.

    Loading data leaves blocks behind, which differ from run to run; without them a run's memory can be predicted
    (`potstill.execution.peak`).
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (OSError, AttributeError):
        return False
    return True


def resident_memory() -> int:
    """Return the bytes of this process in memory; its peak where the system does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except (OSError, ValueError, IndexError):
        return peak_memory()
    return pages * resource.getpagesize()


def peak_memory() -> int:
    """Return the peak bytes of this process so far."""
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/self/status").read_text(encoding="utf-8", errors="replace").splitlines()
        # Not ru_maxrss where there is another: it begins with the peak of the process that started this one.
        return 1024 * int(next(line for line in lines if line.startswith("VmHWM:")).split()[1])
    unit = 1 if sys.platform == "darwin" else 1024  # ru_maxrss is in bytes on macOS and in KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
