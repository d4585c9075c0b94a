"""Columns of a table as a set's metadata describe them, and cells of its numbers: categories, dates and types.

Descriptions are validated first; types are looked up in a fixed list. Imports no torch.
"""

import re
import zoneinfo
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from potstill.errors import PotstillError

__all__ = ["Column", "column_cells", "names_as_type", "numbers_as_type", "read_columns"]

_WHOLE = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
_REAL = {"halffloat": "float16", "float": "float32", "double": "float64"}
_MOMENT = re.compile(r"timestamp\[(s|ms|us|ns)(?:, tz=([\w/+:-]{1,40}))?\]")
_CATEGORY = re.compile(r"category<(\w+)>")
_EPOCH = datetime(1970, 1, 1)
_SECONDS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_CENTURIES = (-719_162.0, 2_932_896.0)
"""Days since 1970 of the years 1 and 9999."""
_LARGEST = 1e300
"""Maximum offset; beyond it sums overflow."""
_NANOSECONDS = (-106_000.0, 106_000.0)
"""Days since 1970 that 64-bit nanoseconds hold."""


@dataclass(frozen=True)
class Column:
    """A validated column of the source."""

    name: str
    kind: str
    values: tuple[str, ...]
    since: float
    """Days since 1970 of dates."""
    type: str
    whole: bool
    absent: bool
    offset: float
    """Offset that was subtracted before values became float32."""

    @property
    def width(self) -> int:
        return len(self.values) if self.kind == "category" else 1


def names_as_type(names: Sequence[str], kind: str) -> Any:
    """Return class names in the type of the source's labels.

    Args:
        names: of each row.
        kind: type in the metadata; empty: texts.
    """
    if (inner := _CATEGORY.fullmatch(kind)) is not None:
        return names_as_type(names, "" if inner[1] == "string" else inner[1]).dictionary_encode()
    try:
        if kind in _WHOLE:
            return pa.array([int(name) for name in names], getattr(pa, kind)())
        if kind in _REAL:
            return pa.array([float(name) for name in names], getattr(pa, _REAL[kind])())
        if kind == "bool" and set(names) <= {"True", "False"}:
            return pa.array([name == "True" for name in names])
    except (ValueError, OverflowError, pa.ArrowInvalid):
        pass  # metadata may have any type; only class names are validated
    return pa.array(list(names), pa.string())


def read_columns(card: Mapping[str, Any], count: int) -> list[Column] | None:
    """Return the columns in the metadata, if there are any."""
    said = card["source"].get("columns")
    if said is None:
        return None
    found = [_column(one) for one in said] if isinstance(said, list) else [None]
    columns = [one for one in found if one is not None]
    if (
        len(columns) < len(found)
        or sum(one.width for one in columns) != count
        or len({c.name for c in columns}) != len(columns)
    ):
        raise PotstillError("its metadata's source.columns does not describe its inputs; get the file again")
    return columns


def _column(described: Any) -> Column | None:
    """Return a validated column, or ``None``."""
    if not isinstance(described, dict) or not isinstance(described.get("name"), str):
        return None
    kind, values, since, word = (
        described.get("kind"),
        described.get("values", []),
        described.get("since"),
        described.get("type", ""),
    )
    if kind not in ("number", "boolean", "category", "date") or not isinstance(word, str):
        return None
    if (
        not isinstance(values, list)
        or not all(isinstance(v, str) for v in values)
        or (kind == "category") != bool(values)
    ):
        return None
    offset = described.get("offset", 0.0)
    if isinstance(offset, bool) or not isinstance(offset, int | float) or not abs(offset) <= _LARGEST:
        return None
    days = 0.0
    if kind == "date":
        try:
            days = (datetime.fromisoformat(str(since)) - _EPOCH) / timedelta(days=1)
        except (ValueError, TypeError):
            return None
    return Column(
        name=described["name"], kind=kind, values=tuple(values), since=days, type=word,
        whole=described.get("at_midnight") is True, absent=described.get("absent") is True, offset=float(offset),
    )  # fmt: skip


def column_cells(column: Column, x: npt.NDArray[np.float32]) -> Any:
    """Return the cells of a column from its values (n, width)."""
    if column.kind == "category":
        chosen = x.argmax(1)
        last = len(column.values) - 1 if column.absent else len(column.values)
        names = [column.values[c] if c < last else None for c in chosen.tolist()]
        if (inner := _CATEGORY.fullmatch(column.type)) is None:
            return pa.array(names, pa.string())
        known = names_as_type(column.values[:last], "" if inner[1] == "string" else inner[1])
        codes = pa.array([c if c < last else None for c in chosen.tolist()], pa.int32())
        return pa.DictionaryArray.from_arrays(codes, known)
    value = x[:, 0]
    if column.kind == "boolean":
        return pa.array(value > 0.5)
    if column.kind == "date":
        return _dates(column, value.astype(np.float64) + column.since)
    return numbers_as_type(value, column.type, column.offset)


def numbers_as_type(value: npt.NDArray[np.float32], kind: str, offset: float = 0.0) -> Any:
    """Return ``offset`` + values (n,) in the type of the source."""
    if kind in _WHOLE:
        info = np.iinfo(kind)
        low, high = float(info.min), float(info.max)
        high = high if int(high) <= info.max else float(np.nextafter(high, 0.0))  # 2^63 is no 64-bit whole number
        return pa.array(np.clip(np.rint(value.astype(np.float64) + offset), low, high).astype(kind))
    if _REAL.get(kind) in ("float16", "float32"):
        return pa.array((value.astype(np.float64) + offset).astype(_REAL[kind]))
    return pa.array(
        value.astype(str).astype(np.float64) + offset
    )  # the shortest digits: 0.1 and not 0.10000000149011612


def _dates(column: Column, days: npt.NDArray[np.float64]) -> Any:
    """Return dates or timestamps of days since 1970 (n,)."""
    found = _MOMENT.fullmatch(column.type)
    unit, zone = (found[1], found[2]) if found else ("us", None)
    days = np.clip(days, *(_NANOSECONDS if unit == "ns" else _CENTURIES))
    if column.whole or column.type.startswith("date"):
        days = np.rint(days)
    if column.type.startswith("date"):
        return pa.array(days.astype(np.int32)).cast(pa.date32())
    if zone is not None:
        try:
            zoneinfo.ZoneInfo(zone) if re.search("[A-Za-z]", zone) else None
        except (ValueError, OSError, zoneinfo.ZoneInfoNotFoundError):
            zone = "UTC"
    whole = np.floor(days)
    ticks = whole.astype(np.int64) * (86_400 * _SECONDS[unit])
    ticks += np.rint((days - whole) * 86_400).astype(np.int64) * _SECONDS[unit]  # 32 bits do not hold more
    return pa.array(ticks).cast(pa.timestamp(unit, zone))
