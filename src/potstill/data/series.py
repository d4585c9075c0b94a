"""Time series for ``--task forecast``: windows that share the series' storage, and the values that follow each."""

import hashlib
import json
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute
import torch
from jaxtyping import Float, Int
from torch import Tensor

from potstill.core import Batch, InputSpec, Normalization, Splits
from potstill.data.arrays import to_array
from potstill.data.canonicalize import float32_offsets
from potstill.data.columns import batch_columns
from potstill.data.frames import to_arrow_tables
from potstill.data.parsed import parse_column
from potstill.data.python_objects import read_npz_arrays
from potstill.data.read_options import ReadOptions
from potstill.data.removed_columns import remove_columns
from potstill.data.stamped_series import read_tsf
from potstill.data.table import TABLE_SUFFIXES, check_unique_columns, read_table_file
from potstill.data.table_encoding import check_float32_range, is_number_type, is_text_type
from potstill.data.timeline import find_timeline
from potstill.errors import PotstillError, unknown_name
from potstill.functional.seasons import find_season, naive_scale
from potstill.tasks import Forecast
from potstill.tasks.regression import target_statistics

__all__ = ["SeriesSource", "parse_text_columns", "read_series", "windows_within"]


def _too_short(name: str, span: int, found: str, cure: str = "") -> PotstillError:
    return PotstillError(
        f"{name}: a window and what follows it take {span} points in time, but {found}; ask for less with "
        f'`task="forecast:window=W,horizon=H"`{cure}'
    )


def windows_within(starts: Int[Tensor, " n"], span: int, other_span: int) -> tuple[Int[Tensor, " m"], int]:
    """Return the first points of all windows of another span that lie in points which some windows cover.

    Two neighbouring points belong together where one of the windows covers both: windows that only touch may be of two
    series.

    Args:
        starts: first points of the windows, in any order, at least one.
        span: points that each of them covers, at least 2.
        other_span: points of the other windows.

    Returns:
        First points, ascending, and the number of points of the longest stretch.
    """
    edges = torch.zeros(int(starts.max()) + span + 1, dtype=torch.int64)
    edges.index_add_(0, starts, torch.ones_like(starts))
    edges.index_add_(0, starts + span - 1, -torch.ones_like(starts))
    joined = edges.cumsum(0) > 0  # a point with the next one
    at = torch.arange(len(joined))
    ends = at.masked_fill(joined, len(joined)).flip(0).cummin(0).values.flip(0)  # last point of a point's stretch
    return torch.where(joined & (ends - at + 1 >= other_span))[0], int((ends - at + 1).max())


