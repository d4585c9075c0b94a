"""Folders taken out of a set's metadata before it is published."""

import copy
import re
import shlex
from typing import Any

from potstill.dataset_file.dataset import Distilled

__all__ = ["file_names_only", "without_folders"]

_START = r"(?:~[^/\\,]*|\.\.|[A-Za-z]:(?=[/\\]))?[/\\](?![/\\])"
"""Begin of a path that names a folder of somebody's machine: absolute, of a home, or above the working folder."""
_PATH = re.compile(rf"(?:^|(?<=[=:,])){_START}[^,]*")
_IN_TEXT = re.compile(rf"(?:^|(?<=[\s=:,('\"])){_START}[^,;\s'\")]*")


def without_folders(distilled: Distilled) -> Distilled:
    """Return the set with file names in place of paths in its command, and in the notes of its record.

    Tensors and settings are the same. A command that names no such path stays as it is.
    """
    published = copy.copy(distilled)
    command = distilled.metadata.get("command")
    if isinstance(command, str):
        published.metadata = {**distilled.metadata, "command": file_names_only(command)}
    source = distilled.record.get("source")
    if isinstance(source, dict) and isinstance(source.get("notes"), list):
        notes = [_IN_TEXT.sub(_last_part, note) if isinstance(note, str) else note for note in source["notes"]]
        published.record = {**distilled.record, "source": {**source, "notes": notes}}
    return published


def file_names_only(command: str) -> str | None:
    """Return a shell command with the last parts of its absolute paths, and of those that begin with ``~`` or ``..``.

    Relative paths, names of the Hub and addresses stay. ``None``: it is no shell command.
    """
    try:
        words = shlex.split(command)
    except ValueError:
        return None
    short = [word if "://" in word else _PATH.sub(_last_part, word) for word in words]
    return command if short == words else shlex.join(short)


def _last_part(match: re.Match[str]) -> Any:
    return re.split(r"[/\\]", match[0].rstrip("/\\"))[-1]
