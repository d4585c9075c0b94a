"""Time order of a table of series: consecutive rows, gaps, and columns that only count."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from potstill.data.parsed import dictionary_codes
from potstill.data.table_encoding import is_number_type, is_text_type, to_texts
from potstill.errors import PotstillError, unknown_name

__all__ = ["Timeline", "find_timeline"]

Array: TypeAlias = npt.NDArray[Any]

_EPOCH = datetime(1970, 1, 1)
_DAY = 86_400.0
_SECONDS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
_CALENDAR: dict[str, tuple[int, int]] = {
    "year": (1000, 3000), "month": (1, 12), "day": (1, 31), "hour": (0, 24), "minute": (0, 59), "second": (0, 60),
    "quarter": (1, 4), "week": (0, 53), "weekday": (0, 7), "dayofweek": (0, 7), "day_of_week": (0, 7),
    "dayofyear": (1, 366), "day_of_year": (1, 366),
}  # fmt: skip
"""Names of whole-number columns that are parts of a date, and their range."""
_NAMES = frozenset({"id", "index", "idx", "row", "rownames", "row_id", "no", "nr", "#"})
_TIMES = frozenset({"t", "time", "timestamp", "time_stamp", "step", "timestep", "time_step", "seconds", "ms", "frame"})
"""Names of columns of numbers that are the time of series with classes."""
_IRREGULAR = 0.1  # of the steps; where more are another, there is no regular one
_BACK = 2 * 3600.0  # seconds that a clock may be set back
_OFTEN = 0.01  # of the rows


@dataclass(frozen=True, slots=True, eq=False)
class Timeline:
    """Rows of a table in forecasting order: series by series, earliest first."""

    rows: npt.NDArray[np.int64]
    """Row number in the table (n,)."""
    series: npt.NDArray[np.int64]
    """Series number of each row (n,), non-decreasing."""
    stretch: npt.NDArray[np.int64]
    """Gap-free stretch of each row (n,), non-decreasing."""
    names: tuple[str, ...]
    """Names of the series; empty for a single one."""
    excluded_columns: tuple[str, ...]
    """Columns of time or series names, which are not forecast."""
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class _Clock:
    """Time of each row (n,), in seconds since 1970 or in a column's own count."""

    times: npt.NDArray[np.float64]
    columns: tuple[str, ...]
    """Source columns; empty: the frame's index."""
    counts: bool = False

    @property
    def what(self) -> str:
        if not self.columns:
            return "its index"
        return _listed(self.columns)

    def format_time(self, seconds: float) -> str:
        if self.counts:
            return f"{seconds:.15g}"
        try:
            return (_EPOCH + timedelta(seconds=seconds)).isoformat(" ").removesuffix(" 00:00:00")
        except OverflowError:
            return f"{seconds / _DAY:.15g} days after 1970"

    def format_step(self, step: float) -> str:
        if self.counts:
            return f"{step:.15g}"
        for unit, seconds in (("days", _DAY), ("hours", 3600.0), ("minutes", 60.0)):
            if step >= seconds and step % seconds == 0:
                count = f"{step / seconds:g}"
                return unit[:-1] if count == "1" else f"{count} {unit}"
        return f"{step:.6g} seconds"