@dataclass(frozen=True, kw_only=True, eq=False)
class SeriesSource:
    """Windows of a series (a ``core.Source``): inputs (v, window), targets (v·horizon,), cut out when fetched.

    Legend: T points in time, v variables, n windows. The series is held once, however many windows there are; several
    series stand one after another, and no window lies on two of them.
    """

    name: str
    series: Float[Tensor, "T v"]
    """Values in their own units, less the task's ``offset``."""
    starts: Int[Tensor, " n"]
    """First point of each window."""
    task: Forecast
    normalization: Normalization
    groups: Int[Tensor, " n"] | None = None
    """Series number of each window; ``None``: one series."""
    classes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        whole = self.task.window + self.task.horizon
        if len(self.starts) == 0 or int(self.starts.max()) + whole > len(self.series):
            raise _too_short(self.name, whole, f"there are {len(self.series)}")

    @property
    def input(self) -> InputSpec:
        variables = self.task.variables + self.task.inputs
        return InputSpec(
            kind="series", shape=(len(variables), self.task.window), units="values",
            horizontal_flip=False, columns=variables
        )  # fmt: skip

    @property
    def device(self) -> torch.device:
        return self.series.device

    @property
    def labels(self) -> Int[Tensor, " n"]:
        """Zeros: all windows belong to one group."""
        return torch.zeros(len(self.starts), dtype=torch.int64)

    @cached_property
    def targets(self) -> Float[Tensor, "n t"]:
        """Values after each window, variable by variable."""
        return self._ahead(self._cut(torch.arange(len(self)))).cpu()

    @cached_property
    def content_hash(self) -> str:
        """SHA-256 of the series, of the window starts, and of their lengths."""
        spec = [self.task.window, self.task.horizon, list(self.task.variables), len(self)]
        spec += [list(self.task.inputs)] * bool(self.task.inputs)
        digest = hashlib.sha256(json.dumps(spec).encode())
        for tensor in (self.series, self.starts):
            digest.update(tensor.cpu().contiguous().numpy().data)
        return digest.hexdigest()

    def __len__(self) -> int:
        return len(self.starts)

    def _cut(self, index: Tensor) -> Float[Tensor, "m v w"]:
        windows = self.series.unfold(0, self.task.window + self.task.horizon, 1)  # a view: nothing is copied
        return windows[self.starts[index.cpu()].to(self.device)]

    def _ahead(self, cut: Float[Tensor, "m v w"]) -> Float[Tensor, "m t"]:
        """Return what is forecast of windows with what follows them."""
        return cut[:, : len(self.task.variables), self.task.window :].flatten(1)

    def raw(self, index: Int[Tensor, " m"], /) -> Float[Tensor, "m v w"]:
        """Return the windows at ``index``, in the series' own units."""
        return self._cut(index)[:, :, : self.task.window]

    def fetch(self, index: Int[Tensor, " m"], /) -> Batch:
        """Return the normalised windows at ``index`` and the values that follow, in their own units."""
        cut, w = self._cut(index), self.task.window
        columns = batch_columns(self, index, self.device)
        return Batch(self.normalization.apply(cut[:, :, :w]), self._ahead(cut), columns)

    def stretches(self, length: int, /) -> Int[Tensor, " m"]:
        """Return the first points of all stretches of ``length`` points whose every window is of this source."""
        windows = length - self.task.window - self.task.horizon + 1
        if windows < 1:
            return self.starts[:0]
        taken = torch.zeros(len(self.series) + 1, dtype=torch.int64)
        taken[self.starts + 1] = 1
        before = taken.cumsum(0)  # windows that begin before a point
        first: Tensor = torch.unique(self.starts[self.starts + windows <= len(self.series)])
        return first[before[first + windows] - before[first] == windows]

    def points_of(self, index: Int[Tensor, " m"], /) -> tuple[Float[Tensor, "p v"], Int[Tensor, " m"]]:
        """Return the points that the windows at ``index`` and what follows them cover, once each, in data units; and
        the first point of each window among them."""
        starts = self.starts[index.cpu()]
        covered = torch.zeros(len(self.series), dtype=torch.bool)
        covered[(starts[:, None] + torch.arange(self.task.window + self.task.horizon)).flatten()] = True
        return self.series[covered.to(self.device)], covered.cumsum(0)[starts] - 1

    def subset(self, index: Int[Tensor, " m"], /) -> "SeriesSource":
        """Return the windows at ``index``, in the same series."""
        at = index.cpu()
        return replace(self, starts=self.starts[at], groups=None if self.groups is None else self.groups[at])

    def recut(self, window: int, horizon: int, /) -> "SeriesSource":
        """Return all windows of another length, with another horizon, in the points that these cover.

        Statistics of the training data stay, the scale of MASE among them.

        Raises:
            PotstillError: no window fits, or the inputs hold what is known up to the horizon, and this is another.
        """
        if self.task.covariates == "known" and horizon != self.task.horizon:
            raise PotstillError(
                f"{self.name}: its windows hold what is known {self.task.horizon} points later, which is of that "
                f"horizon alone; read the data for a horizon of {horizon}, and make a set for it"
            )
        starts, longest = windows_within(self.starts, self.task.window + self.task.horizon, window + horizon)
        if not len(starts):
            raise _too_short(self.name, window + horizon, f"no more than {longest} follow each other in one part")
        ordered = self.starts.argsort()
        at = torch.searchsorted(self.starts[ordered], starts, right=True) - 1
        groups = None if self.groups is None else self.groups[ordered][at]
        return replace(self, starts=starts, groups=groups, task=replace(self.task, window=window, horizon=horizon))

    def cut(self, fraction: float) -> tuple["SeriesSource", "SeriesSource"]:
        """Split by time: windows before and after a point; none of the second part overlaps the first.

        Of several series each is cut by its own time.

        Args:
            fraction: of the time that the windows cover, for the second part, in (0, 1).

        Raises:
            PotstillError: one of the parts would be empty.
        """
        span = self.task.window + self.task.horizon
        groups = torch.zeros_like(self.starts) if self.groups is None else self.groups
        before, after = (torch.zeros(len(self.starts), dtype=torch.bool) for _ in range(2))
        for group in torch.unique(groups).tolist():
            of_group = groups == group
            starts = self.starts[of_group]
            first, last = int(starts.min()), int(starts.max()) + span
            border = last - round((last - first) * fraction)
            before[of_group], after[of_group] = starts + span <= border, starts >= border
        if not bool(before.any()) or not bool(after.any()):
            points = last - first if self.groups is None else len(self.series)
            raise PotstillError(
                f"{self.name}: {fraction:.0%} of {points} points in time hold no window of {span}; give a "
                'larger part, or ask for less with `task="forecast:window=W,horizon=H"`'
            )
        return self.subset(torch.where(before)[0]), self.subset(torch.where(after)[0])

    def to(self, device: torch.device | str, /) -> "SeriesSource":
        return replace(self, series=self.series.to(device), normalization=self.normalization.to(device))

    def __repr__(self) -> str:
        t = self.task
        return (
            f"{self.name}: {len(self):,} windows of {self.input.shape[0]}×{t.window} values, {t.horizon} to come, "
            f"of a series of {len(self.series):,}"
        )


