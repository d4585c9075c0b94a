"""How much there is, and what asks for more: refused in a line before anything is allocated."""

import os
from contextlib import suppress
from pathlib import Path

from potstill.errors import PotstillError

__all__ = ["memory_of_machine", "room"]


def memory_of_machine() -> int:
    """Bytes of memory that this machine, or the container that this runs in, has in all.

    What is free would be another number from run to run, and with it the choice, the hash of the data and all that is
    kept by it.
    """
    found = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for limit in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with suppress(OSError, ValueError):  # not there, or "max"
            found = min(found, int(Path(limit).read_text(encoding="ascii")))
    return found


def room(needed: int, what: str, cure: str) -> None:
    """
    Raises:
        PotstillError: ``what`` would take more bytes than this machine has memory.
    """
    if needed > (most := memory_of_machine()):
        raise PotstillError(
            f"{what} would take {needed / 2**30:,.1f} GiB, but this machine has {most / 2**30:,.1f} GiB of memory; "
            f"{cure}"
        )
