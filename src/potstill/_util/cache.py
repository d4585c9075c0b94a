"""Cache folder: marked with ``CACHEDIR.TAG``, with one subfolder per type of entry and files of known names.

Everything else in it belongs to somebody else, as does everything behind a link.
"""

import atexit
import contextlib
import os
import re
import secrets
import threading
from collections.abc import Iterator
from pathlib import Path

from potstill._util.cache_dir import cache_dir
from potstill._util.file_lock import lock_file, try_lock

__all__ = [
    "CACHE_FOLDERS",
    "cached_files",
    "foreign_entries",
    "is_cache",
    "make_cache_folder",
    "mark_in_use",
    "used_by_others",
]

CACHE_FOLDERS = (
    "bases", "decoders", "encoders", "full", "generators", "native", "networks", "orders", "pictures", "records",
    "trajectories",
)  # fmt: skip
"""Subfolders of the cache."""
TAG = "CACHEDIR.TAG"
_TAG_TEXT = (
    "Signature: 8a477f597d28d172789f06886806bc55\n"
    "# This folder is the cache of Potstill: whatever is in it can be made again.\n"
    "# See https://bford.info/cachedir/\n"
)
_USE = ".in-use"
_HEX = "[0-9a-f]{64,72}"
_NAMES = {
    "native": re.compile(r"[\w.-]*-[0-9a-f]{64}\.so"),
    "records": re.compile(rf"{_HEX}/((rows|network)-\d{{5}}|state)\.safetensors|{_HEX}\.\w+"),
}
_NAME = re.compile(rf"{_HEX}\.\w+")
_PART = re.compile(rf"({_HEX}/)?\.([^/]{{1,41}}\.[0-9a-f]{{12}}\.part|{_HEX}(\.\w+)?\.(part|progress)|\w{{8}}\.part)")
_lock = threading.Lock()
_leases: dict[tuple[int, Path], int] = {}
"""Open lease file of each process and cache, which lists the entries in use."""


def make_cache_folder(folder: Path) -> None:
    """Create a subfolder of the cache, and mark a new cache.

    Raises:
        OSError: it cannot be created.
    """
    root = cache_dir()
    if folder.is_relative_to(root) and is_cache(root):
        with contextlib.suppress(OSError):  # marked already; or it cannot be, and then nor can the folder in it
            root.mkdir(parents=True, exist_ok=True)
            with open(root / TAG, "x") as file:
                file.write(_TAG_TEXT)
    folder.mkdir(parents=True, exist_ok=True)


def is_cache(root: Path) -> bool:
    """Return True for a folder that is marked as a cache or has nothing else in it."""
    try:
        with open(root / TAG) as file:
            return "cache of Potstill" in file.read(len(_TAG_TEXT))
    except (OSError, ValueError):
        return not foreign_entries(root)


def foreign_entries(root: Path) -> list[str]:
    """Return the names in the folder that are no part of a cache."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError), os.scandir(root) as entries:
        return sorted(
            entry.name for entry in entries
            if entry.name not in (TAG, _USE)
            and not (entry.name in CACHE_FOLDERS and entry.is_dir(follow_symlinks=False))
        )  # fmt: skip
    return []


def cached_files(root: Path, *, parts: bool = False) -> Iterator[tuple[str, Path]]:
    """Yield subfolder and path of every cache file, without following links.

    Args:
        parts: yield unfinished files instead.
    """
    for kind in CACHE_FOLDERS:
        wanted = _PART if parts else _NAMES.get(kind, _NAME)
        for path in _below(root / kind):
            if wanted.fullmatch(path.relative_to(root / kind).as_posix()):
                yield kind, path


def _below(folder: Path, depth: int = 2) -> list[Path]:
    """Return the regular files in a folder and its subfolders, ordered by name."""
    files: list[Path] = []
    if folder.is_symlink():
        return files
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda one: one.name):
            if entry.is_file(follow_symlinks=False):
                files.append(Path(entry.path))
            elif depth > 1 and entry.is_dir(follow_symlinks=False):
                files += _below(Path(entry.path), depth - 1)
    return files


def mark_in_use(path: Path) -> None:
    """Record that this process reads a cache file until it ends, so that nothing prunes it.

    Does nothing in a cache that cannot be written or on a system without locks.
    """
    root = cache_dir()
    if not path.is_relative_to(root):
        return
    key = os.getpid(), root  # a process that was forked says it in a file of its own
    with _lock, contextlib.suppress(OSError):
        if key not in _leases:
            (root / _USE).mkdir(parents=True, exist_ok=True)
            lease = root / _USE / f"{key[0]}-{secrets.token_hex(6)}"
            made = lock_file(lease)
            if made is None:
                return
            _leases[key] = made
            atexit.register(_ended, key, lease)
        os.write(_leases[key], f"{path.relative_to(root).as_posix()}\n".encode())


def _ended(key: tuple[int, Path], lease: Path) -> None:
    """Remove the lease file of this process at its end; pruning removes those of killed processes."""
    if key[0] == os.getpid():
        with contextlib.suppress(OSError):
            lease.unlink()


def used_by_others(root: Path) -> set[Path]:
    """Return the files that living processes use, and remove the leases of dead ones."""
    used_files: set[Path] = set()
    with contextlib.suppress(FileNotFoundError, NotADirectoryError), os.scandir(root / _USE) as entries:
        for entry in entries:
            if not entry.is_file(follow_symlinks=False) or not re.fullmatch(r"\d+-[0-9a-f]{12}", entry.name):
                continue
            with contextlib.suppress(OSError):
                used_files |= _leased_files(root, Path(entry.path))
    return used_files


def _leased_files(root: Path, lease: Path) -> set[Path]:
    """Return the files that one lease lists; none, and the lease is removed, if its process has ended."""
    descriptor = os.open(lease, os.O_RDWR | getattr(os, "O_NOFOLLOW", 0))
    try:
        if try_lock(descriptor, unsupported=False):
            lease.unlink()
            return set()
        with os.fdopen(os.dup(descriptor), "rb") as file:
            file.seek(0)
            return {root / line for line in file.read().decode(errors="replace").splitlines()}
    finally:
        os.close(descriptor)