def read_series(task: Forecast, data: object, options: ReadOptions) -> Splits:
    """Read a series from a table (a row per point in time, a column per variable), or from an array (T,) or (T, v).

    The last part of the time is the test split; no window lies on both sides, and none runs across a gap in time or
    from one series into another. Mean and deviation are the training part's. Columns that hold no numbers, say when,
    or count rows, are left out.

    Args:
        task: window and horizon; ``variables`` are filled in.
        data: a CSV, Parquet or ``.tsf`` file, a data frame, or an array; of an ``.npz`` the array ``x``.
        options: ``label`` names the one column to forecast by itself; ``series`` the column that says which series a
            row belongs to; ``missing``: ``impute`` fills a missing value with the one before it.

    Raises:
        PotstillError: it is none of these, values are missing, two rows have one time, or it is too short for the
            windows.
    """
    if min(task.window, task.horizon) < 1:
        raise PotstillError(f"window and horizon must be at least 1, but they are {task.window} and {task.horizon}")
    table, notes = _read_table(data, options, task.covariates != "none")
    name, variables = table.name, table.variables
    own = _count_forecast(task, variables, name, options)
    if not 0 < options.test_fraction < 1:
        raise PotstillError(f"a part of a series is held out for the test, but the fraction is {options.test_fraction}")
    span = task.window + task.horizon
    if len(table.values) < span:
        raise _too_short(name, span, f"there are {len(table.values)}")
    table, more = _fill_missing(table, options)
    notes += more
    at = np.arange(max(0, len(table.values) - span + 1))
    starts = at[table.stretch[at] == table.stretch[at + span - 1]]
    if not len(starts):
        longest = int(np.bincount(table.stretch).max(initial=0))
        most = f"no more than {longest} follow each other without a gap"
        raise _too_short(name, span, most, ", or fill the gaps with rows")
    offset = float32_offsets(table.values)
    for column, shift in zip(variables, offset, strict=True):
        if shift:
            notes.append(
                f"{name}: {column!r} is taken less {shift:,.15g}: floats of 32 bits do not hold its digits; scores are "
                "in deviations"
            )
    series = torch.from_numpy((table.values - np.array(offset)).astype(np.float32))
    covariates, own_offset = _input_names(variables[own:], task), offset[:own]
    plain = Normalization(torch.zeros(len(variables)), torch.ones(len(variables)))
    several = int(table.series.max()) > 0
    windows = SeriesSource(
        name=name, series=series, starts=torch.from_numpy(starts),
        groups=torch.from_numpy(table.series[starts]) if several else None,
        task=replace(task, variables=variables[:own], inputs=covariates, offset=own_offset if any(own_offset) else ()),
        normalization=plain,
    )  # fmt: skip
    train, test = windows.cut(options.test_fraction)
    covered = np.zeros(len(series) + 1, dtype=np.int64)
    np.add.at(covered, train.starts.numpy(), 1)
    np.add.at(covered, train.starts.numpy() + span, -1)
    is_train = torch.from_numpy(np.cumsum(covered)[:-1] > 0)
    mean, std = target_statistics(series[is_train])
    season = task.season or find_season(series[:, :own], task.window, is_train) or 1
    scale = naive_scale(series[:, :own], min(season, len(series) - 1), torch.from_numpy(table.stretch), is_train)
    fitted = replace(windows.task, mean=mean[:own], std=std[:own], scale=tuple(scale.tolist()))
    if task.covariates == "known":
        ahead = _shifted(series[:, own:], task.horizon, torch.from_numpy(table.stretch))
        shifted = torch.cat([series[:, :own], ahead], 1)
        train, test = (replace(part, series=shifted) for part in (train, test))
    normalization = options.normalization or Normalization(torch.tensor(mean), torch.tensor(std))
    notes.append(
        f"{name}: the last {options.test_fraction:.0%} of the time is the test part; no window lies on both sides"
    )
    if several and (short := int(table.series.max()) + 1 - len(torch.unique(test.groups))):
        notes.append(f"{name}: {short:,} series are too short, or too full of gaps, for a window in the test part")
    made = [replace(part, task=fitted, normalization=normalization).to(options.device) for part in (train, test)]
    return Splits(train=made[0], test=made[1], notes=tuple(notes))


