"""What runners share: their answer, reading data, words for the same data again."""

import contextlib
import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

from potstill._util.input_limits import changed
from potstill._util.progress import Watcher
from potstill.cli.commands import DataCommand, DataOptions
from potstill.cli.parsing import Parsed
from potstill.cli.text import plural
from potstill.errors import PotstillError

if TYPE_CHECKING:
    from potstill.core import Splits

__all__ = ["Answer", "carded", "contents", "data_words", "load_data", "workers"]


class Answer(NamedTuple):
    """What a command has to say: ``value`` with ``--json``, else ``text``."""

    value: Any
    text: str
    failure: str | None = None
    """Why it has failed although it has something to say: the last line on stderr, and exit status 1."""


@runtime_checkable
class Working(Protocol):
    """A command whose jobs may run elsewhere."""

    @property
    def executor(self) -> str | None: ...
    @property
    def address(self) -> str | None: ...


def workers(command: Working) -> str | None:
    """The executor with its address, as one word: ``ray:address=HOST:PORT``."""
    if command.executor is None or command.address is None:
        return command.executor
    return f"{command.executor}{',' if ':' in command.executor else ':'}address={command.address}"


def load_data(
    parsed: Parsed, data: str, watcher: Watcher, card: Mapping[str, Any] | None = None, *, selected: bool = False
) -> "Splits":
    """Read the data and note what was decided.

    Args:
        card: of a set that was made of them: its options are taken where the command line gives none.
        selected: the set is a selection, whose samples are found again only where they are read as they were.
    """
    from potstill.api.export import load_for
    from potstill.api.load_data import load_as_made, load_data

    assert isinstance(parsed.command, DataCommand)
    options = {name: value for name, value in _asked(parsed).items() if value is not None}
    if card is None:
        splits: Splits = load_data(data, **options)
    else:
        splits = (load_for if selected else load_as_made)(card, data, **options)
    for note in splits.notes:
        watcher.note(note)
    return splits


def _asked(parsed: Parsed) -> dict[str, Any]:
    """Options of `potstill.load_data` that the command line gives."""
    assert isinstance(parsed.command, DataCommand)
    reading = parsed.command.reading
    given = {
        field.name: getattr(reading, field.name)
        for field in dataclasses.fields(DataOptions)
        if field.name in parsed.given or getattr(reading, field.name) != field.default
    }
    if given.get("mirror") is not None:
        given["mirror"] = given["mirror"] == "yes"
    return given


def carded(folder: Path) -> Mapping[str, Any] | None:
    """The card of a set in a folder of results, if there is one: all of a comparison are of the same data."""
    from potstill.dataset_file import load

    for path in sorted(folder.glob("*.safetensors")):
        with contextlib.suppress(PotstillError):  # another program's file
            return load(path).card
    return None


def data_words(options: DataOptions, *, carded: bool = False) -> list[str]:
    """The options that make ``--data`` mean the same thing again; ``carded``: those that no set's card holds."""
    words: list[str] = []
    for field in dataclasses.fields(DataOptions):
        value = getattr(options, field.name)
        if value == field.default or field.name == "check_cache" or (carded and field.name != "data_root"):
            continue
        words.append("--" + field.name.replace("_", "-"))
        if field.name == "size":
            words.append("x".join(map(str, value)))
        elif value is not True:
            words.append(str(value))
    for name, most in changed().items():
        words += ["--limit", f"{name}={most}"]
    return words


def contents(card: Mapping[str, Any], items: int) -> str:
    """``100 pictures of 1×28×28 in 10 classes, 314,400 bytes``."""
    spec, classes = card["input"], len(card["classes"])
    noun = {"image": "picture", "pair": "pair", "series": "window"}.get(spec["kind"], "row")
    shape = "×".join(map(str, spec["shape"])) or " and ".join(part["name"] for part in spec.get("parts", ()))
    goal = f"in {classes} classes" if classes else f"for {card['task']['name']}"
    return f"{plural(items, noun)} of {shape} {goal}, {card['bytes']['total']:,} bytes"