def find_timeline(
    table: Any, name: str, *, series: str | None = None, label: str | None = None, index: Array | None = None,
    forecast: bool = True,
) -> Timeline:  # fmt: skip
    """Find the order of a table's rows in time.

    Args:
        table: ``pyarrow.Table`` with one row for each point in time, or for each point and series.
        series: the column that says which series a row belongs to.
        label: the one column that is forecast, which is then no time.
        index: the times of a frame's index (n,), in seconds since 1970.
        forecast: notes are those of a forecast; False: of whole series with a class each.

    Raises:
        PotstillError: there is no such column, a row has no time or no series, or two rows of a series have one time.
    """
    groups, names = _groups(table, name, series)
    numeric = [f.name for f in table.schema if f.name and is_number_type(f.type) and f.name not in (series, label)]
    integers = {c: x for c in numeric if (x := _integer_cells(table.column(c))) is not None}
    order = np.argsort(groups, kind="stable")
    calendar, counting = (
        _calendar_columns(integers),
        [c for c, x in integers.items() if _counts(x[order], groups[order])],
    )
    if not forecast and not counting:
        counting = _named_times(table, numeric, integers, groups)
    if label is None and set(numeric) <= {*calendar, *counting}:  # nothing else is there to forecast
        integers, calendar, counting = {}, [], []
    counts = {c: _numbers(table.column(c)) for c in counting if c not in integers} | integers
    clock = _clock(table, name, index, counts, calendar, counting, groups, (series, label))
    unused = [c for c in dict.fromkeys([*calendar, *counting]) if c not in (clock.columns if clock else ())]
    if names:
        unused += [c for c in integers if c not in unused and _constant(integers[c], groups, len(names))]
    notes = []
    if names and forecast:
        shown = ", ".join(map(repr, names[:3])) + ", …" * (len(names) > 3)
        notes.append(f"{name}: {len(names):,} series by column {series!r} ({shown}), each split by its own time")
    if clock is None:
        stretch = groups[order]
    else:
        order, order_notes = _sort_rows(clock, groups, order, name)
        stretch, more = _stretches(clock, groups, order, name, "" if names else _hint(table, clock))
        if not forecast:
            more = [
                note.replace("no window runs across one", "what follows one is joined to what is before")
                for note in more
            ]
        notes += [*order_notes, *more]
    if clock is not None and clock.columns:
        verb = "are the time, and no variables" if len(clock.columns) > 1 else "is the time, and no variable"
        notes.append(f"{name}: {clock.what} {verb}")
    if unused and not forecast:
        notes.append(
            f"{name}: not read as channels: {_listed(unused)} (numbers of rows, or of series, parts of a date)"
        )
    elif unused:
        notes.append(
            f"{name}: not forecast: {_listed(unused)} (numbers of rows, names of series, parts of a date; `label=` "
            "names the one column to forecast)"
        )
    if not names and (some := _perhaps_series(table, integers, unused, clock)):
        notes.append(f'{name}: if column {some!r} names several series, say `series="{some}"`: windows run across them')
    used = tuple(dict.fromkeys([*(clock.columns if clock else ()), *unused, *([series] if series else [])]))
    return Timeline(order, groups[order], stretch, names, used, tuple(notes))


def _groups(table: Any, name: str, series: str | None) -> tuple[npt.NDArray[np.int64], tuple[str, ...]]:
    if series is None:
        return np.zeros(table.num_rows, dtype=np.int64), ()
    if series not in table.column_names:
        raise PotstillError(f"{name}: {unknown_name('column', series, table.column_names)}")
    values = table.column(series)
    if not is_text_type(values.type) and not pa.types.is_dictionary(values.type):
        values = pa.chunked_array([values.combine_chunks().cast(pa.string())])
    codes, words = dictionary_codes(to_texts(values))
    blank = (codes < 0) | np.isin(codes, [i for i, w in enumerate(words) if not w.strip()])
    if blank.any():
        raise PotstillError(
            f"{name}: row {int(blank.argmax()) + 1} has no series in column {series!r}; fill it or remove the row"
        )
    return codes, tuple(words)


def _integer_cells(values: Any) -> npt.NDArray[np.float64] | None:
    """Return the cells of a whole-number column without missing values; ``None`` for others."""
    x: npt.NDArray[np.float64] = values.cast(pa.float64(), safe=False).to_numpy()
    return x if np.isfinite(x).all() and (x == np.round(x)).all() else None


def _calendar_columns(integers: dict[str, npt.NDArray[np.float64]]) -> list[str]:
    """Return columns named as parts of a calendar, or as row numbers, that hold such numbers."""
    names = []
    for column, x in integers.items():
        low, high = _CALENDAR.get(column.strip().lower(), (0, -1))
        if column.strip().lower() in _NAMES or (low <= x.min() and x.max() <= high):
            names.append(column)
    return names


def _counts(x: npt.NDArray[np.float64], groups: npt.NDArray[np.int64]) -> bool:
    """Return True if a column (n,), series by series, changes by one constant step but for a few gaps."""
    steps = np.diff(x)[np.diff(groups) == 0]
    if len(steps) < 2 or steps[0] == 0 or not (np.sign(steps) == np.sign(steps[0])).all():
        return False
    return bool(np.unique(steps, return_counts=True)[1].max() >= (1 - _IRREGULAR) * len(steps))


def _numbers(values: Any) -> npt.NDArray[np.float64]:
    """Return the cells of a column of numbers, NaN where one is missing."""
    x: npt.NDArray[np.float64] = values.cast(pa.float64(), safe=False).to_numpy()
    return x


