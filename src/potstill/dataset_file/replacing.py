"""What a set may replace: the set of the same run alone. Everything else that is there needs to be said."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from potstill._util.input_limits import limits
from potstill._util.outputs import check_output
from potstill.dataset_file.checkpoint import differences
from potstill.dataset_file.files import parse_json, read_metadata
from potstill.errors import PotstillError

__all__ = ["SUFFIX", "check_side_file", "describe_conflict", "hash_run", "is_set_file", "read_metadata_unchecked"]

SUFFIX = (".safetensors",)
"""Of the file of a set."""
_SAID = ("method", "config", "seed", "ipc", "balance", "network", "limits", "own_files", "initial", "class_shards")
"""What a card says of the run that made it, and what is named where two differ."""
_OPTIONAL = ("own_files", "initial", "class_shards")
"""Of these what a card without them has none of."""
_DERIVED = ("decoder",)
"""Of an identity: what follows from the rest of it, and is known only later."""


def hash_run(identity: Mapping[str, Any], more: Mapping[str, Any]) -> str:
    """Return the SHA-256 of all that decides what a run makes.

    Args:
        identity: of the run, as a checkpoint has it.
        more: limits, the codec and the like, which a checkpoint may be gone on with under others.
    """
    kept = {name: value for name, value in identity.items() if name not in _DERIVED}
    return hashlib.sha256(json.dumps([kept, more], sort_keys=True, default=str).encode()).hexdigest()


def read_metadata_unchecked(path: Path) -> dict[str, Any] | None:
    """Return the card of the set or selection at ``path``, unchecked; ``None`` where no card is."""
    try:
        card = parse_json(read_metadata(path, limits().set_bytes).get("card", "null"))
    except (PotstillError, ValueError):
        return None
    return card if isinstance(card, dict) and str(card.get("format", "")).startswith("potstill") else None


def is_set_file(path: Path) -> bool:
    """Tell whether the file at ``path`` is a set or selection."""
    return path.is_file() and read_metadata_unchecked(path) is not None


def describe_conflict(path: Path, card: Mapping[str, Any]) -> str:
    """Say what is at ``path`` instead of a set of the run on ``card``; nothing, where it is one."""
    there = read_metadata_unchecked(path)
    if there is None:
        return "is there already, and is no set that Potstill wrote"
    digests = there.get("run_digest"), card.get("run_digest")
    if digests[0] == digests[1] is not None:
        return ""
    told = _told(there, card)
    if not told and digests == (None, None):  # neither was distilled: imported, or put together by hand
        return ""
    shown = "; ".join(told[:3]) or f"by {str(there.get('method'))[:80]}, by other options or of other files"
    return f"holds the set of another run ({shown}{f' and {len(told) - 3} more' if len(told) > 3 else ''})"


def _told(there: Mapping[str, Any], card: Mapping[str, Any]) -> list[str]:
    """Return what the card says otherwise than the one that is there."""
    names = [name for name in _SAID if name in card or name in _OPTIONAL]
    known = "method" in card
    if there.get("method") != card.get("method"):
        names = [name for name in names if name not in ("config", "network")]  # which are another's anyway
    old, new = ({"data": _data(one), **{name: one.get(name) for name in names}} for one in (there, card))
    return sorted(differences(old, new), key=lambda said: not said.startswith("method ")) if known else []


def _data(card: Mapping[str, Any]) -> Any:
    source = card.get("source")
    return source.get("hash") if isinstance(source, Mapping) else None


def check_side_file(path: str | Path | None, reads: tuple[object, ...], kind: str) -> None:
    """Check where a run keeps what is under way: its ``checkpoint``, or its ``film``.

    Raises:
        PotstillError: something else lies there, such as a file that is read.
    """
    if path is None or not Path(path).is_file():
        return

    def found(at: Path) -> str:
        if at.suffix == f".{kind}":
            return ""
        try:
            said = read_metadata(at, 2**48)
        except PotstillError:
            said = {}
        return "" if kind in said else f"is there already, and is no {kind} of a run"

    check_output(path, reads=reads, found=found)
