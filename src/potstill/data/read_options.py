"""Options of reading data as one value, kept on `Splits` and in the metadata of every distilled set."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch

from potstill._util.progress import Callback
from potstill.core import Normalization, Task
from potstill.data.train_test_overlap import Duplicates
from potstill.errors import PotstillError

__all__ = ["ReadOptions", "check_read_options", "describe_option_changes", "merge_read_options"]

_HERE = ("root", "device", "check_cache", "normalization", "encode", "progress")
"""Options about this machine, not stored in the metadata."""
_TEXTS = ("task", "group", "attribute")
"""Options stored in the metadata only if they are texts."""
_NAMES: Mapping[str, str] = {"seed": "split_seed"}
"""Fields whose name in `potstill.load_data` and in the metadata differs."""
_TYPES: Mapping[str, type | tuple[type, ...]] = {
    "label": str, "task": str, "kind": str, "split_seed": int, "test_fraction": (int, float), "size": list,
    "skip_bad": bool, "stream": bool, "series": str, "text": str, "representation": str, "missing": str,
    "horizontal_flip": bool, "duplicates": str, "group": str, "attribute": str, "remove_columns": list, "targets": str,
}  # fmt: skip
"""Types of the options in the metadata, by the names of `potstill.load_data`."""

_LONGEST, _REPEATS = 200, 3
"""Largest length and number of repeats of a regular expression from a file; a user's own has no such limits."""


@dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """Options of `potstill.load_data`, checked as far as possible without the data."""

    label: str | None = None
    """Column of labels, targets or texts."""
    task: str | Task | None = None
    """The learning task; ``None``: classification."""
    kind: str | None = None
    """Kind of data, which chooses the loader; ``None``: as the data show."""
    root: Path | None = None
    """Folder of the files of known datasets."""
    seed: int = 0
    """Seed of the test split, if one is drawn."""
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
    remove_columns: tuple[str, ...] = ()
    """Columns of a table that are not read."""
    text: str | None = None
    """Column of texts."""
    representation: str | None = None
    """Representation of texts, such as ``latent:size=64``; ``None``: ``latent``."""
    encode: Callable[[list[str]], Any] | None = None
    """A user's own representation of texts: a function from a list of texts to an array (n, d)."""
    series: str | None = None
    """Column that names the series of each row."""
    horizontal_flip: bool | None = None
    """True if a mirrored image keeps its class; ``None``: as known of the data."""
    duplicates: Duplicates | None = None
    """Which copies across the split are looked for."""
    group: str | tuple[Any, ...] | None = None
    """Column, regular expression or ``parent`` that groups related samples; or the group of each sample."""
    attribute: str | tuple[Any, ...] | None = None
    """Column, regular expression or ``parent`` that says the attribute of each sample; or the values."""
    check_cache: bool = False
    """Compare the contents of files that were decoded before."""
    device: torch.device | str = "cpu"
    """Device of the sources."""
    normalization: Normalization | None = None
    """Normalization of the sources; ``None``: published constants, or the fit on the training part."""
    progress: Callback | None = None
    """Callback ``progress(name, done, total)`` of what is trained while data are read; ``None``: silent."""

    def to_json(self) -> dict[str, Any]:
        """Return the options that differ from their defaults and describe the data, by the names of `load_data`."""
        options: dict[str, Any] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name in _HERE or (field.name in _TEXTS and not isinstance(value, str)) or value == field.default:
                continue
            options[_NAMES.get(field.name, field.name)] = list(value) if isinstance(value, tuple) else value
        return options


def check_read_options(value: object) -> dict[str, Any]:
    """Return the options in a file's metadata as keywords of `potstill.load_data`.

    Raises:
        PotstillError: it is no mapping of known options to values of their types.
    """
    if not isinstance(value, Mapping):
        raise PotstillError("the reading in its metadata must be a JSON object of options; get the file again")
    for name, option in value.items():
        kind = _TYPES.get(name)
        if kind is None or not isinstance(option, kind) or (isinstance(option, bool) and kind is not bool):
            raise PotstillError(f"the reading in its metadata has no valid {str(name)[:40]!r}; get the file again")
        if isinstance(option, list):
            sizes = len(option) == 2 and all(type(side) is int for side in option)
            if not (sizes if name == "size" else all(isinstance(column, str) for column in option)):
                raise PotstillError(f"the reading in its metadata has no valid {name!r}; get the file again")
    if not str(value.get("targets", "representations")).startswith("representations"):
        raise PotstillError("the reading in its metadata has no valid 'targets'; get the file again")
    for option in ("group", "attribute"):
        if option in value and not _is_quick(value[option]):
            does = "groups by" if option == "group" else "takes its attribute by"
            raise PotstillError(
                f"the reading in its metadata {does} {value[option][:60]!r}, a regular expression that may search for "
                f"very long; if you trust it, give it yourself with `{option}=REGEX`"
            )
    return {name: tuple(option) if isinstance(option, list) else option for name, option in value.items()}


def _is_quick(pattern: str) -> bool:
    """Return True if a regular expression from a file needs polynomially many steps on any path."""
    plain = re.sub(r"\\.|\[\^?\]?[^\]]*\]", "x", pattern)  # what stands escaped or in a class is one character
    repeats = len(re.findall(r"[*+?{]", re.sub(r"\(\?", "(", plain)))
    back = re.search(r"\\[1-9]|\(\?P=|\(\?\(", pattern)
    return len(pattern) <= _LONGEST and repeats <= _REPEATS and back is None and not re.search(r"\)[*+?{]", plain)


def merge_read_options(
    card: Mapping[str, Any], given_options: Mapping[str, Any]
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Merge given options over those in a set's metadata; return keywords of `potstill.load_data` and notes.

    Args:
        card: of a set that was made of the data.
        given: options that were asked for now; ``None`` is none.

    Raises:
        PotstillError: the card's reading is not valid.
    """
    stored = card.get("reading", {})
    if isinstance(stored, Mapping):  # the card's is not used, whatever it is
        given_rules = {name for name in ("group", "attribute") if given_options.get(name) is not None}
        stored = {name: value for name, value in stored.items() if name not in given_rules}
    read = check_read_options(stored)
    stored_options = {name: read[name] for name in _TYPES if name in read}  # in one order, whatever the file's is
    given = {name: value for name, value in given_options.items() if value is not None}
    notes = []
    if used := {name: value for name, value in stored_options.items() if name not in given}:
        options = ", ".join(f"{_words(name)} {_shown(value)}" for name, value in used.items())
        notes.append(f"read as the set was made: {options}")
    for name in (n for n in stored_options if n in given):
        if _shown(given[name]) != _shown(stored_options[name]):
            notes.append(
                f"{_words(name)} {_shown(given[name])}, as given; the set was made with {_shown(stored_options[name])}"
            )
    return {**stored_options, **given}, tuple(notes)


def describe_option_changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Describe how two sets' read options differ (``size was 32x32 and now is 48x48``); empty if they do not."""
    names = [*(_NAMES.get(f.name, f.name) for f in fields(ReadOptions)), "targets"]
    standard = {_NAMES.get(f.name, f.name): f.default for f in fields(ReadOptions)} | {"targets": None}
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
        return ("x" if all(isinstance(each, int) for each in value) else ", ").join(map(str, value)) or "not given"
    if value is None:
        return "not given"
    return ("yes" if value else "no") if isinstance(value, bool) else str(value)
