"""Checks of output paths: nothing that is read is written over, and no file of others without ``force``.

The name must have the right suffix. The path must not be a file that is read (by a link, or by names that a file system
does not tell apart), nor lie in a folder that is read where it would become data. A file that is there is replaced if
Potstill wrote it and the same thing is made again; any other only with ``force``.
"""

import json
import os
import unicodedata
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from potstill._util.atomic_write import check_writable
from potstill._util.import_from_file import is_file_reference
from potstill._util.input_limits import limits
from potstill.errors import PotstillError

__all__ = [
    "PAGE_MARK",
    "REPLACE_HINT",
    "check_not_input",
    "check_output",
    "check_suffix",
    "describe_foreign_page",
    "history_path",
    "input_files",
    "read_json_object",
]

PAGE_MARK = "Made by Potstill"
"""Text in every page and figure that Potstill writes, by which it recognises them."""
REPLACE_HINT = "choose another path, or replace it with `force=True`"
"""End of the message where a file is there."""
_DATA = frozenset((
    ".arrow", ".bmp", ".csv", ".flac", ".gif", ".gz", ".jpeg", ".jpg", ".json", ".jsonl", ".mp3", ".mp4", ".npy",
    ".npz", ".parquet", ".png", ".ppm", ".pq", ".tar", ".tif", ".tiff", ".tsv", ".txt", ".wav", ".webp", ".xml",
))  # fmt: skip
"""Suffixes of files that are read as data in a data folder."""


def check_output(
    path: str | Path,
    *,
    suffixes: tuple[str, ...] = (),
    reads: Iterable[object] = (),
    force: bool = False,
    found: Callable[[Path], str] | None = None,
    in_data: bool = False,
) -> Path:
    """Check, before any work, that a file may be written, and return its path.

    Args:
        path: output path.
        suffixes: allowed endings of its name; empty: any.
        reads: inputs of the work: paths, names of data, ``FILE.py:NAME``, or values with ``files``.
        force: replace any file that is there, unless it is read.
        found: returns the end of a message ("holds …") for a file that may not be replaced, else an empty text;
            ``None``: no file that is there may be replaced.
        in_data: it may lie in a folder that is read.

    Raises:
        PotstillError: it may not or cannot be written.
    """
    path = Path(path)
    check_suffix(path, suffixes)
    check_not_input(path, reads, in_data=in_data)
    check_writable(path)
    if not force and path.exists():
        other = "is there already, and is nothing that is known to be made again" if found is None else found(path)
        if other:
            raise PotstillError(f"{path}: {other}; {REPLACE_HINT}")
    return path


def history_path(path: Path) -> Path:
    """Return the path of the record beside a set's file: ``NAME.history.json``."""
    return path.with_name(f"{path.name.removesuffix('.safetensors')}.history.json")


def check_suffix(path: Path, suffixes: tuple[str, ...]) -> None:
    """Check the ending of a file name.

    Raises:
        PotstillError: it is none of ``suffixes``.
    """
    if suffixes and not path.name.lower().endswith(suffixes):
        listed = " or ".join(suffixes)
        raise PotstillError(f"{path}: the file's name must end in {listed}; call it {path.stem or 'FILE'}{suffixes[0]}")


def check_not_input(path: Path, reads: Iterable[object], *, folder: bool = False, in_data: bool = False) -> None:
    """Check that an output is neither an input nor in an input folder where it would become data.

    Args:
        folder: the output is a folder.
        in_data: it may lie in a folder that is read.

    Raises:
        PotstillError: it is.
    """
    paths = _paths(reads)
    for one in [*paths, *(history_path(one) for one in paths if one.suffix == ".safetensors")]:
        try:
            same, inside = _is_same(path, one), _is_within(path, one)
        except (OSError, ValueError, RuntimeError):  # no path that a file can have: whoever reads or writes it says so
            continue
        if same:
            raise PotstillError(f"{path}: is read as {one}, and would be written over; choose another path")
        if inside and not in_data and (folder or path.suffix.lower() in _DATA):
            raise PotstillError(
                f"{path}: lies in {one}, and would become a part of what is read there; choose another path"
            )


def input_files(reads: Iterable[object]) -> tuple[str, ...]:
    """Return the absolute paths of existing files and folders among the inputs."""
    return tuple(os.path.abspath(path) for path in _paths(reads) if os.path.lexists(path))


def _paths(reads: Iterable[object]) -> list[Path]:
    """Return the paths among the inputs."""
    paths: list[Path] = []
    for one in reads:
        if isinstance(one, Path):
            paths.append(one.expanduser() if str(one).startswith("~") else one)
        elif isinstance(one, str) and not one.startswith("hub:"):
            file = one.rpartition(":")[0] if is_file_reference(one) and ":" in one else one
            paths.append(Path(os.path.expanduser(file)))
        elif isinstance(one, tuple | list):
            paths += _paths(item for item in one if isinstance(item, str | Path))
        elif not isinstance(one, type) and isinstance(files := getattr(one, "files", None), tuple):
            paths += map(Path, files)
            if isinstance(path := getattr(one, "path", None), Path):
                paths.append(path)
    return paths


def _is_same(path: Path, other: Path) -> bool:
    """Return True if two paths are one file on some file system: by links, or by names that differ in case or form."""
    if path.exists() and other.exists() and os.path.samefile(path, other):
        return True
    return _folded(path) == _folded(other)


def _is_within(path: Path, folder: Path) -> bool:
    inner, outer = _folded(path), _folded(folder)
    return folder.is_dir() and len(inner) > len(outer) and inner[: len(outer)] == outer


def _folded(path: Path) -> tuple[str, ...]:
    """Return the parts of a resolved path, ignoring case and Unicode form."""
    return tuple(unicodedata.normalize("NFC", part).casefold() for part in path.resolve().parts)


def read_json_object(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file, or an empty one where there is none."""
    try:
        if path.stat().st_size > limits().json_bytes:
            return {}
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def describe_foreign_page(path: Path) -> str:
    """Return a message for a page or figure that Potstill did not write; an empty text otherwise."""
    try:
        with path.open("rb") as file:
            ours = any(PAGE_MARK.encode() in block for block in iter(lambda: file.read(2**24), b""))
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    return "" if ours else "is there already, and Potstill did not make it"
