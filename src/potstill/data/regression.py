"""Data with real-valued targets, for ``--task regression``."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute
import torch
from torch import Tensor

from potstill.core import Splits
from potstill.data.arrays import to_array
from potstill.data.canonicalize import float32_offsets
from potstill.data.frames import to_arrow_tables
from potstill.data.parsed import parse_column
from potstill.data.python_objects import named_groups, pick_arrays, read_arrays, read_npz_arrays
from potstill.data.read_options import ReadOptions
from potstill.data.splits import RawPart, RawSplits, assemble
from potstill.data.table import TABLE_SUFFIXES, find_label_column, read_table_file, read_tables
from potstill.data.table_encoding import check_float32_range, is_number_type, is_text_type, label_type, parse_missing
from potstill.data.unlabelled import is_unlabelled, read_unlabelled
from potstill.errors import PotstillError
from potstill.tasks import Regression

__all__ = ["read_regression"]


def read_regression(task: Regression, data: object, options: ReadOptions) -> Splits:
    """Read a CSV or Parquet file or a data frame with a target column, an ``.npz``, or arrays (x, y).

    Args:
        task: what is asked for; its targets, means and deviations are filled in by the training part.
        data: what holds it.
        options: how to read it; ``label`` names the column of targets.

    Raises:
        PotstillError: targets that are missing, not finite or no numbers; and as for tables and arrays with classes.
    """
    if is_unlabelled(task):
        return assemble(read_unlabelled(data, options), options)
    if isinstance(data, str | Path) and (path := Path(data)).suffix.lower() in TABLE_SUFFIXES:
        return _read_tables(task, [read_table_file(path)], options.label, path.name, options)
    if (tables := to_arrow_tables(data, options.label)) is not None:
        return _read_tables(task, tables[0], tables[1], "frame", options)
    return _read_arrays(task, data, options)


def _read_tables(task: Regression, tables: list[Any], label: str | None, name: str, options: ReadOptions) -> Splits:
    columns = _target_columns(tables[0], label, name)
    first, *others = columns
    kinds = ["" if is_text_type(cells := tables[0].column(c).type) else label_type(cells) for c in columns]
    values, stubs, notes = [], [], list[str]()
    for table in tables[1:]:
        for column in columns:
            if column not in table.column_names:
                raise PotstillError(f"{name}: the test part lacks the column {column!r} of the training part")
    read = [_numbers_of([t.column(c) for t in tables], c, name, options, notes) for c in columns]
    for table, parts_of_columns in zip(tables, zip(*read, strict=True), strict=True):
        where = name if table is tables[0] else f"{name} (test part)"
        numbers = np.stack(
            [_float_column(c, cells, where) for c, cells in zip(columns, parts_of_columns, strict=True)], 1
        )  # fmt: skip
        empty = np.zeros(len(numbers), dtype=bool)
        for cells in parts_of_columns:
            empty |= np.asarray(cells.is_null(nan_is_null=True).combine_chunks())
        if empty.any() and options.missing in ("impute", "drop"):  # nobody can say what is not known
            notes.append(f"{name}: {int(empty.sum()):,} rows without a target were left out")
            table, numbers, empty = table.filter(pa.array(~empty)), numbers[~empty], empty[~empty]
        values.append(numbers)
        # a missing target is treated as a missing label is; the one group that is left has the number 0
        zeros = pa.array(np.zeros(table.num_rows, dtype=np.int64), mask=empty)
        stubs.append(table.drop_columns(others).set_column(table.column_names.index(first), first, zeros))
    parts = read_tables(stubs, replace(options, label=first, size=None, skip_bad=False), name=name)
    at = torch.arange(len(values[0])) if parts.train.places is None else parts.train.places
    targets = [values[0][at.numpy()], *(v[~np.isnan(v).any(1)] for v in values[1:])]
    if parts.test is not None and len(targets[1]) != len(parts.test):
        raise PotstillError(f"{name}: the test part has rows with missing values; leave them out of the file")
    parts = replace(parts, notes=(*notes, *parts.notes), label_column=None if others else (first, kinds[0]))
    return _assemble_targets(task, parts, columns, targets, options)


def _target_columns(table: Any, label: str | None, name: str) -> tuple[str, ...]:
    """Return the columns of targets: the one of that name, or several whose names have commas between them."""
    if label is None or label in table.column_names or "," not in label:
        return (find_label_column(table, label, {}, name),)
    columns = tuple(find_label_column(table, part.strip(), {}, name) for part in label.split(",") if part.strip())
    if not columns or len(set(columns)) < len(columns):
        raise PotstillError(f"{name}: each target must be named once, but the label is {label!r}; name COLUMN,COLUMN")
    return columns


def _float_column(column: str, cells: Any, where: str) -> npt.NDArray[np.float64]:
    """Return a column's numbers, NaN where there is none."""
    if not is_number_type(cells.type):
        raise PotstillError(
            f"{where}: a real-valued target must be a column of numbers, but {column!r} holds {cells.type}; name "
            'another with `label="COLUMN"`, or leave `task="regression"` out'
        )
    check_float32_range(np.array(cells.cast(pa.float64(), safe=False).to_numpy()), column, where)
    filled = cells.combine_chunks().cast(pa.float64(), safe=False).fill_null(np.nan)
    return np.asarray(filled.to_numpy(zero_copy_only=False))


