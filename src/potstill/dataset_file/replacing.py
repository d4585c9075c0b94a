"""Conflicts with files at an output path: a set replaces only the set of the same run, unless forced."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from potstill._util.card import parse_card
from potstill._util.input_limits import limits
from potstill._util.outputs import check_output
from potstill.dataset_file.checkpoint import differences
from potstill.dataset_file.files import read_metadata
from potstill.errors import PotstillError

__all__ = ["SUFFIX", "check_side_file", "describe_conflict", "hash_run", "is_set_file", "read_metadata_unchecked"]

SUFFIX = (".safetensors",)
_COMPARED = (
    "method", "config", "seed", "ipc", "balance", "network", "limits", "own_files", "initial", "class_shards",
    "real_weights", "regularizer",
)  # fmt: skip
"""Keys of the metadata that are named in a conflict."""
_OPTIONAL = ("own_files", "initial", "class_shards", "real_weights", "regularizer")
_DERIVED = ("decoder",)
"""Keys of an identity that follow from the others and are known only later."""


def hash_run(identity: Mapping[str, Any], more: Mapping[str, Any]) -> str:
    """Return a hash (the first half of SHA-256) of everything that decides the result of a run.

    Args:
        identity: of the run, as its checkpoint has it.
        more: settings that may change when a checkpoint is resumed: limits, codec.
    """
    essential = {name: value for name, value in identity.items() if name not in _DERIVED}
    return hashlib.sha256(json.dumps([essential, more], sort_keys=True, default=str).encode()).hexdigest()[:32]


def read_metadata_unchecked(path: Path) -> dict[str, Any] | None:
    """Return the metadata of the set or selection at ``path``, not validated; ``None``: the file is neither."""
    try:
        metadata = parse_card(read_metadata(path, limits().set_bytes))
    except (PotstillError, ValueError):
        return None
    is_ours = isinstance(metadata, dict) and str(metadata.get("format", "")).startswith("potstill")
    return metadata if is_ours else None


def is_set_file(path: Path) -> bool:
    """Return whether the file at ``path`` is a set or selection."""
    return path.is_file() and read_metadata_unchecked(path) is not None


def describe_conflict(path: Path, metadata: Mapping[str, Any]) -> str:
    """Return what is at ``path`` instead of a set of the run of ``metadata``; empty: such a set."""
    existing = read_metadata_unchecked(path)
    if existing is None:
        return "is there already, and is no set that Potstill wrote"
    digests = existing.get("run_digest"), metadata.get("run_digest")
    if digests[0] == digests[1] is not None:
        return ""
    changes = _describe_changes(existing, metadata)
    if not changes and digests == (None, None):  # neither was distilled: imported, or built by hand
        return ""
    summary = "; ".join(changes[:3]) or f"by {str(existing.get('method'))[:80]}, by other options or of other files"
    return f"holds the set of another run ({summary}{f' and {len(changes) - 3} more' if len(changes) > 3 else ''})"


def _describe_changes(existing: Mapping[str, Any], metadata: Mapping[str, Any]) -> list[str]:
    if "method" not in metadata:
        return []
    names = [name for name in _COMPARED if name in metadata or name in _OPTIONAL]
    if existing.get("method") != metadata.get("method"):
        names = [name for name in names if name not in ("config", "network")]  # they differ between methods anyway
    old, new = (
        {"data": _source_hash(card), **{name: card.get(name) for name in names}} for card in (existing, metadata)
    )
    return sorted(differences(old, new), key=lambda change: not change.startswith("method "))


def _source_hash(metadata: Mapping[str, Any]) -> Any:
    source = metadata.get("source")
    return source.get("hash") if isinstance(source, Mapping) else None


def check_side_file(path: str | Path | None, reads: tuple[object, ...], kind: str) -> None:
    """Check the path of a run's ``checkpoint`` or ``snapshots``.

    Raises:
        PotstillError: another file lies there, such as one that is read.
    """
    if path is None or not Path(path).is_file():
        return

    def conflict(at: Path) -> str:
        if at.suffix == f".{kind}":
            return ""
        try:
            metadata = read_metadata(at, 2**48)
        except PotstillError:
            metadata = {}
        return "" if kind in metadata else f"is there already, and is no {kind} of a run"

    check_output(path, reads=reads, found=conflict)