def _named_times(
    table: Any, numeric: Sequence[str], integers: dict[str, npt.NDArray[np.float64]], groups: npt.NDArray[np.int64]
) -> list[str]:
    """Return the column of numbers that is the time by its name, or that counts the points of every series, in any
    order; no time stands twice in a series."""
    for column in numeric:
        x = integers[column] if column in integers else _numbers(table.column(column))
        if column.strip().lower() in _TIMES and np.isfinite(x).all() and _once(x, groups):
            return [column]
    for column, x in integers.items():
        order = np.lexsort((x, groups))
        if _once(x, groups) and _counts(x[order], groups[order]):
            return [column]
    return []


def _constant(x: npt.NDArray[np.float64], groups: npt.NDArray[np.int64], count: int) -> bool:
    """Return True if a column is constant within each of several series, but not over all."""
    low, high = np.full(count, np.inf), np.full(count, -np.inf)
    np.minimum.at(low, groups, x)
    np.maximum.at(high, groups, x)
    return bool((low == high).all()) and bool(low.min() < low.max())


def _listed(columns: Sequence[str]) -> str:
    return f"column{'s' * (len(columns) > 1)} {', '.join(map(repr, columns))}"


def _once(times: npt.NDArray[np.float64], groups: npt.NDArray[np.int64]) -> bool:
    """Return True if no series has a time twice."""
    order = np.lexsort((times, groups))
    return not bool(((np.diff(times[order]) == 0) & (np.diff(groups[order]) == 0)).any())


def _clock(
    table: Any, name: str, index: Array | None, integers: dict[str, npt.NDArray[np.float64]], calendar: Sequence[str],
    counting: Sequence[str], groups: npt.NDArray[np.int64], others: Sequence[str | None],
) -> _Clock | None:  # fmt: skip
    """Return the time of the rows: a time column, the frame's index, calendar columns, or a counting column."""
    for field in table.schema:
        if not field.name or field.name in others or (times := _times(table.column(field.name))) is None:
            continue
        if (empty := np.flatnonzero(np.isnan(times))).size:
            raise PotstillError(
                f"{name}: row {int(empty[0]) + 1} has no time in column {field.name!r}; fill it or remove the row"
            )
        clock = _Clock(times, (field.name,))
        return clock if _once(times, groups) else _with_hours(table, clock, integers, groups)
    if index is not None:
        return _Clock(index, ())
    lower = {c.strip().lower(): c for c in calendar}
    if "year" in lower and _once((clock := _of_calendar(integers, lower)).times, groups):
        return clock
    return _Clock(integers[counting[0]], (counting[0],), counts=True) if counting else None


def _times(values: Any) -> npt.NDArray[np.float64] | None:
    """Return seconds since 1970 of a date or time column; ``None`` for others."""
    kind = values.type
    if not (pa.types.is_date(kind) or pa.types.is_timestamp(kind)):
        return None
    unit = _DAY if pa.types.is_date32(kind) else 1e-3 if pa.types.is_date64(kind) else _SECONDS[kind.unit]
    counted = values.cast(pa.int32() if pa.types.is_date32(kind) else pa.int64()).cast(pa.float64(), safe=False)
    return np.asarray(counted.to_numpy() * unit)


def _with_hours(
    table: Any, clock: _Clock, integers: dict[str, npt.NDArray[np.float64]], groups: npt.NDArray[np.int64]
) -> _Clock:
    """Add the time of day from a column of its own, where that makes times unique."""
    for field in table.schema:
        if pa.types.is_time(field.type):
            values = table.column(field.name)
            wide = pa.int32() if pa.types.is_time32(field.type) else pa.int64()
            hours = values.cast(wide).cast(pa.float64(), safe=False).to_numpy() * _SECONDS[field.type.unit]
            if np.isfinite(hours).all() and _once(clock.times + hours, groups):
                return _Clock(clock.times + hours, (*clock.columns, field.name))
    times, columns = clock.times, list(clock.columns)
    for part, seconds in (("hour", 3600.0), ("minute", 60.0)):
        if column := next((c for c in integers if c.strip().lower() == part), None):
            times, columns = times + seconds * integers[column], [*columns, column]
    return _Clock(times, tuple(columns)) if len(columns) > 1 and _once(times, groups) else clock


def _of_calendar(integers: dict[str, npt.NDArray[np.float64]], lower: dict[str, str]) -> _Clock:
    used = [lower["year"]]
    months = (integers[lower["year"]] - 1970) * 12
    for part, size in (("quarter", 3), ("month", 1)):
        if part in lower:
            months, used = months + size * (integers[lower[part]] - 1), [*used, lower[part]]
            if part == "quarter":
                break
    times = months.astype(np.int64).astype("datetime64[M]").astype("datetime64[s]").astype(np.float64)
    for part, seconds, least in (("day", _DAY, 1), ("hour", 3600.0, 0), ("minute", 60.0, 0), ("second", 1.0, 0)):
        if part in lower:
            times, used = times + seconds * (integers[lower[part]] - least), [*used, lower[part]]
    return _Clock(times, tuple(used))