def _count_forecast(task: Forecast, variables: tuple[str, ...], name: str, options: ReadOptions) -> int:
    """Return how many variables are forecast, the first ones; the others are covariates."""
    if task.covariates not in ("none", "past", "known"):
        raise unknown_name("kind of covariates", task.covariates, ("none", "past", "known"))
    if task.covariates == "none":
        return len(variables)
    if options.label is None:
        raise PotstillError(
            f"{name}: covariates are the columns beside the one to forecast; name that one with `label="
            f'"{variables[0]}"`, or leave covariates out of the task'
        )
    if len(variables) < 2:
        raise PotstillError(f"{name}: no column of numbers is left as a covariate; leave covariates out of the task")
    if task.covariates == "known" and task.window < task.horizon:
        raise PotstillError(
            f"{name}: known covariates are of the {task.window} points that end with the horizon, which has "
            f"{task.horizon}; give a window of as many"
        )
    return 1


def _input_names(columns: tuple[str, ...], task: Forecast) -> tuple[str, ...]:
    """Return names of covariates, which say how much later known ones are than the values beside them."""
    return tuple(f"{c} ({task.horizon} later)" for c in columns) if task.covariates == "known" else columns


def _shifted(values: Float[Tensor, "T c"], steps: int, stretch: Int[Tensor, " T"]) -> Float[Tensor, "T c"]:
    """Return values from ``steps`` points later in the same stretch; its last ones, which no window has as an input,
    repeat."""
    last = torch.searchsorted(stretch, stretch, right=True) - 1
    return values[torch.minimum(torch.arange(len(values)) + steps, last)]


@dataclass(frozen=True, slots=True, eq=False)
class _SeriesTable:
    """A series as read: T rows in order of time, series by series."""

    name: str
    variables: tuple[str, ...]
    values: npt.NDArray[np.float64]
    """(T, v), NaN where one is missing."""
    series: npt.NDArray[np.int64]
    """Series number of each row (T,), non-decreasing."""
    stretch: npt.NDArray[np.int64]
    """Gap-free stretch of each row (T,), non-decreasing."""
    rows: npt.NDArray[np.int64]
    """Row number in the data, from 0."""


def _fill_missing(table: _SeriesTable, options: ReadOptions) -> tuple[_SeriesTable, list[str]]:
    """Fill missing values with the previous one in their stretch; a stretch begins where all columns have a value."""
    values, name, notes = table.values, table.name, list[str]()
    back = np.argsort(table.rows)
    for i, column in enumerate(table.variables):
        check_float32_range(values[back, i], column, name)
        if np.isnan(values[:, i]).all():
            raise PotstillError(f"{name}: column {column!r} holds no value; remove the column")
    empty = np.isnan(values)
    if not (holes := int(empty.sum())):
        return table, notes
    if options.missing != "impute":
        row, at = min((int(table.rows[t]), int(v)) for t, v in np.argwhere(empty))
        raise PotstillError(
            f'{name}: {holes} values are missing; `missing="impute"` fills each with the value before it (the first: '
            f"row {row + 1}, column {table.variables[at]!r})"
        )
    # Forwards only: nothing is filled from what comes later.
    first = np.searchsorted(table.stretch, table.stretch)[:, None]
    last = np.maximum.accumulate(np.where(empty, -1, np.arange(len(values))[:, None]), axis=0)
    is_known = last >= first
    complete = is_known.all(axis=1)
    values = np.take_along_axis(values, np.maximum(last, 0), axis=0)[complete]
    filled = int((empty & is_known)[complete].sum())
    if filled:
        notes.append(f"{name}: {filled} missing values were filled with the value before them")
    if dropped := int((~complete).sum()):
        late = table.variables[int((~is_known).sum(axis=0).argmax())]
        notes.append(
            f"{name}: {dropped:,} rows before the first value of a column were left out ({late!r} begins last)"
        )
    if not len(values):
        raise PotstillError(f"{name}: no row has a value before it, or its own, in every column; remove a column")
    return replace(
        table, values=values, series=table.series[complete], stretch=table.stretch[complete], rows=table.rows[complete]
    ), notes  # fmt: skip


