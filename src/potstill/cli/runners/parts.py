"""What runners share: their answer, reading data, words for the same data again."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

from potstill.cli.commands import DataCommand, DataOptions
from potstill.cli.text import plural
from potstill.limits import changed
from potstill.watch import Watcher

if TYPE_CHECKING:
    from potstill.core import Splits

__all__ = ["Answer", "contents", "data_words", "load_data", "workers"]


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


def load_data(command: DataCommand, data: str, watcher: Watcher, card: Mapping[str, Any] | None = None) -> "Splits":
    """The data; with the card of a selection, read as they were for that."""
    from potstill.verbs.export import load_for
    from potstill.verbs.load import load_data

    reading = command.reading
    read = load_data if card is None else functools.partial(load_for, dict(card))
    splits: Splits = read(
        data,
        label=reading.label,
        task=reading.task,
        data_root=reading.data_root,
        split_seed=reading.split_seed,
        test_fraction=reading.test_fraction,
        size=reading.size,
        skip_bad=reading.skip_bad,
        stream=reading.stream or None,
        missing=reading.missing,
        series=reading.series,
        duplicates=reading.duplicates,
        group=reading.group,
        check_cache=reading.check_cache,
        mirror=None if reading.mirror is None else reading.mirror == "yes",
    )
    for note in splits.notes:
        watcher.note(note)
    return splits


def data_words(options: DataOptions) -> list[str]:
    """The options that make ``--data`` mean the same thing again."""
    words: list[str] = []
    for field in dataclasses.fields(DataOptions):
        value = getattr(options, field.name)
        if value == field.default or field.name == "check_cache":
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
