"""Limits on memory and unpacked archives, checked before anything is allocated."""

import os
from contextlib import suppress
from pathlib import Path

from potstill._util.input_limits import check_limit, limit_hint, limits
from potstill.errors import PotstillError

__all__ = ["UnpackBudget", "machine_memory", "require_memory"]

_FREE = 2**30
"""Bytes that any archive may unpack to, however small it is."""


class UnpackBudget:
    """Counter of an archive's files and unpacked bytes, checked against the limits."""

    def __init__(self, path: Path) -> None:
        self._path, self._size = path, max(1, path.stat().st_size)
        self._members = self._bytes = 0

    def add(self, size: int) -> None:
        """Count a file of ``size`` unpacked bytes before it is read.

        Raises:
            PotstillError: that is one too many, or too large.
        """
        self._members += 1
        self._bytes += max(0, size)
        check_limit("archive_members", self._members, str(self._path))
        check_limit("archive_bytes", self._bytes, str(self._path))
        if self._bytes > max(_FREE, limits().archive_ratio * self._size):
            raise PotstillError(
                f"{self._path}: its {self._size:,} bytes unpack to {self._bytes:,} or more, over "
                f"{self._bytes // self._size:,} times as many; {limit_hint('archive_ratio')}"
            )


def machine_memory() -> int:
    """Return the total memory in bytes of this machine or container.

    Free memory is not used: it differs from run to run, and with it cache keys would.
    """
    found = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for limit in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with suppress(OSError, ValueError):  # not there, or "max"
            found = min(found, int(Path(limit).read_text(encoding="ascii")))
    return found


def require_memory(needed: int, what: str, cure: str) -> None:
    """Refuse ``what`` if it would take more bytes than this machine has memory."""
    if needed > (most := machine_memory()):
        raise PotstillError(
            f"{what} would take {needed / 2**30:,.1f} GiB, but this machine has {most / 2**30:,.1f} GiB of memory; "
            f"{cure}"
        )
