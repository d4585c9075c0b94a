"""How much there is, and what asks for more: refused in a line before anything is allocated."""

import os
from contextlib import suppress
from pathlib import Path

from potstill._util.input_limits import hold, limits, raised
from potstill.errors import PotstillError

__all__ = ["UnpackBudget", "machine_memory", "require_memory"]

_FREE = 2**30
"""Bytes that an archive may unpack to, however small it is."""


class UnpackBudget:
    """Counts the files of an archive and what they unpack to, against the limits."""

    def __init__(self, path: Path) -> None:
        self._path, self._size = path, max(1, path.stat().st_size)
        self._members = self._bytes = 0

    def add(self, size: int) -> None:
        """Another file, of ``size`` bytes once it is unpacked; it is not read yet.

        Raises:
            PotstillError: that is one too many, or too large.
        """
        self._members += 1
        self._bytes += max(0, size)
        hold("archive_members", self._members, str(self._path))
        hold("archive_bytes", self._bytes, str(self._path))
        if self._bytes > max(_FREE, limits().archive_ratio * self._size):
            raise PotstillError(
                f"{self._path}: its {self._size:,} bytes unpack to {self._bytes:,} or more, over "
                f"{self._bytes // self._size:,} times as many; {raised('archive_ratio')}"
            )


def machine_memory() -> int:
    """Bytes of memory that this machine, or the container that this runs in, has in all.

    What is free would be another number from run to run, and with it the choice, the hash of the data and all that is
    kept by it.
    """
    found = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for limit in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with suppress(OSError, ValueError):  # not there, or "max"
            found = min(found, int(Path(limit).read_text(encoding="ascii")))
    return found


def require_memory(needed: int, what: str, cure: str) -> None:
    """
    Raises:
        PotstillError: ``what`` would take more bytes than this machine has memory.
    """
    if needed > (most := machine_memory()):
        raise PotstillError(
            f"{what} would take {needed / 2**30:,.1f} GiB, but this machine has {most / 2**30:,.1f} GiB of memory; "
            f"{cure}"
        )
