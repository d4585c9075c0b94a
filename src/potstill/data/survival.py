"""Tables and arrays with a time until an event, for ``--task survival:time=COLUMN,event=COLUMN``."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from potstill.core import Splits
from potstill.data.arrays import to_array
from potstill.data.frames import to_arrow_tables
from potstill.data.python_objects import pick_arrays, read_arrays, read_npz_arrays
from potstill.data.read_options import ReadOptions
from potstill.data.splits import RawPart, RawSplits, assemble
from potstill.data.table import TABLE_SUFFIXES, read_table_file, read_tables
from potstill.data.table_encoding import is_number_type, parse_missing
from potstill.errors import PotstillError, unknown_name
from potstill.tasks import Survival

__all__ = ["read_survival"]

Array = npt.NDArray[np.float64]


def read_survival(task: Survival, data: object, options: ReadOptions) -> Splits:
    """Read a CSV or Parquet file or a data frame with a column of times and one of events, or arrays (x, y).

    Args:
        task: names both columns.
        data: what holds them; of arrays y is (n, 2): times, and 1 for an event or 0 for none until then.
        options: how to read it. Rows without a time or an event are left out with ``missing``, else refused.

    Raises:
        PotstillError: a column is not there, times are not finite and above 0, or events are not 0 and 1.
    """
    if options.label is not None:
        raise PotstillError(
            f'times and events are two columns; name them in the task, `task="survival:time={options.label},event='
            'COLUMN"`, and leave `label=` out'
        )
    if isinstance(data, str | Path) and (path := Path(data)).suffix.lower() in TABLE_SUFFIXES:
        return _of_tables(task, [read_table_file(path)], path.name, options)
    if (tables := to_arrow_tables(data, None)) is not None:
        return _of_tables(task, tables[0], "frame", options)
    return _of_arrays(task, data, options)


def _of_tables(task: Survival, tables: list[Any], name: str, options: ReadOptions) -> Splits:
    if not task.time or not task.event:
        raise PotstillError(
            f'{name}: say which columns hold times and events, such as `task="survival:time=days,event=died"`'
        )
    stubs, values, notes = [], list[Array](), list[str]()
    for number, table in enumerate(tables):
        where = name if number == 0 else f"{name} (test part)"
        columns = [_numbers(table, column, where) for column in (task.time, task.event)]
        empty = np.isnan(columns[0]) | np.isnan(columns[1])
        if empty.any():
            if parse_missing(options.missing) == "refuse":
                raise PotstillError(
                    f"{where}: row {int(empty.argmax()) + 1} has no time or no event; remove it, or say "
                    '`missing="drop"`'
                )
            notes.append(f"{where}: {int(empty.sum()):,} rows without a time or an event were left out")
            table = table.filter(pa.array(~empty))
        part = np.stack(columns, 1)[~empty]
        _check(part, where, (f"column {task.time!r}", f"column {task.event!r}"))
        values.append(part)
        table = table.remove_column(table.column_names.index(task.event))
        zeros = pa.array(np.zeros(table.num_rows, dtype=np.int64))
        stubs.append(table.set_column(table.column_names.index(task.time), task.time, zeros))
    parts = read_tables(stubs, replace(options, label=task.time, size=None, skip_bad=False), name=name)
    if parts.test is not None and parts.test.places is None and len(parts.test) != len(values[1]):
        raise PotstillError(f"{name}: the test part has rows with missing values; leave them out of the file")
    parts = replace(parts, notes=(*notes, *parts.notes), label_column=(task.time, "float"))
    return _assemble(task, parts, values, options)


def _numbers(table: Any, column: str, where: str) -> Array:
    """Return the cells of a column, NaN where one is missing; truth values are 0 and 1."""
    if column not in table.column_names:
        raise PotstillError(f"{where}: {unknown_name('column', column, table.column_names)}")
    cells = table.column(column)
    if pa.types.is_boolean(cells.type):
        cells = cells.cast(pa.int8())
    if not is_number_type(cells.type):
        raise PotstillError(
            f"{where}: column {column!r} must hold numbers, but it holds {cells.type}; write times as numbers, and "
            "events as 1 or 0"
        )
    numbers = cells.cast(pa.float64(), safe=False).combine_chunks().fill_null(np.nan)
    return np.array(numbers.to_numpy(zero_copy_only=False), dtype=np.float64)


def _check(values: Array, where: str, names: tuple[str, str]) -> None:
    time, event = values.T
    if not len(values):
        raise PotstillError(f"{where}: no row has a time and an event; give some")
    if (bad := np.flatnonzero(~(np.isfinite(time) & (time >= 0) & (time < 1e30)))).size:
        raise PotstillError(
            f"{where}: times must be finite and at least 0, but {names[0]} has {time[bad[0]]:g} in row {bad[0] + 1}; "
            "correct it"
        )
    if (bad := np.flatnonzero((event != 0) & (event != 1))).size:
        raise PotstillError(
            f"{where}: events must be 1 where one happened and 0 where none was seen until then, but {names[1]} has "
            f"{event[bad[0]]:g} in row {bad[0] + 1}; correct it, or name another column"
        )


def _of_arrays(task: Survival, data: object, options: ReadOptions) -> Splits:
    name, given = "arrays", data
    if isinstance(data, str | Path) and Path(data).suffix.lower() == ".npz":
        name, given = Path(data).stem, read_npz_arrays(Path(data))
    if isinstance(given, dict):
        given = pick_arrays(given, name)
    if not isinstance(given, tuple | list) or len(given) not in (2, 4):
        raise PotstillError(
            "times and events are read from a csv, parquet or npz file, a data frame, or arrays (x, y), not from "
            + (repr(str(data)) if isinstance(data, str | Path) else f"a {type(data).__name__}")
        )
    values = []
    for number, y in enumerate(given[1::2]):
        where = f"{name} (test part)" if number else name
        array = to_array(y, f"{where}: targets")
        if array.dtype.kind not in "biuf" or array.ndim != 2 or array.shape[1] != 2:
            raise PotstillError(f"{where}: targets must be times and events (n, 2), but they are {array.shape}")
        values.append(array.astype(np.float64))
        _check(values[-1], where, ("the first column", "the second"))
    zeros = [np.zeros(len(part), dtype=np.int64) for part in values]
    flat = [v for pair in zip(given[::2], zeros, strict=True) for v in pair]
    return _assemble(task, read_arrays(*flat, name=name), values, options)


def _assemble(task: Survival, parts: RawSplits, values: list[Array], options: ReadOptions) -> Splits:
    """Return the splits with times and events as targets, and a note on how many events there are."""

    def with_targets(part: RawPart, pairs: Array) -> RawPart:
        rows = torch.arange(len(pairs)) if part.places is None else part.places
        targets = torch.from_numpy(pairs[rows.numpy()].astype(np.float32))
        return replace(part, labels=torch.zeros_like(part.labels), targets=targets)

    train = with_targets(parts.train, values[0])
    assert train.targets is not None
    events, total = int(train.targets[:, 1].sum()), len(train.targets)
    if not events:
        raise PotstillError(f"{parts.name}: no row has an event, so there is nothing to learn; check the column")
    test = None if parts.test is None else with_targets(parts.test, values[1])
    note = f"{parts.name}: {events:,} of {total:,} rows have the event, the others are censored"
    made = replace(parts, classes=(), task=task, train=train, test=test, notes=(*parts.notes, note))
    return assemble(made, options)
