"""Limits on everything that is read, each changed by name.

They protect memory and time against files from others, and are checked before anything is allocated. They belong to the
context of a run and go with its threads and its jobs to other processes; other runs have their own.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, fields, replace
from typing import Any, TypeVar

from potstill._util.formatting import parse_size
from potstill.errors import PotstillError, unknown_name

__all__ = [
    "Limits",
    "changed_limits",
    "check_limit",
    "limit_description",
    "limit_hint",
    "limited",
    "limits",
    "parse_limits",
    "with_current_limits",
]

J = TypeVar("J")
R = TypeVar("R")


def _limit(value: int, about: str) -> Any:
    return field(default=value, metadata={"about": about})


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """Upper limits; names that end in ``bytes`` are bytes, the others counts."""

    archive_bytes: int = _limit(2**40, "bytes that all files in one archive (tar, npz) unpack to")
    archive_members: int = _limit(10_000_000, "files in one archive")
    archive_ratio: int = _limit(500, "times its own size that an archive unpacks to, from 1 GiB on")
    braces: int = _limit(50, "pairs of braces in a pattern of shards")
    brace_digits: int = _limit(18, "digits of a number in braces")
    card_bytes: int = _limit(16 * 2**20, "characters of a set's card")
    categories: int = _limit(100, "different texts in a column of a table")
    cell_bytes: int = _limit(256 * 2**20, "bytes of one cell of a table: a text, or a picture before it is decoded")
    cells: int = _limit(10**10, "cells of a table, rows times columns")
    classes: int = _limit(2**20, "classes of a set that is imported")
    columns: int = _limit(100_000, "columns of a table")
    decoder_setting: int = _limit(2**16, "the largest whole number among the settings of a set's decoder")
    dimensions: int = _limit(32, "axes of a stored tensor")
    header_bytes: int = _limit(32 * 2**20, "bytes of the header of a safetensors file")
    json_bytes: int = _limit(2**28, "bytes of a result in JSON")
    json_depth: int = _limit(64, "levels of lists and objects in JSON")
    json_digits: int = _limit(300, "digits of a whole number in JSON")
    line_bytes: int = _limit(64 * 2**20, "characters of one line of a CSV file")
    pixels: int = _limit(89_478_485, "pixels of a picture, which are 256 MiB of 24 bits")
    rows: int = _limit(10**9, "rows of a table")
    set_bytes: int = _limit(8 * 2**30, "bytes of a distilled set, and of what it decodes to")
    shards: int = _limit(100_000, "shards that a pattern names")
    sound_seconds: int = _limit(600, "seconds of one sound file")
    xml_bytes: int = _limit(16 * 2**20, "bytes of an annotation in XML")
    yaml_bytes: int = _limit(2**20, "bytes of a recipe, a grid or a cluster in YAML")
    yaml_depth: int = _limit(32, "levels of lists and mappings in YAML")


_DEFAULT = Limits()
_NAMES = tuple(f.name for f in fields(Limits))
_CURRENT: ContextVar[Limits] = ContextVar("limits", default=_DEFAULT)


def limits() -> Limits:
    """Return the current limits."""
    return _CURRENT.get()


@contextmanager
def limited(**changes: int) -> Iterator[Limits]:
    """Change limits on what is read within the ``with`` block, in its threads and its jobs.

    Args:
        changes: whole numbers of at least 1 by name: ``limited(pixels=200_000_000)``.

    Returns:
        A context manager, which gives all limits as they are within the block.

    Raises:
        PotstillError: no such limit, or a number below 1.

    Examples:
        >>> with potstill.limited(pixels=200_000_000) as limits:
        ...     limits.pixels
        200000000
    """
    for name, value in changes.items():
        if name not in _NAMES:
            raise unknown_name("limit", name, _NAMES)
        if not isinstance(value, int) or value < 1:
            raise PotstillError(f"limit {name} must be a whole number of at least 1, not {value!r}")
    token = _CURRENT.set(replace(limits(), **changes))
    try:
        yield limits()
    finally:
        _CURRENT.reset(token)


def parse_limits(entries: Iterable[str]) -> dict[str, int]:
    """Return changes written as ``NAME=VALUE``: whole numbers, or sizes (``2GiB``) for limits in bytes.

    Raises:
        PotstillError: an entry is written otherwise.
    """
    changes: dict[str, int] = {}
    for entry in entries:
        name, equals, text = entry.partition("=")
        name = name.strip().replace("-", "_")
        if not equals:
            raise PotstillError(f"--limit {entry[:80]}: write NAME=VALUE, such as pixels=200000000")
        if name not in _NAMES:
            raise PotstillError(f"--limit {entry[:80]}: {unknown_name('limit', name, _NAMES)}")
        try:
            value = parse_size(text) if name.endswith("_bytes") else int(text.replace("_", ""))
        except ValueError as error:
            raise PotstillError(f"--limit {entry[:80]}: {name} must be a whole number ({error})") from None
        if value < 1:
            raise PotstillError(f"--limit {entry[:80]}: {name} must be at least 1")
        changes[name] = value
    return changes


def changed_limits() -> dict[str, int]:
    """Return the current limits that differ from the defaults, by name."""
    now = limits()
    return {name: getattr(now, name) for name in _NAMES if getattr(now, name) != getattr(_DEFAULT, name)}


def limit_hint(name: str) -> str:
    """Return the end of an error message: the limit, its value and how to raise it."""
    return f"limit {name} is {getattr(limits(), name):,}, `potstill.limited({name}=N)` raises it"


def check_limit(name: str, value: int, what: str) -> None:
    """Check a value against a limit.

    Args:
        name: name of the limit.
        found: value to check.
        what: subject of the message, such as the file.

    Raises:
        PotstillError: ``found`` is above the limit.
    """
    if value > getattr(limits(), name):
        raise PotstillError(f"{what}: {value:,} {_noun(name)}; {limit_hint(name)}")


def _noun(name: str) -> str:
    return limit_description(name).split(":")[0].split(",")[0]


def limit_description(name: str) -> str:
    """Return what the limit ``name`` counts."""
    return next(str(f.metadata["about"]) for f in fields(Limits) if f.name == name)


@dataclass(frozen=True)
class _Within:
    """Function that runs under the sender's limits."""

    limits_at_sender: Limits
    run: Callable[[Any], Any]

    def __call__(self, job: Any) -> Any:
        token = _CURRENT.set(self.limits_at_sender)
        try:
            return self.run(job)
        finally:
            _CURRENT.reset(token)


def with_current_limits(run: Callable[[J], R]) -> Callable[[J], R]:
    """Return ``run`` bound to the current limits, for another process."""
    return run if limits() == _DEFAULT else _Within(limits(), run)
