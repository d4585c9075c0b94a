"""Real data and sets as commands read them, and words that read them again."""

import contextlib
import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from potstill._util.card import file_size_note, size_without_encoder
from potstill._util.input_limits import changed_limits
from potstill._util.progress import ProgressReporter
from potstill.cli.command import DataCommand, DataOptions, Parsed
from potstill.cli.text import count_inputs
from potstill.errors import PotstillError

if TYPE_CHECKING:
    from potstill.core import Splits
    from potstill.dataset_file import Distilled

__all__ = ["SetAndData", "data_words", "folder_metadata", "load_data", "load_set_and_data", "set_summary"]


def load_data(
    parsed: Parsed,
    data: str,
    progress: ProgressReporter,
    card: Mapping[str, Any] | None = None,
    *,
    selected: bool = False,
    other_horizon: bool = False,
) -> "Splits":
    """Read the data and print the notes of reading.

    Args:
        card: metadata of a set made of them: its options are taken where the command line gives none.
        selected: the set is a selection, whose samples are found again only where they are read as they were.
        other_horizon: a task of forecasts names the horizon to measure, and is no option of reading.
    """
    from potstill.api.export import load_for
    from potstill.evaluation.horizons import names_forecast
    from potstill.runs.load_data import load_as_made, load_data

    options = {name: value for name, value in _explicit_options(parsed).items() if value is not None}
    if other_horizon and card is not None and names_forecast(card, options.get("task")):
        del options["task"]
    options["preparing"] = progress.report_count
    if card is None:
        splits: Splits = load_data(data, **options)
    else:
        splits = (load_for if selected else load_as_made)(card, data, **options)
    for note in splits.notes:
        progress.note(note)
    return splits


def _explicit_options(parsed: Parsed) -> dict[str, Any]:
    """Return the options of `potstill.load_data` that the command line gives."""
    command = parsed.command
    assert isinstance(command, DataCommand)
    reading = command.reading
    given = {
        field.name: getattr(reading, field.name)
        for field in dataclasses.fields(DataOptions)
        if field.name in parsed.explicit or getattr(reading, field.name) != field.default
    }
    if (flip := given.pop("horizontal_flip", None)) is not None:
        given["horizontal_flip"] = flip == "yes"
    return given


class SetAndData(NamedTuple):
    """A distilled set, or the path of a selection's indices, and its real data."""

    small: "Distilled | Path"
    card: Mapping[str, Any]
    splits: "Splits"


def load_set_and_data(
    parsed: Parsed, path: Path, data: str, progress: ProgressReporter, *, other_horizon: bool = False
) -> SetAndData:
    """Load a set and its data, and warn where it was not made of them.

    Args:
        other_horizon: a task of forecasts names the horizon to measure, and is no option of reading.
    """
    from potstill.dataset_file import Distilled, is_index_file, load, read_indices
    from potstill.evaluation import describe_data_mismatch

    small = path if is_index_file(path) else load(path)
    card = small.metadata if isinstance(small, Distilled) else read_indices(small)[1]
    splits = load_data(
        parsed, data, progress, card, selected=not isinstance(small, Distilled), other_horizon=other_horizon
    )
    if (doubt := describe_data_mismatch(card, splits)) is not None:
        progress.warn(doubt)
    return SetAndData(small, card, splits)


def folder_metadata(folder: Path) -> Mapping[str, Any] | None:
    """Return the metadata of a set in a folder of results, if there is one: all of a comparison are of the same
    data."""
    from potstill.dataset_file import load

    for path in sorted(folder.glob("*.safetensors")):
        with contextlib.suppress(PotstillError):  # another program's file
            return load(path).metadata
    return None


def data_words(options: DataOptions, *, from_set: bool = False) -> list[str]:
    """Return the options that make ``--data`` mean the same thing again; ``from_set``: those that no file holds."""
    words: list[str] = []
    for field in dataclasses.fields(DataOptions):
        value = getattr(options, field.name)
        if value == field.default or field.name == "check_cache" or (from_set and field.name != "data_root"):
            continue
        words.append("--" + field.name.replace("_", "-"))
        if field.name == "size":
            words.append("x".join(map(str, value)))
        elif value is not True:
            words.append(",".join(value) if isinstance(value, tuple) else str(value))
    for name, limit in changed_limits().items():
        words += ["--limit", f"{name}={limit}"]
    return words


def set_summary(card: Mapping[str, Any], items: int, path: Path) -> str:
    """Return a set in a phrase: ``100 pictures of 1×28×28 in 10 classes, 314,400 bytes``.

    Args:
        path: its file, whose size follows where names make it much larger than the set.
    """
    spec, classes = card["input"], len(card["classes"])
    counted = count_inputs(items, spec["kind"], spec["shape"], [part["name"] for part in spec.get("parts", ())])
    goal = f"in {classes} classes" if classes else f"for {card['task']['name']}"
    note = file_size_note(card["bytes"], path.stat().st_size)
    encoder = card["bytes"].get("encoder", 0)
    size = f"{size_without_encoder(card['bytes']):,} bytes"
    size += f" and an encoder of texts of {encoder:,} bytes" if encoder else ""
    return f"{counted} {goal}, {size}" + (f" ({note})" if note else "")
