"""Record of a run beside the file of its set: history, choices and notes, in ``NAME.history.json``.

A set is whole without it. The record names the set by the ``sha256`` in the set's file, so that the record of another
set is recognised.
"""

import copy
import hashlib
import json
import os
import stat
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from potstill._util.atomic_write import os_error_text, write_atomic
from potstill._util.input_limits import check_limit
from potstill._util.outputs import check_output, history_path
from potstill._util.strict_json import parse_json
from potstill.errors import PotstillError, PotstillWarning

__all__ = [
    "RECORD_FORMAT",
    "check_record_output",
    "history_path",
    "is_record",
    "join_record",
    "read_history",
    "read_record",
    "split_record",
    "write_record",
]

RECORD_FORMAT = "potstill-history/1"
_MOVED: tuple[tuple[tuple[str, ...], type], ...] = (
    (("history",), list), (("choice",), dict), (("codec", "auto"), dict), (("source", "notes"), list),
    (("records",), list), (("nearest_texts",), list),
)  # fmt: skip
"""Parts of the metadata that are a record of the run, and their types."""


def split_record(metadata: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return metadata without the record of the run, and the record, in the shape of the metadata."""
    rest, record = dict(metadata), {}
    for (*outer, key), _ in _MOVED:
        if not outer:
            value = rest.pop(key, None)
            if value:
                record[key] = value
        elif isinstance(inner := rest.get(outer[0]), Mapping) and key in inner:
            rest[outer[0]] = {name: v for name, v in inner.items() if name != key}
            if inner[key]:
                record[outer[0]] = {key: inner[key]}
    return rest, record


def join_record(metadata: Mapping[str, Any], record: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy of the metadata with the record of the run in it."""
    joined = copy.deepcopy(dict(metadata))
    for key, value in copy.deepcopy(dict(record)).items():
        inner = joined.get(key)
        joined[key] = {**inner, **value} if isinstance(inner, dict) and isinstance(value, dict) else value
    return joined


def _invalid_key(record: Mapping[str, Any]) -> str | None:
    """Return a key of a record that is unknown or of the wrong type."""
    expected: dict[str, Any] = {}
    for (*outer, key), kind in _MOVED:
        expected[outer[0] if outer else key] = {key: kind} if outer else kind
    for key, value in record.items():
        allowed = expected.get(key, ())
        if isinstance(allowed, dict):
            valid = isinstance(value, dict) and all(isinstance(v, allowed.get(name, ())) for name, v in value.items())
        else:
            valid = isinstance(value, allowed)
        if not valid:
            return key
    if not all(isinstance(row, dict) for name in ("history", "records") for row in record.get(name, ())):
        return "history"
    if not all(isinstance(note, str) for note in record.get("source", {}).get("notes", ())):
        return "source.notes"
    return None


def write_record(path: Path, record: Mapping[str, Any], digest: str, run: object) -> None:
    """Write the record of the set that is to be at ``path``, atomically.

    Args:
        digest: ``sha256`` in the set's file.
        run: ``run_digest`` of the set's metadata, or ``None``.

    Raises:
        PotstillError: it cannot be written.
    """
    content = {"format": RECORD_FORMAT, "set": digest, "run": run, "record": record}
    text = json.dumps({**content, "sha256": _digest(content)}, sort_keys=True, allow_nan=False)
    check_limit("json_bytes", len(text), f"{history_path(path)}: its record")
    write_atomic(history_path(path), text.encode())


def _digest(content: Mapping[str, Any]) -> str:
    """Return the SHA-256 of everything in the file but this number."""
    sealed = {name: value for name, value in content.items() if name != "sha256"}
    return hashlib.sha256(json.dumps(sealed, sort_keys=True).encode()).hexdigest()


def is_record(content: object) -> bool:
    """Return whether parsed JSON says that it is a record of a run."""
    return isinstance(content, dict) and content.get("format") == RECORD_FORMAT


def read_history(path: Path) -> dict[str, Any]:
    """Return the validated content of a record's file, which may come from a stranger: ``set``, ``run``, ``record``.

    Raises:
        PotstillError: it cannot be read, is damaged, or of another format.
    """
    try:
        found = os.stat(path)
        if not stat.S_ISREG(found.st_mode):
            raise PotstillError(f"{path}: must be a file, but it is a folder, device or pipe; remove it")
        check_limit("json_bytes", found.st_size, str(path))
        content: dict[str, Any] | None = parse_json(path.read_bytes())
    except OSError as error:
        raise PotstillError(f"{path}: cannot be read ({os_error_text(error)}); remove it") from error
    except ValueError as error:
        raise PotstillError(f"{path}: not JSON that is whole ({str(error)[:80]}); remove it") from error
    if content is None or not is_record(content):
        raise PotstillError(f"{path}: no record of a run in format {RECORD_FORMAT}; remove it")
    record = content.get("record")
    if not isinstance(record, dict) or not isinstance(content.get("set"), str):
        raise PotstillError(f"{path}: lacks a valid 'record' or 'set'; remove it")
    if (key := _invalid_key(record)) is not None:
        raise PotstillError(f"{path}: its record has no valid {key[:40]!r}; remove it")
    if content.get("sha256") != _digest(content):
        raise PotstillError(f"{path}: damaged: its content is not the one that was written; remove it")
    return content


def read_record(path: Path, digest: str | None) -> dict[str, Any]:
    """Return the record beside the set at ``path``; empty: there is none, or it is of another set, with a warning.

    Args:
        digest: ``sha256`` in the set's file.

    Raises:
        PotstillError: the record is damaged or of another format.
    """
    beside = history_path(path)
    if not beside.exists():
        return {}
    content = read_history(beside)
    if digest is None or content["set"] != digest:
        warnings.warn(f"{beside}: is of another set than {path.name}, and is ignored", PotstillWarning, stacklevel=3)
        return {}
    record: dict[str, Any] = content["record"]
    return record


def check_record_output(path: Path, reads: Iterable[object], *, force: bool, run: object = None) -> None:
    """Check that the record of a set that is to be at ``path`` may be written.

    Args:
        run: ``run_digest`` of the set.

    Raises:
        PotstillError: it would replace an input, or a file that is no record of the set at ``path`` or of ``run``.
    """

    def conflict(at: Path) -> str:
        try:
            content = read_history(at)
        except PotstillError:
            return "is there already, and is no history that Potstill wrote"
        return "" if path.exists() or content.get("run") == run else "is the history of another set"

    check_output(history_path(path), reads=reads, force=force, found=conflict, in_data=True)
