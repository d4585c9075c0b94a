"""Check that paths named by data stay within their folder."""

import itertools
import os
from pathlib import Path

from potstill.errors import PotstillError

__all__ = ["path_within"]

_LONGEST, _PART = 4096, 255
"""Letters of a path, and bytes of each name in it, that a file system may take."""


def path_within(folder: Path, name: object, where: str) -> Path:
    """Return the path of a file that data name, which must lie in ``folder`` or below.

    Names come from whoever made the data, so absolute paths, ``..`` and links must not lead to other files.

    Args:
        folder: folder of the data.
        where: place in the data, for the message.

    Raises:
        PotstillError: it is no path, or leads out of the folder.
    """
    shown = repr(name) if len(repr(name)) <= 80 else f"{repr(name)[:79]}…"
    try:
        if not isinstance(name, str) or not name:
            raise ValueError("a text is needed")
        if "\0" in name or len(name) > _LONGEST or any(len(os.fsencode(part)) > _PART for part in Path(name).parts):
            raise ValueError("it is too long, or holds a NUL")
        path = folder / name
        if _is_plain(folder, path):  # most are, and a set has a million of them
            return path
        inside = path.resolve().is_relative_to(folder.resolve())
    except (OSError, ValueError, RuntimeError) as error:  # too long, a NUL, links in a circle
        raise PotstillError(
            f"{where}: {shown} is not a path of a file ({_error_text(error)}); write the name of one"
        ) from None
    if not inside:
        raise PotstillError(f"{where}: {shown} leads out of the folder {folder}; keep the files of data within it")
    return path


def _is_plain(folder: Path, path: Path) -> bool:
    """Return True if ``path`` is below ``folder`` without ``..`` or links."""
    if not path.is_relative_to(folder) or ".." in path.parts[len(folder.parts) :]:
        return False
    below = itertools.takewhile(lambda at: at != folder, (path, *path.parents))
    return not any(os.path.islink(at) for at in below)


def _error_text(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
