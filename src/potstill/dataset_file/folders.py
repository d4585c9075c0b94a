"""Atomic creation of folders."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from potstill._util.atomic_write import create_locked_part, os_error_text, sync_folder, sync_renamed
from potstill.errors import PotstillError

__all__ = ["write_folder"]

_MAX_SINGLE_SYNCS = 64


def write_folder(path: Path, fill: Callable[[Path], None]) -> None:
    """Fill a new folder under a temporary name and rename it; an empty folder in its place is replaced.

    Raises:
        PotstillError: the path is taken, or cannot be written; nothing is left behind.
    """
    try:
        target = path.resolve()
        if target.exists() and not (target.is_dir() and not any(target.iterdir())):
            raise PotstillError(f"{path}: is there already; choose another path or remove it first")
        if not target.parent.is_dir():
            raise PotstillError(f"{path}: its folder {path.parent} does not exist; make it or choose another path")
        part, descriptor = create_locked_part(target, _make)
        try:
            fill(part)
            _sync(part)
            if target.exists():
                target.rmdir()
            os.replace(part, target)
        finally:  # also when the user interrupts
            os.close(descriptor)
            shutil.rmtree(part, ignore_errors=True)
    except (OSError, ValueError) as error:
        raise PotstillError(
            f"{path}: could not be written ({os_error_text(error)}); free space or choose another path"
        ) from error
    sync_renamed(path, target.parent)


def _sync(part: Path) -> None:
    """Sync the files of a folder: one by one where they are few, else all at once."""
    files = [Path(folder, name) for folder, _, names in os.walk(part) for name in names]
    if len(files) > _MAX_SINGLE_SYNCS and hasattr(os, "sync"):
        os.sync()  # a wait for each of thousands would take minutes
        return
    for file in files:
        with open(file, "rb") as opened:
            os.fsync(opened.fileno())
    for folder, _, _ in os.walk(part):
        sync_folder(Path(folder))


def _make(part: Path) -> int:
    part.mkdir()
    return os.open(part, os.O_RDONLY)
