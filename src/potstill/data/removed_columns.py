"""Columns of a table that are removed before it is read."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from potstill.data.frames import to_arrow_tables
from potstill.errors import PotstillError, unknown_name

__all__ = ["parse_removed_columns", "refuse_removed_columns", "remove_columns"]


def parse_removed_columns(value: object) -> tuple[str, ...]:
    """Return the names of columns in ``value``: one name, a sequence of names, or ``None``.

    Raises:
        PotstillError: it is something else, or a name stands there twice.
    """
    if value is None:
        return ()
    names = (value,) if isinstance(value, str) else tuple(value) if isinstance(value, list | tuple) else (None,)
    if not all(isinstance(name, str) and name for name in names) or len(set(names)) < len(names):
        raise PotstillError(f"different names of columns are required to be removed, not {str(value)[:80]!r}")
    return tuple(str(name) for name in names)


def remove_columns(tables: Sequence[Any], removed: Sequence[str], label: str | None, name: str) -> list[Any]:
    """Return Arrow tables without some columns.

    Args:
        tables: ``pyarrow.Table`` of the training part, and that of the test part if there is one.
        removed: names of columns of the training part; the test part need not have them.
        label: column of labels, which stays.
        name: name of the data, for messages.

    Raises:
        PotstillError: there is no such column, or it is that of the labels.
    """
    if not removed:
        return list(tables)
    for column in removed:
        if column not in tables[0].column_names:
            raise PotstillError(f"{name}: {unknown_name('column', column, tables[0].column_names)}")
        if column == label:
            raise PotstillError(
                f"{name}: column {column!r} holds the labels, and cannot be removed; name another as the label with "
                '`label="COLUMN"`'
            )
    return [table.drop_columns([c for c in removed if c in table.column_names]) for table in tables]


def refuse_removed_columns(data: object, removed: Sequence[str], suffixes: Sequence[str]) -> None:
    """Refuse to remove columns from ``data`` that are no table.

    Args:
        data: as for `potstill.load_data`.
        removed: names of columns.
        suffixes: those of files that hold a table.
    """
    if not removed or str(data).startswith("hub:"):
        return
    if isinstance(data, str | Path):
        is_table = Path(data).suffix.lower() in suffixes
    else:
        is_table = hasattr(data, "column_names") or to_arrow_tables(data, None) is not None
    if not is_table:
        raise PotstillError(
            "columns are removed from tables (csv, parquet, data frames), not from these data; leave "
            "`remove_columns=` out"
        )