def _numbers_of(columns: list[Any], column: str, name: str, options: ReadOptions, notes: list[str]) -> list[Any]:
    """Parse target columns that are written as text, and add a note to ``notes``."""
    at = [i for i, values in enumerate(columns) if is_text_type(values.type)]
    names = [name, f"{name} (test part)"]
    texts = [(names[i], columns[i].cast(pa.large_string())) for i in at]
    parsed = at and parse_column(texts, column, fill=parse_missing(options.missing) != "refuse", numbers=True)
    if not parsed or parsed.kind != "number":
        return columns
    notes.append(parsed.note)
    for i, cells in zip(at, parsed.parts, strict=True):
        columns[i] = pa.chunked_array([pa.array(cells, from_pandas=True)])
    return columns


def _read_arrays(task: Regression, data: object, options: ReadOptions) -> Splits:
    name, arrays_or_pairs = "arrays", data
    if isinstance(data, str | Path) and Path(data).suffix.lower() == ".npz":
        name, arrays_or_pairs = Path(data).stem, read_npz_arrays(Path(data))
    arrays = arrays_or_pairs if isinstance(arrays_or_pairs, dict) else {}
    if isinstance(arrays_or_pairs, dict):
        arrays_or_pairs = pick_arrays(arrays, name)
    if not isinstance(arrays_or_pairs, tuple | list) or len(arrays_or_pairs) not in (2, 4):
        raise PotstillError(
            "a real-valued target is read from a csv, parquet or npz file, a data frame, or arrays (x, y), not from "
            + (repr(str(data)) if isinstance(data, str | Path) else f"a {type(data).__name__}")
        )
    targets = [_targets(y, name) for y in arrays_or_pairs[1::2]]
    groups = [np.zeros(len(t), dtype=np.int64) for t in targets]
    flat = [v for pair in zip(arrays_or_pairs[::2], groups, strict=True) for v in pair]
    parts = read_arrays(*flat, name=name)
    if isinstance(options.group, str) and arrays:
        parts = named_groups(parts, arrays, options.group)
    width = targets[0].shape[1]
    names = task.targets or (("target",) if width == 1 else tuple(f"target {i + 1}" for i in range(width)))
    return _assemble_targets(task, parts, names, targets, options)


def _targets(y: Any, name: str) -> npt.NDArray[np.float64]:
    values = to_array(y, f"{name}: targets")
    if values.dtype.kind not in "biuf" or values.ndim not in (1, 2):
        raise PotstillError(f"{name}: targets must be numbers, (n,) or (n, t), but they are {values.dtype}")
    x = values.reshape(len(values), -1).astype(np.float64)
    for i, column in enumerate(x.T):
        check_float32_range(np.where(np.isinf(column), np.nan, column), f"target {i + 1}", name)
    return x


def _assemble_targets(
    task: Regression,
    parts: RawSplits,
    names: tuple[str, ...],
    values: list[npt.NDArray[np.float64]],
    options: ReadOptions,
) -> Splits:
    values = [part.reshape(len(part), -1) for part in values]
    for part in values:
        if not np.isfinite(part).all():
            raise PotstillError(f"{parts.name}: targets must be finite numbers; leave out the rows where they are not")
    offset, notes = float32_offsets(values[0]), []
    for column, subtracted in zip(names, offset, strict=True):
        if subtracted:
            notes.append(
                f"{parts.name}: target {column!r} is taken less {subtracted:,.15g}: floats of 32 bits do not hold its "
                "digits; scores stand in its own unit"
            )
    task = replace(task, offset=offset if notes else ())
    targets = [torch.from_numpy((part - np.array(offset)).astype(np.float32)) for part in values]
    parts = replace(
        parts, notes=(*parts.notes, *notes), classes=(), task=replace(task, targets=names),
        train=_with_targets(parts.train, targets[0]),
        test=None if parts.test is None else _with_targets(parts.test, targets[1]),
    )  # fmt: skip
    return assemble(parts, options)


def _with_targets(part: RawPart, targets: Tensor) -> RawPart:
    return replace(part, labels=torch.zeros_like(part.labels), targets=targets)
