"""How much a file may ask for: one set of limits for everything that is read, each raised or lowered by its name.

They stand between a file that somebody sent and the memory and time of whoever opens it, so all are checked before
what they count is reserved. A run has its own: they are held by its context, go with its threads and with its jobs to
other processes and machines, and another run beside it knows nothing of them.
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
    """What is read at most; names that end in ``bytes`` are bytes, the others are counted."""

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
    xml_bytes: int = _limit(16 * 2**20, "bytes of an annotation in XML")
    yaml_bytes: int = _limit(2**20, "bytes of a recipe, a grid or a cluster in YAML")
    yaml_depth: int = _limit(32, "levels of lists and mappings in YAML")


_DEFAULT = Limits()
_NAMES = tuple(f.name for f in fields(Limits))
_CURRENT: ContextVar[Limits] = ContextVar("limits", default=_DEFAULT)


def limits() -> Limits:
    """Those that hold here and now."""
    return _CURRENT.get()


@contextmanager
def limited(**changes: int) -> Iterator[Limits]:
    """Other limits within the ``with`` block, in its threads and in its jobs, wherever these run.

    Args:
        changes: by name, whole numbers of at least 1: ``limited(pixels=200_000_000)``.

    Raises:
        PotstillError: there is no limit of that name, or a number is below 1.
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
    """Changes written as ``NAME=VALUE``: whole numbers, or sizes (``2GiB``) where the limit is one of bytes.

    Raises:
        PotstillError: an entry is written otherwise.
    """
    found: dict[str, int] = {}
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
        found[name] = value
    return found


def changed_limits() -> dict[str, int]:
    """Those that hold here and are not the default, by name."""
    now = limits()
    return {name: getattr(now, name) for name in _NAMES if getattr(now, name) != getattr(_DEFAULT, name)}


def limit_hint(name: str) -> str:
    """What the end of a refusal says: the limit, its value, and how it is raised."""
    return f"limit {name} is {getattr(limits(), name):,}, `potstill._util.input_limits.limited({name}=N)` raises it"


def check_limit(name: str, found: int, what: str) -> None:
    """
    Args:
        name: of the limit.
        found: what there is of it.
        what: whose it is, such as the file.

    Raises:
        PotstillError: ``found`` is more than the limit.
    """
    if found > getattr(limits(), name):
        raise PotstillError(f"{what}: {found:,} {_noun(name)}; {limit_hint(name)}")


def _noun(name: str) -> str:
    return limit_description(name).split(":")[0].split(",")[0]


def limit_description(name: str) -> str:
    """What the limit ``name`` counts."""
    return next(str(f.metadata["about"]) for f in fields(Limits) if f.name == name)


@dataclass(frozen=True)
class _Within:
    """A function that runs under the limits of whoever sent it."""

    held: Limits
    run: Callable[[Any], Any]

    def __call__(self, job: Any) -> Any:
        token = _CURRENT.set(self.held)
        try:
            return self.run(job)
        finally:
            _CURRENT.reset(token)


def with_current_limits(run: Callable[[J], R]) -> Callable[[J], R]:
    """``run`` for another process, with the limits that hold here."""
    return run if limits() == _DEFAULT else _Within(limits(), run)
