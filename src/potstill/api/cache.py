"""List, verify and prune the cache.

It is safe between processes and machines on one file system: files are written beside and renamed, who writes one
holds its lock, and a name says all that its content depends on. What a run then lacks it makes again; what it has in
use stays until it ends (`potstill._util.cache`).
"""

import contextlib
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from potstill._util.cache import CACHE_FOLDERS, cached_files, foreign_entries, is_cache, used_by_others
from potstill._util.cache_dir import cache_dir
from potstill._util.file_lock import try_lock
from potstill.api.verify import Verdict, verify
from potstill.errors import PotstillError

__all__ = ["CacheUsage", "list_cache", "prune", "verify_cache"]

DAY = 86_400.0


@dataclass(frozen=True, kw_only=True)
class CacheUsage:
    """Number and size of the cached files of one kind."""

    kind: str
    files: int
    bytes: int
    used: float
    """Days since the last of it was read or written, as far as the file system keeps that."""

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return {"kind": self.kind, "files": self.files, "bytes": self.bytes, "used_days_ago": round(self.used, 2)}


def list_cache(folder: str | Path | None = None) -> list[CacheUsage]:
    """Return the cached files by kind, the largest first.

    Args:
        folder: of the cache, if not `potstill._util.cache_dir.cache_dir`.
    """
    folder, now, found = Path(folder or cache_dir()), time.time(), dict[str, list[tuple[int, float]]]()
    for kind, path in cached_files(folder):
        with contextlib.suppress(OSError):  # another process has removed it meanwhile
            last, size = _use(path)
            found.setdefault(kind, []).append((size, last))
    rows = [
        CacheUsage(
            kind=kind, files=len(each), bytes=sum(size for size, _ in each),
            used=max(0.0, now - max(at for _, at in each)) / DAY,
        )
        for kind, each in found.items()
    ]  # fmt: skip
    return sorted(rows, key=lambda row: (-row.bytes, row.kind))


def verify_cache(folder: str | Path | None = None) -> list[Verdict]:
    """A verdict for each file of the cache; see `potstill.api.verify`."""
    folder = Path(folder or cache_dir())
    return verify(folder) if folder.is_dir() else []


def prune(
    folder: str | Path | None = None, *, kind: str | None = None, unused_days: float | None = None,
    at_most: int | None = None, damaged: bool = False,
) -> tuple[int, int]:  # fmt: skip
    """Delete files, those first that were used longest ago, and what killed processes left behind in any case.

    Only files that Potstill keeps there are deleted, by their kinds and names, none through a link, and none that a
    living process has in use.

    Args:
        kind: of this kind alone, such as ``trajectories``.
        unused_days: those that nobody used for so many days.
        at_most: until no more bytes are left (of that kind).
        damaged: those that are not whole.

    Returns:
        Files and bytes that were deleted.

    Raises:
        PotstillError: there is no such kind, or the folder holds other things and is not marked as a cache.
    """
    folder = Path(folder or cache_dir())
    if not is_cache(folder):
        raise PotstillError(
            f"{folder}: is not marked as a cache of Potstill, and holds {foreign_entries(folder)[0][:80]!r}; nothing "
            "was "
            "deleted: give POTSTILL_CACHE a folder of its own, or delete by hand"
        )
    if kind is not None and (kind not in CACHE_FOLDERS or not (folder / kind).is_dir()):
        there = ", ".join(sorted(row.kind for row in list_cache(folder))) or "nothing"
        raise PotstillError(f"the cache {folder} holds no {kind!r}; there is {there}")
    now, gone, freed = time.time(), 0, 0
    broken = {v.path for v in verify_cache(folder) if v.problem} if damaged else set()
    found = []
    for _, path in cached_files(folder, parts=True):
        with contextlib.suppress(OSError):
            size = path.stat().st_size
            if _abandoned(path):
                path.unlink()
                gone, freed = gone + 1, freed + size
    for of, path in cached_files(folder):
        with contextlib.suppress(OSError):
            if kind in (None, of):
                found.append((*_use(path), path))
    used = used_by_others(folder)  # as late as can be
    found = [one for one in found if one[2] not in used]
    left = sum(size for _, size, _ in found)
    for last, size, path in sorted(found):
        old = unused_days is not None and now - last > unused_days * DAY
        if old or (at_most is not None and left > at_most) or str(path) in broken:
            with contextlib.suppress(OSError):
                path.unlink()
                gone, freed, left = gone + 1, freed + size, left - size
    return gone, freed


def _use(path: Path) -> tuple[float, int]:
    """Return the time of the last use of a file, and its bytes."""
    status = path.stat()
    return max(status.st_mtime, status.st_atime), status.st_size


def _abandoned(path: Path) -> bool:
    """Tell whether an unfinished file has no living writer: no process holds its lock. An unfinished expert, with its
    ``.progress``, is what a run goes on with, and stays."""
    if path.suffix != ".part" or path.with_suffix(".progress").exists():
        return False
    with open(path, "r+b") as file:
        return try_lock(file.fileno(), unsupported=False)
