"""Result of one part of an audit, and the file that holds the parts of a set."""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from potstill._util.outputs import check_output, read_json_object
from potstill.dataset_file import write_atomic

__all__ = [
    "AUDIT_SUFFIX", "FORMAT", "Audit", "AuditTable", "check_audit_output", "write_audit", "write_left_out",
]  # fmt: skip

FORMAT = "potstill/audit/1"
AUDIT_SUFFIX = "audit.json"
"""Ending of the file that holds the audits of a set."""


@dataclass(frozen=True, kw_only=True)
class AuditTable:
    """A table of an audit; the first cell of a row names it."""

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {"caption": self.caption, "head": list(self.head), "rows": [list(row) for row in self.rows]}


@dataclass(frozen=True, kw_only=True)
class Audit:
    """Result of one part of an audit: an answer in a sentence, the tables behind it, and the values behind those."""

    part: str
    """``privacy``, ``fairness``, ``screening``, ``robustness``, ``poisoning`` or ``provenance``."""
    sentence: str
    """The answer in one or two sentences, with its number and interval."""
    tables: Sequence[AuditTable] = ()
    notes: Sequence[str] = ()
    """Reasons why something was not measured, and limits of the numbers."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """JSON values: everything that decides the result beside set and data."""
    values: Mapping[str, Any] = field(default_factory=dict)
    """JSON values: unrounded results with n and intervals."""
    seconds: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "sentence": self.sentence, "tables": [t.to_json() for t in self.tables], "notes": list(self.notes),
            "settings": dict(self.settings), "values": dict(self.values), "seconds": round(self.seconds, 2),
        }  # fmt: skip


def check_audit_output(out: Path, file: Path, *, reads: Sequence[object] = (), force: bool = False) -> None:
    """Check, before any work, that the audit of the set at ``file`` may be written to ``out``.

    Args:
        reads: other inputs, which are never written over.
        force: replace any file that is there.

    Raises:
        PotstillError: another file is there, or the audit of another set.
    """
    check_output(
        out, suffixes=(f".{AUDIT_SUFFIX}",), reads=[file, *reads], force=force, found=lambda at: _other_audit(at, file)
    )


def _other_audit(path: Path, file: Path) -> str:
    """Say what is at ``path`` instead of an audit of the set at ``file``."""
    held = read_json_object(path)
    if not str(held.get("format", "")).startswith("potstill/audit/"):
        return "is there already, and is no audit of a set"
    return (
        "" if held.get("sha256") == _digest(file) else f"holds the audit of another set, {str(held.get('file'))[:80]}"
    )


def _digest(file: Path) -> str:
    """Return the hash of a set's file."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def write_audit(out: Path, file: Path, audit: Audit, *, command: str = "") -> None:
    """Write a part into the audit of the set at ``file``, with date and versions; other parts of the same set stay.

    Args:
        out: path of the audit, which may exist.
        command: the command line, for the page.

    Raises:
        PotstillError: it cannot be written.
    """
    parts, left_out = _read_parts(out, file)
    parts[audit.part] = {
        **audit.to_json(), "date": datetime.now(UTC).date().isoformat(),
        "versions": {name: version(name) for name in ("potstill", "torch")},
        **({"command": command} if command else {}),
    }  # fmt: skip
    left_out.pop(audit.part, None)
    _write(out, file, parts, left_out)


def write_left_out(out: Path, file: Path, left_out: Mapping[str, str]) -> None:
    """Write why parts were not run into the audit of the set at ``file``; parts that were run before stay.

    Raises:
        PotstillError: it cannot be written.
    """
    parts, before = _read_parts(out, file)
    _write(out, file, parts, {n: why for n, why in {**before, **left_out}.items() if n not in parts})


def _read_parts(out: Path, file: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the parts, and the reasons of those left out, in the audit of this set at ``out``."""
    held = read_json_object(out)
    if held.get("format") != FORMAT or held.get("sha256") != _digest(file):
        return {}, {}
    parts, left_out = held.get("parts"), held.get("left_out")
    return dict(parts) if isinstance(parts, dict) else {}, dict(left_out) if isinstance(left_out, dict) else {}


def _write(out: Path, file: Path, parts: Mapping[str, Any], left_out: Mapping[str, Any]) -> None:
    document = {
        "format": FORMAT, "file": os.path.relpath(file, out.parent), "sha256": _digest(file), "parts": dict(parts),
        **({"left_out": dict(left_out)} if left_out else {}),
    }  # fmt: skip
    write_atomic(out, (json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode())
