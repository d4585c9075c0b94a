"""The card: what a set says of itself, checked before anything in it is believed."""

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from potstill.errors import PotstillError
from potstill.storage.files import parse_json

__all__ = ["FIRST", "FORMAT", "INDICES", "SIZES", "card_text", "plain", "read_card"]

FORMAT = "potstill/2"
FIRST = "potstill/1"
"""The first format: tensors as they are, in 32 and 64 bits. It is read, and no longer written."""
INDICES = "potstill-selection/2"
"""The format of a selection that is stored without its inputs."""
FIRST_INDICES = "potstill-selection/1"
MAX_CARD = 16 * 2**20
_KEYS: dict[str, type] = {
    "method": str, "config": dict, "seed": int, "ipc": int, "classes": list, "input": dict, "normalization": dict,
    "training": dict, "source": dict, "outcome": dict, "bytes": dict, "cost": dict, "versions": dict,
}  # fmt: skip
_INNER: dict[tuple[str, str], type] = {
    ("input", "units"): str, ("source", "name"): str, ("source", "hash"): str, ("source", "samples"): int,
    ("outcome", "kind"): str, ("outcome", "message"): str,
}  # fmt: skip
"""Types of what may be missing but not be something else."""
SIZES = ("inputs", "labels", "decoder", "total")
"""What the card's ``bytes`` always has."""


def plain(value: Any) -> Any:
    """``value`` as a reader of the card gets it: tuples as lists, and ``None`` for numbers that JSON lacks.

    Raises:
        TypeError: it holds something that is not JSON.
    """
    if isinstance(value, Mapping):
        return {str(name): plain(v) for name, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return json.loads(json.dumps(value))


def card_text(card: Mapping[str, Any]) -> str:
    """The card as it is stored: equal cards, equal text.

    Raises:
        PotstillError: it is too long to be read back.
    """
    text = json.dumps(card, sort_keys=True, ensure_ascii=False, allow_nan=False)
    if re.search(r"[\ud800-\udfff]", text):  # names of files that are not text: UTF-8 cannot hold them, escapes can
        text = json.dumps(card, sort_keys=True, allow_nan=False)
    if len(text) > MAX_CARD:
        raise PotstillError(
            f"the card has {len(text):,} characters, more than {MAX_CARD:,}; store less in config or extra"
        )
    return text


def read_card(path: Path, metadata: Mapping[str, str], *, indices: bool = False) -> dict[str, Any]:
    """The card of the file at ``path``, which must be a whole set, or the ``indices`` of a selection.

    Raises:
        PotstillError: there is none, it is of another format, or a part of it is missing or of the wrong type.
    """
    text = metadata.get("card")
    if text is None:
        raise PotstillError(f"{path}: a safetensors file without a card; only files that potstill saved are sets")
    if len(text) > MAX_CARD:
        raise PotstillError(f"{path}: its card has {len(text):,} characters, more than {MAX_CARD:,}; it is refused")
    try:
        card = parse_json(text)
    except ValueError as error:
        raise PotstillError(f"{path}: its card is not JSON; get the file again") from error
    if not isinstance(card, dict):
        raise PotstillError(f"{path}: its card must be a JSON object; get the file again")
    written = card.get("format")
    expected = (INDICES, FIRST_INDICES) if indices else (FORMAT, FIRST)
    if written in (INDICES, FIRST_INDICES) and not indices:
        raise PotstillError(
            f"{path}: holds the indices of a selection and not its samples; put them together with the data first: "
            "potstill rebuild FILE --data DATA --out SET.safetensors"
        )
    if written not in expected:
        newer = isinstance(written, str) and written.startswith("potstill")
        hint = "upgrade potstill to read it" if newer else "only files that potstill saved are sets"
        raise PotstillError(
            f"{path}: its format is {str(written)[:40]!r}, but this version reads {' and '.join(expected)}; {hint}"
        )
    if (wrong := _wrong(card)) is not None:
        raise PotstillError(f"{path}: its card lacks a valid {wrong!r}; get the file again")
    if not card["classes"] or not all(isinstance(c, str) for c in card["classes"]):
        raise PotstillError(f"{path}: the card's classes must be names; get the file again")
    if len(set(card["classes"])) != len(card["classes"]):
        raise PotstillError(f"{path}: the card names a class twice; get the file again")
    return dict(card)


def _is(value: Any, kind: type) -> bool:
    return isinstance(value, kind) and not (kind is int and isinstance(value, bool))


def _wrong(card: Mapping[str, Any]) -> str | None:
    """The first part that is missing or of the wrong type."""
    for key, kind in _KEYS.items():
        if not _is(card.get(key), kind):
            return key
    for (outer, inner), kind in _INNER.items():
        if inner in card[outer] and not _is(card[outer][inner], kind):
            return f"{outer}.{inner}"
    shape = card["input"].get("shape")
    if not isinstance(card["input"].get("kind"), str):
        return "input.kind"
    if not isinstance(shape, list) or not all(_is(d, int) and d >= 0 for d in shape):
        return "input.shape"
    for key in SIZES:
        if not _is(card["bytes"].get(key), int) or card["bytes"][key] < 0:
            return f"bytes.{key}"
    if not isinstance(card.get("space", ""), str):
        return "space"
    return None
