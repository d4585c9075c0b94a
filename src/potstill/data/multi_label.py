"""Tables with several labels per row in one column, for ``--task multi-label``."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from potstill.core import Splits
from potstill.data.frames import to_arrow_tables
from potstill.data.read_options import ReadOptions
from potstill.data.splits import RawPart, assemble
from potstill.data.table import TABLE_SUFFIXES, find_label_column, read_table_file, read_tables
from potstill.errors import PotstillError
from potstill.tasks import MultiLabel, pad_targets

__all__ = ["SEPARATOR", "read_multi_label"]

SEPARATOR = ";"
"""Separator of the labels in a cell."""


def read_multi_label(task: MultiLabel, data: object, options: ReadOptions) -> Splits:
    """Read a CSV or Parquet file or a data frame; a cell of the label column has labels with ``;`` between them.

    Args:
        task: the requested task; its label names are filled in from the training part where it has none.
        data: path or data frame.
        options: how to read it; ``label`` names the column of labels. An empty cell has no labels.

    Raises:
        PotstillError: other data, no labels at all, or labels of the test part that the training part lacks.
    """
    if isinstance(data, str | Path) and (path := Path(data)).suffix.lower() in TABLE_SUFFIXES:
        tables, label, name = [read_table_file(path)], options.label, path.name
    elif (frames := to_arrow_tables(data, options.label)) is not None:
        tables, label, name = frames[0], frames[1], "frame"
    else:
        raise PotstillError(
            "several labels per sample are read from a csv or parquet file or a data frame, not from "
            f"{str(data)[:80]!r}; give one"
        )
    column = find_label_column(tables[0], label, {}, name)
    if any(column not in table.column_names for table in tables[1:]):
        raise PotstillError(f"{name}: the test part lacks the column {column!r} of the training part")
    cells = [_split_cells(table.column(column)) for table in tables]
    names = task.labels or tuple(sorted({each for labels in cells[0] for each in labels}))
    if not names:
        raise PotstillError(f'{name}: column {column!r} has no labels; name another with `label="COLUMN"`')
    number_of = {each: i for i, each in enumerate(names)}
    if unknown := sorted({each for part in cells for labels in part for each in labels} - number_of.keys()):
        raise PotstillError(
            f"{name}: label {unknown[0]!r} is not among the {len(names)} labels of the task or the training part; "
            "leave its rows out, or name it in the task"
        )
    stubs = []
    for table in tables:  # classes have no part in it: all rows are one group
        zeros = pa.array(np.zeros(table.num_rows, dtype=np.int64))
        stubs.append(table.set_column(table.column_names.index(column), column, zeros))
    parts = read_tables(stubs, replace(options, label=column, size=None, skip_bad=False), name=name)

    def with_targets(part: RawPart, labels: list[list[str]]) -> RawPart:
        rows = range(len(part)) if part.places is None else part.places.tolist()
        targets = [torch.tensor([number_of[each] for each in labels[i]], dtype=torch.int64) for i in rows]
        return replace(part, labels=torch.zeros_like(part.labels), targets=pad_targets(targets))

    if parts.test is not None and parts.test.places is None and len(parts.test) != len(cells[1]):
        raise PotstillError(f"{name}: the test part has rows with missing values; leave them out of the file")
    parts = replace(
        parts, classes=(), task=replace(task, labels=names), label_column=(column, "text"),
        train=with_targets(parts.train, cells[0]),
        test=None if parts.test is None else with_targets(parts.test, cells[1]),
    )  # fmt: skip
    return assemble(parts, options)


def _split_cells(column: Any) -> list[list[str]]:
    """Return the labels of each row, in order and without repeats."""
    texts = column.cast(pa.large_string()).fill_null("").to_pylist()
    return [[each for each in dict.fromkeys(map(str.strip, text.split(SEPARATOR))) if each] for text in texts]
