"""Text formats of series with times: the time stamps of ``.ts`` files, and the ``.tsf`` files of the Monash archive.

With ``@timeStamps true`` the values of a ``.ts`` file are pairs ``(stamp,value)``, whose stamps are numbers or dates. A
``.tsf`` file (arXiv:2105.06643) has a header of lines that begin with ``@``, then a line for each series to forecast:
its attributes and its values, separated by ``:``.
"""

import math
import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from potstill.data.limits import require_memory
from potstill.errors import PotstillError

__all__ = ["MonashSeries", "StampedSeries", "parse_cells", "read_stamped", "read_tsf"]

Array: TypeAlias = npt.NDArray[np.float64]

_MISSING = ("?", "nan", "")
_OUTSIDE = re.compile(r":(?![^()]*\))")
_PAIR = re.compile(r"\(([^()]*),([^(),]*)\)")
_EPOCH = datetime(1970, 1, 1)
_IN_MEMORY = 10
"""Bytes in memory of a byte of text, at most."""


def parse_cells(text: str, path: Path, line: int) -> list[float]:
    """Return numbers that commas separate, NaN where one is missing.

    Raises:
        PotstillError: a cell is no number; the message says which line.
    """
    values = []
    for cell in text.split(","):
        try:
            values.append(math.nan if cell.strip().lower() in _MISSING else float(cell))
        except ValueError:
            raise PotstillError(f"{path}: line {line}: {cell.strip()[:30]!r} is not a number; correct it") from None
    return values


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StampedSeries:
    """One line of a ``.ts`` file with time stamps, earliest value first."""

    channels: list[list[float]]
    label: str
    is_sorted: bool
    """True if the stamps were in order."""
    gaps: int
    """Steps that are longer or shorter than the usual one."""


def read_stamped(text: str, path: Path, line: int) -> StampedSeries:
    """Return the series of one line of pairs ``(stamp,value)``, its channels and class separated by ``:``.

    Raises:
        PotstillError: a part is no list of such pairs, a stamp is neither a number nor a date or stands twice, or
            channels have different stamps; the message says which line.
    """
    *parts, label = _OUTSIDE.split(text)
    if not parts:
        raise PotstillError(f"{path}: line {line} has no class after a colon; correct it")
    channels, stamps = [], list[Array]()
    for part in parts:
        pairs = _PAIR.findall(part)
        if re.sub(r"[\s,]", "", _PAIR.sub("", part)) or not pairs:
            raise PotstillError(
                f"{path}: line {line}: values with time stamps are pairs (stamp,value), but there is "
                f"{part.strip()[:30]!r}; correct it"
            )
        stamps.append(np.array([_stamp(stamp, path, line) for stamp, _ in pairs]))
        channels.append(parse_cells(",".join(value for _, value in pairs), path, line))
    if any(not np.array_equal(times, stamps[0]) for times in stamps[1:]):
        raise PotstillError(
            f"{path}: line {line}: the channels of a series must have the same time stamps; write them as a table in "
            "long form, with a row for each point in time"
        )
    order = np.argsort(stamps[0], kind="stable")
    steps = np.diff(stamps[0][order])
    if (same := np.flatnonzero(steps == 0)).size:
        first = _PAIR.findall(parts[0])[int(order[same[0]])][0]
        raise PotstillError(f"{path}: line {line}: the time stamp {first.strip()} stands twice; leave one of them out")
    odd = int((np.abs(steps / np.median(steps) - 1) > 0.5).sum()) if len(steps) else 0
    return StampedSeries(
        channels=[[channel[i] for i in order] for channel in channels], label=label.strip(),
        is_sorted=bool((order == np.arange(len(order))).all()), gaps=odd,
    )  # fmt: skip


def _stamp(text: str, path: Path, line: int) -> float:
    """Return a number, or seconds since 1970 of a date."""
    try:
        return float(text)
    except ValueError:
        pass
    try:
        return (datetime.fromisoformat(text.strip()).replace(tzinfo=None) - _EPOCH).total_seconds()
    except ValueError:
        raise PotstillError(
            f"{path}: line {line}: the time stamp {text.strip()[:30]!r} is neither a number nor a date such as "
            "2024-05-31 12:00:00; correct it"
        ) from None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MonashSeries:
    """Series of one variable, one after another."""

    values: Array
    """(T,), NaN where one is missing."""
    series: npt.NDArray[np.int64]
    """Series number of each value (T,), non-decreasing."""
    notes: tuple[str, ...]


def read_tsf(path: Path) -> MonashSeries:
    """Read a ``.tsf`` file: series of one variable, of any lengths.

    Raises:
        PotstillError: it is no such file, or a line has other parts than the header says.
    """
    require_memory(_IN_MEMORY * path.stat().st_size, f"{path}", "give fewer series")
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        raise PotstillError(f"{path}: the file must be UTF-8 text; save it as such") from None
    attributes, said, begins = 0, dict[str, str](), None
    for number, line in enumerate(lines):
        words = line.strip().split()
        if not words or not words[0].startswith("@"):
            continue
        attributes += words[0].lower() == "@attribute"
        said[words[0].lower()] = " ".join(words[1:])
        if words[0].lower() == "@data":
            begins = number
            break
    if begins is None:
        raise PotstillError(f"{path}: there is no line @data, after which series begin; get the file again")
    parts: list[Array] = []
    for number, line in enumerate(lines[begins + 1 :], begins + 2):
        if not line.strip() or line.startswith("#"):
            continue
        cells = line.strip().split(":")
        if len(cells) != attributes + 1:
            raise PotstillError(
                f"{path}: line {number} has {len(cells)} parts between colons, but {attributes} attributes and the "
                f"values are {attributes + 1}; correct it"
            )
        parts.append(np.array(parse_cells(cells[-1], path, number)))
    if not parts:
        raise PotstillError(f"{path}: there are no series after the line @data; get the file again")
    notes = (
        [f"{path.name}: {len(parts):,} series of one variable, each split by its own time"] if len(parts) > 1 else []
    )
    told = [f"{name[1:]} {said[name]}" for name in ("@frequency", "@horizon") if said.get(name)]
    if told:
        notes.append(f"{path.name}: the file says {' and '.join(told)}, which are not used: the task has its own")
    return MonashSeries(
        values=np.concatenate(parts), series=np.repeat(np.arange(len(parts)), [len(p) for p in parts]),
        notes=tuple(notes),
    )  # fmt: skip
