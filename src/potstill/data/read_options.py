"""The options by which data are read, as one value: on `Splits`, and on the card of every set made of them."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch

from potstill.core import Task
from potstill.data.train_test_overlap import Duplicates
from potstill.errors import PotstillError

__all__ = ["ReadOptions", "check_read_options", "describe_option_changes", "merge_read_options"]

_HERE = ("root", "device", "check_cache")
"""Options that say where data are, not what they are: they are on no card."""
_TEXTS = ("task", "group")
"""Options that are on a card only where they are texts."""
_NAMES: Mapping[str, str] = {"seed": "split_seed"}
"""Fields that `potstill.load_data` and cards call otherwise."""
_TYPES: Mapping[str, type | tuple[type, ...]] = {
    "label": str, "task": str, "split_seed": int, "test_fraction": (int, float), "size": list, "skip_bad": bool,
    "stream": bool, "series": str, "missing": str, "mirror": bool, "duplicates": str, "group": str,
}  # fmt: skip
"""What a card may hold, by the names of `potstill.load_data`."""

_LONGEST, _REPEATS = 200, 3
"""Characters and repeats of a regular expression that a card may bring; a person's own has no such limits."""


@dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """The options of `potstill.load_data`, checked where a value can be checked without the data."""

    label: str | None = None
    """The column of labels or targets, or of texts."""
    task: str | Task | None = None
    """What is to be learned; ``None``: classes."""
    root: Path | None = None
    """Folder of the standard files of known names."""
    seed: int = 0
    """Draws the test split where there is none."""
    test_fraction: float = 0.2
    """Size of that split, in [0, 1)."""
    size: tuple[int, int] | None = None
    """Height and width of pictures."""
    skip_bad: bool = False
    """Leave files out that cannot be read."""
    stream: bool | None = None
    """Decode pictures when they are needed; ``None``: where memory does not hold them."""
    missing: str | None = None
    """``impute``, ``drop`` or ``refuse`` missing values of a table."""
    series: str | None = None
    """The column that says which of several series a row belongs to."""
    mirror: bool | None = None
    """Whether a mirrored picture is still of its class; ``None``: as is known of the data."""
    duplicates: Duplicates | None = None
    """Copies across the split that are looked for."""
    group: str | tuple[Any, ...] | None = None
    """Column, regular expression or ``parent`` that says which samples are related; or each sample's group."""
    check_cache: bool = False
    """Compare contents of files that were decoded before."""
    device: torch.device | str = "cpu"
    """Device of the sources."""

    def to_json(self) -> dict[str, Any]:
        """The options that differ from their defaults and say what the data are, by the names of `load_data`."""
        found: dict[str, Any] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name in _HERE or (field.name in _TEXTS and not isinstance(value, str)) or value == field.default:
                continue
            found[_NAMES.get(field.name, field.name)] = list(value) if isinstance(value, tuple) else value
        return found


def check_read_options(value: object) -> dict[str, Any]:
    """The options of a card, as keywords of `potstill.load_data`.

    Raises:
        PotstillError: it is no mapping of known options to values of their types.
    """
    if not isinstance(value, Mapping):
        raise PotstillError("the card's reading must be a JSON object of options; get the file again")
    for name, option in value.items():
        kind = _TYPES.get(name)
        if kind is None or not isinstance(option, kind) or (isinstance(option, bool) and kind is not bool):
            raise PotstillError(f"the card's reading has no valid {str(name)[:40]!r}; get the file again")
        if isinstance(option, list) and (len(option) != 2 or not all(type(side) is int for side in option)):
            raise PotstillError("the card's reading has no valid 'size'; get the file again")
    if "group" in value and not _is_quick(value["group"]):
        raise PotstillError(
            f"the card's reading groups by {value['group'][:60]!r}, a regular expression that may search for very "
            "long; if you trust it, give it yourself with `group=REGEX`"
        )
    return {name: tuple(option) if name == "size" else option for name, option in value.items()}


def _is_quick(pattern: str) -> bool:
    """Whether a stranger's regular expression takes steps that grow slowly with a path's length, whatever the path.

    No repeated group, no reference back and at most `_REPEATS` repeats: then there are at most as many ways to share a
    path out among the repeats as its length to the power of their number.
    """
    plain = re.sub(r"\\.|\[\^?\]?[^\]]*\]", "x", pattern)  # what stands escaped or in a class is one character
    repeats = len(re.findall(r"[*+?{]", re.sub(r"\(\?", "(", plain)))
    back = re.search(r"\\[1-9]|\(\?P=|\(\?\(", pattern)
    return len(pattern) <= _LONGEST and repeats <= _REPEATS and back is None and not re.search(r"\)[*+?{]", plain)


def merge_read_options(
    card: Mapping[str, Any], given_options: Mapping[str, Any]
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Keywords of `potstill.load_data`: those given, else those on the card of a set; and a note on the card's part.

    Args:
        card: of a set that was made of the data.
        given: options that were asked for now; ``None`` is none.

    Raises:
        PotstillError: the card's reading is not valid.
    """
    held = card.get("reading", {})
    if isinstance(held, Mapping) and given_options.get("group") is not None:  # the card's is not used, whatever it is
        held = {name: value for name, value in held.items() if name != "group"}
    read = check_read_options(held)
    carded = {name: read[name] for name in _TYPES if name in read}  # in one order, whatever the file's is
    asked = {name: value for name, value in given_options.items() if value is not None}
    notes = []
    if used := {name: value for name, value in carded.items() if name not in asked}:
        options = ", ".join(f"{_words(name)} {_shown(value)}" for name, value in used.items())
        notes.append(f"read as the set was made: {options}")
    for name in (n for n in carded if n in asked):
        if _shown(asked[name]) != _shown(carded[name]):
            notes.append(
                f"{_words(name)} {_shown(asked[name])}, as given; the set was made with {_shown(carded[name])}"
            )
    return {**carded, **asked}, tuple(notes)


def describe_option_changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Say what differs between two cards' readings: ``size was 32x32 and now is 48x48``; empty where nothing does."""
    names = [_NAMES.get(f.name, f.name) for f in fields(ReadOptions)]
    standard = {_NAMES.get(f.name, f.name): f.default for f in fields(ReadOptions)}
    changes = []
    for name in names:
        was, is_now = (_shown(reading.get(name, standard[name])) for reading in (before, now))
        if was != is_now and (name in before or name in now):
            changes.append(f"{_words(name)} was {was} and now is {is_now}")
    return ", ".join(changes)


def _words(name: str) -> str:
    return name.replace("_", " ")


def _shown(value: object) -> str:
    if isinstance(value, list | tuple):
        return "x".join(map(str, value))
    if value is None:
        return "not given"
    return ("yes" if value else "no") if isinstance(value, bool) else str(value)