def _read_table(data: object, options: ReadOptions, covariates: bool = False) -> tuple[_SeriesTable, list[str]]:
    table, name = None, "series"
    if isinstance(data, str | Path):
        path = Path(data)
        suffix, name = path.suffix.lower(), path.name
        if not path.is_file():
            raise PotstillError(f"{data}: no such file; a series is read from a csv, parquet, npz or tsf file")
        if suffix == ".npz":
            data = read_npz_arrays(path).get("x")
        elif suffix == ".tsf":
            return _of_tsf(path, options)
        elif suffix in TABLE_SUFFIXES:
            table = read_table_file(path)
        else:
            raise PotstillError(f"{data}: a series is read from a csv, parquet, npz or tsf file")
    elif (tables := to_arrow_tables(data, None)) is not None:
        table = tables[0][0]
    if table is None:
        return _of_array(data, name, options), []
    check_unique_columns(table, name)
    table = remove_columns([table], options.remove_columns, options.label, name)[0]
    table, notes = parse_text_columns(table, name, options)
    numeric = [f.name for f in table.schema if is_number_type(f.type)]
    if options.label is not None and options.label not in numeric:
        raise PotstillError(f"{name}: {unknown_name('column of numbers', options.label, numeric)}")
    time = find_timeline(table, name, series=options.series, label=options.label, index=_index(data))
    free = [c for c in numeric if c and not c.startswith("Unnamed: ") and c not in time.excluded_columns]
    variables = [options.label] if options.label is not None else free
    if covariates and options.label is not None:
        variables += [c for c in free if c != options.label]
    if not variables:
        raise PotstillError(f"{name}: no column holds numbers; a series needs one")
    columns = [
        table.column(c).combine_chunks().cast(pa.float64(), safe=False).fill_null(np.nan).to_numpy(zero_copy_only=False)
        for c in variables
    ]
    if unread := [c for c in table.column_names if c not in variables and c not in time.excluded_columns]:
        notes.append(f"{name}: columns {', '.join(map(repr, unread))} were not read")
    values = np.stack(columns, 1).astype(np.float64)[time.rows]
    return _SeriesTable(name, tuple(variables), values, time.series, time.stretch, time.rows), [*notes, *time.notes]


def _of_tsf(path: Path, options: ReadOptions) -> tuple[_SeriesTable, list[str]]:
    for option in ("series", "label"):
        if getattr(options, option) is not None:
            raise PotstillError(f"{path}: a tsf file has no columns; leave `{option}=` out")
    read = read_tsf(path)
    rows = np.arange(len(read.values))
    table = _SeriesTable(path.name, ("value",), read.values[:, None], read.series, read.series, rows)
    return table, list(read.notes)


def _of_array(data: object, name: str, options: ReadOptions) -> _SeriesTable:
    if options.series is not None:
        raise PotstillError(f"{name}: an array has no column {options.series!r} that names series; give a table")
    if data is None:
        raise PotstillError(f"{name}: needs an array x, (T,) or (T, variables)")
    array = to_array(data, name)
    if array.dtype.kind not in "biuf" or array.ndim not in (1, 2):
        raise PotstillError(f"{name}: a series is (T,) or (T, variables) of numbers, not {array.dtype}")
    values = array.reshape(len(array), -1).astype(np.float64)
    zeros, rows = np.zeros(len(values), dtype=np.int64), np.arange(len(values))
    return _SeriesTable(name, tuple(f"variable {i + 1}" for i in range(values.shape[1])), values, zeros, zeros, rows)


def parse_text_columns(table: Any, name: str, options: ReadOptions) -> tuple[Any, list[str]]:
    """Parse text columns that are numbers or dates; also return notes."""
    notes = []
    for place, field in enumerate(table.schema):
        if not field.name or field.name == options.series or not is_text_type(field.type):
            continue
        texts = table.column(place).cast(pa.large_string())
        parsed = parse_column([(name, texts)], field.name, fill=options.missing == "impute")
        if parsed is None:
            continue
        cells = pa.array(parsed.parts[0], from_pandas=True)
        if parsed.kind == "date":
            seconds = pyarrow.compute.round(pyarrow.compute.multiply(cells, 86_400e6))
            cells = seconds.cast(pa.int64()).cast(pa.timestamp("us"))
        table = table.set_column(place, field.name, cells)
        notes.append(parsed.note)
    return table, notes


def _index(data: object) -> npt.NDArray[np.float64] | None:
    """Return seconds since 1970 of a pandas frame's time index, or ``None``."""
    index: Any = getattr(data, "index", None)
    if getattr(getattr(index, "dtype", None), "kind", "") != "M":
        return None
    values = np.asarray(index.values).astype("datetime64[us]")
    if np.isnat(values).any():
        raise PotstillError(
            f"series: row {int(np.isnat(values).argmax()) + 1} has no time in its index; remove the row"
        )
    return np.asarray(values.astype(np.int64) * 1e-6)
