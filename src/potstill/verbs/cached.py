"""The cache: what is in it, whether it is whole, and less of it.

It is safe between processes and machines on one file system: files are written beside and renamed, who writes one
holds its lock, and a name says all that its content depends on. So anything in it may be deleted at any time; what a
run then lacks it makes again.
"""

import contextlib
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from potstill.errors import PotstillError
from potstill.folders import cache_folder
from potstill.locks import is_free
from potstill.verbs.verify import Verdict, verify

__all__ = ["Kept", "kept", "prune", "verify_cache"]

DAY = 86_400.0


@dataclass(frozen=True, kw_only=True)
class Kept:
    """What the cache holds of one kind."""

    kind: str
    files: int
    bytes: int
    used: float
    """Days since the last of it was read or written, as far as the file system keeps that."""

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return {"kind": self.kind, "files": self.files, "bytes": self.bytes, "used_days_ago": round(self.used, 2)}


def kept(folder: str | Path | None = None) -> list[Kept]:
    """By kind, the largest first.

    Args:
        folder: of the cache, if not `potstill.folders.cache_folder`.
    """
    folder, now, found = Path(folder or cache_folder()), time.time(), dict[str, list[tuple[int, float]]]()
    for path in _files(folder):
        with contextlib.suppress(OSError):  # another process has removed it meanwhile
            said = path.stat()
            kind = path.relative_to(folder).parts[0]
            found.setdefault(kind, []).append((said.st_size, max(said.st_mtime, said.st_atime)))
    rows = [
        Kept(
            kind=kind, files=len(each), bytes=sum(size for size, _ in each),
            used=max(0.0, now - max(at for _, at in each)) / DAY,
        )
        for kind, each in found.items()
    ]  # fmt: skip
    return sorted(rows, key=lambda row: (-row.bytes, row.kind))


def verify_cache(folder: str | Path | None = None) -> list[Verdict]:
    """A verdict for each file of the cache; see `potstill.verbs.verify`."""
    folder = Path(folder or cache_folder())
    return verify(folder) if folder.is_dir() else []


def prune(
    folder: str | Path | None = None, *, kind: str | None = None, unused_days: float | None = None,
    at_most: int | None = None, damaged: bool = False,
) -> tuple[int, int]:  # fmt: skip
    """Delete files, those first that were used longest ago, and what killed processes left behind in any case.

    Args:
        kind: of this kind alone, such as ``trajectories``.
        unused_days: those that nobody used for so many days.
        at_most: until no more bytes are left (of that kind).
        damaged: those that are not whole.

    Returns:
        Files and bytes that were deleted.

    Raises:
        PotstillError: there is no such kind.
    """
    folder = Path(folder or cache_folder())
    if kind is not None and not (folder / kind).is_dir():
        there = ", ".join(sorted(row.kind for row in kept(folder))) or "nothing"
        raise PotstillError(f"the cache {folder} holds no {kind!r}; there is {there}")
    now, gone, freed = time.time(), 0, 0
    broken = {v.path for v in verify_cache(folder) if v.problem} if damaged else set()
    found = []
    for path in _files(folder, hidden=True):
        with contextlib.suppress(OSError):
            said = path.stat()
            if path.name.startswith("."):
                if _abandoned(path):
                    path.unlink()
                    gone, freed = gone + 1, freed + said.st_size
            elif kind in (None, path.relative_to(folder).parts[0]):
                found.append((max(said.st_mtime, said.st_atime), said.st_size, path))
    left = sum(size for _, size, _ in found)
    for used, size, path in sorted(found):
        old = unused_days is not None and now - used > unused_days * DAY
        if old or (at_most is not None and left > at_most) or str(path) in broken:
            with contextlib.suppress(OSError):
                path.unlink()
                gone, freed, left = gone + 1, freed + size, left - size
    return gone, freed


def _files(folder: Path, hidden: bool = False) -> list[Path]:
    """The files of the kinds' folders; links are not followed."""
    if not folder.is_dir():
        return []
    return [
        path
        for path in sorted(folder.glob("*/**/*"))
        if path.is_file() and not path.is_symlink() and (hidden or not path.name.startswith("."))
    ]


def _abandoned(path: Path) -> bool:
    """Whether what is being written is written by nobody: no living process has its lock. An unfinished expert, with
    its ``.progress``, is what a run goes on with, and stays."""
    if path.suffix != ".part" or path.with_suffix(".progress").exists():
        return False
    with open(path, "r+b") as file:
        return is_free(file.fileno(), untold=False)
