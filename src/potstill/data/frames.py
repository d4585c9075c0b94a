"""Data frames of any library that speaks Arrow (pandas, polars, pyarrow) as Arrow tables with a label column."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from potstill.data.arrays import to_array
from potstill.data.error_text import reason
from potstill.errors import PotstillError

__all__ = ["is_frame", "to_arrow_tables"]


def is_frame(data: object) -> bool:
    """Return True if ``data`` has named columns and exports Arrow data; imports no frame library."""
    if _is_pandas(data):
        return True
    named = isinstance(getattr(data, "column_names", None) or getattr(data, "columns", None), Sequence)
    return named and hasattr(data, "__arrow_c_stream__")


def _is_pandas(data: object) -> bool:
    return any(c.__module__.partition(".")[0] == "pandas" and c.__name__ == "DataFrame" for c in type(data).__mro__)


def _names(frame: Any) -> list[str]:
    return [str(c) for c in (getattr(frame, "column_names", None) or list(frame.columns))]


def _table(frame: Any, name: str) -> Any:
    try:
        if not _is_pandas(frame):
            return pa.table(frame)
        twice = len(set(_names(frame))) < len(frame.columns)
        plain = frame.set_axis([str(i) for i in range(len(frame.columns))], axis=1)
        table = pa.Table.from_pandas(plain, preserve_index=False)
        return table if twice and table.num_columns != len(frame.columns) else table.rename_columns(_names(frame))
    except (pa.ArrowException, TypeError, ValueError) as error:
        text = reason(error)
        raise PotstillError(f"{name}: cannot be read column by column ({text}); give each column one type") from None


def to_arrow_tables(data: object, label: str | None) -> tuple[list[Any], str | None] | None:
    """Convert frames to Arrow tables: a frame, a training and a test frame, ``(frame, y)`` or ``(frame, y, frame,
    y)``.

    Returns:
        The training table, the test table if there is one, and the label column if it is known; ``None`` for other
        data.

    Raises:
        PotstillError: a column that holds values of several types, or not as many labels as rows.
    """
    if is_frame(data):
        return [_table(data, "frame")], label
    if not isinstance(data, tuple | list) or len(data) not in (2, 4) or not is_frame(data[0]):
        return None
    if len(data) == 2 and is_frame(data[1]) and sorted(_names(data[1])) == sorted(_names(data[0])):
        return [_table(data[0], "frame"), _table(data[1], "frame (test)")], label
    if any(is_frame(y) and len(_names(y)) > 1 for y in data[1::2]):  # one-hot rows
        return None
    tables = []
    taken = _names(data[0])
    column = str(label or getattr(data[1], "name", None) or "label")
    while column in taken:
        column = f"{column}_"
    for frame, y, part in zip(data[::2], data[1::2], ("frame", "frame (test)"), strict=False):
        if not is_frame(frame):
            raise PotstillError(f"{part}: the training part is a data frame, this is a {type(frame).__name__}")
        table = _table(frame, part)
        labels = _labels(y, part)
        if len(labels) != table.num_rows:
            raise PotstillError(f"{part}: {table.num_rows} inputs but {len(labels)} labels; give one label for each")
        tables.append(table.append_column(column, labels))
    return tables, column


def _labels(y: Any, name: str) -> Any:
    try:
        if is_frame(y):
            return _table(y, name).column(0)
        if hasattr(y, "__arrow_c_stream__") or hasattr(y, "__arrow_array__"):
            return pa.chunked_array(y) if hasattr(y, "__arrow_c_stream__") else pa.array(y)
        return pa.array(to_array(y, name).tolist() if not isinstance(y, np.ndarray) else y.tolist())
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise PotstillError(f"{name}: labels are not understood ({reason(error)}); give texts or integers") from None