def _sort_rows(
    clock: _Clock, groups: npt.NDArray[np.int64], order: npt.NDArray[np.int64], name: str
) -> tuple[npt.NDArray[np.int64], list[str]]:
    """Sort the rows of each series, earliest first; keep the order where a clock was set back a few times."""
    steps = np.diff(clock.times[order])[np.diff(groups[order]) == 0]
    back = steps[steps < 0]
    if not back.size:
        return order, []
    if not clock.counts and back.size <= _OFTEN * len(order) and (back >= -_BACK).all():
        return order, [f"{name}: {clock.what}: the time goes back after {back.size:,} of {len(order):,} rows"]
    return np.lexsort((clock.times, groups)), [f"{name}: rows were sorted by {clock.what}, the earliest first"]


def _stretches(
    clock: _Clock, groups: npt.NDArray[np.int64], order: npt.NDArray[np.int64], name: str, hint: str
) -> tuple[npt.NDArray[np.int64], list[str]]:
    """Number the gap-free stretches, and return notes on gaps."""
    times, inside = clock.times[order], np.diff(groups[order]) == 0
    steps = np.diff(times)
    forwards = inside & (steps >= 0)
    if (same := np.flatnonzero(forwards & (steps == 0))).size:
        one, two = sorted(int(r) + 1 for r in order[same[0] : same[0] + 2])
        raise PotstillError(
            f"{name}: rows {one:,} and {two:,} have one time, {clock.format_time(times[same[0]])} ({clock.what}; "
            f"{same.size:,} such rows); leave one of them out{hint}"
        )
    begins = np.concatenate([[False], ~inside])
    if not forwards.any():
        return np.cumsum(begins), []
    step = float(np.median(steps[forwards]))
    odd = forwards & (np.abs(steps / step - 1) > 0.5)
    many = int(odd.sum())
    if many > _IRREGULAR * int(forwards.sum()):
        low, high = clock.format_step(float(steps[forwards].min())), clock.format_step(float(steps[forwards].max()))
        return np.cumsum(begins), [
            f"{name}: {clock.what}: rows follow each other by {low} to {high}, without a regular step; they are taken "
            "as equally far apart"
        ]
    begins[1:] |= odd
    if not many:
        return np.cumsum(begins), []
    at = int(odd.argmax())
    return np.cumsum(begins), [
        f"{name}: {clock.what}: one row every {clock.format_step(step)}, and {many:,} gap{'s' * (many > 1)}, the "
        f"first after {clock.format_time(times[at])}; no window runs across one"
    ]


def _hint(table: Any, clock: _Clock) -> str:
    """Suggest a column that may name series: with it every time is unique."""
    for field in table.schema:
        if not field.name or field.name in clock.columns or pa.types.is_floating(field.type):
            continue
        if is_text_type(field.type) or pa.types.is_dictionary(field.type) or pa.types.is_integer(field.type):
            values = table.column(field.name)
            plain = values.cast(pa.string()) if pa.types.is_integer(field.type) else to_texts(values)
            codes = dictionary_codes(plain)[0]
            if _once(clock.times, codes) and len(np.unique(codes)) <= table.num_rows // 2:
                return f', or say which column names the series that a row belongs to: `series="{field.name}"`'
    return ', or, where rows are of several series, say which column names them: `series="COLUMN"`'


def _perhaps_series(
    table: Any, integers: dict[str, npt.NDArray[np.float64]], excluded: Sequence[str], clock: _Clock | None
) -> str | None:
    """A column that says the same in blocks of rows, or in turns, as names of series that stand in one table do."""
    if clock is not None:  # every time is there once: one series
        return None
    for field in table.schema:
        if not field.name or field.name in excluded:
            continue
        if is_text_type(field.type) or pa.types.is_dictionary(field.type):
            x: Array = dictionary_codes(to_texts(table.column(field.name)))[0]
        elif field.name in integers:
            x = integers[field.name]
        else:
            continue
        count, n = len(np.unique(x)), len(x)
        if not 2 <= count <= n // 3:
            continue
        if int((np.diff(x) != 0).sum()) == count - 1 or np.array_equal(x[count:], x[:-count]):
            return str(field.name)
    return None
