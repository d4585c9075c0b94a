"""New folders that are there as a whole or not at all."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from potstill.errors import PotstillError
from potstill.storage.files import own_part, reason

__all__ = ["write_folder"]


def write_folder(path: Path, fill: Callable[[Path], None]) -> None:
    """A new folder, filled beside and renamed. An empty one in its place is replaced.

    Raises:
        PotstillError: something is there already, or it cannot be written; nothing is left behind then.
    """
    try:
        target = path.resolve()
        if target.exists() and not (target.is_dir() and not any(target.iterdir())):
            raise PotstillError(f"{path}: is there already; choose another path or remove it first")
        if not target.parent.is_dir():
            raise PotstillError(f"{path}: its folder {path.parent} does not exist; make it or choose another path")
        part, descriptor = own_part(target, _make)
        try:
            fill(part)
            if target.exists():
                target.rmdir()
            os.replace(part, target)
        finally:  # also when the user interrupts
            os.close(descriptor)
            shutil.rmtree(part, ignore_errors=True)
    except (OSError, ValueError) as error:
        raise PotstillError(
            f"{path}: could not be written ({reason(error)}); free space or choose another path"
        ) from error


def _make(part: Path) -> int:
    part.mkdir()
    return os.open(part, os.O_RDONLY)
