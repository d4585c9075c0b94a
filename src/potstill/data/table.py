"""Arrow tables (from CSV, Parquet, Hugging Face) with a label column: tables of numbers, or pictures in a column."""

import difflib
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import torch

from potstill.core import InputSpec
from potstill.data.arrays import encode_labels
from potstill.data.pictures import Picture, gather
from potstill.data.reasons import reason
from potstill.data.splits import Parts
from potstill.errors import PotstillError

__all__ = [
    "features_of",
    "label_column",
    "labels_in",
    "picture_column",
    "read_arrow",
    "read_csv",
    "read_parquet",
]

_LABELS = ("label", "labels", "fine_label")
_PICTURES = ("image", "img", "picture")
_MAX_CATEGORIES = 100


def read_csv(path: Path) -> Any:
    """The Arrow table in a CSV file with a header; comma, or else semicolon or tab, by the header.

    Raises:
        PotstillError: the file is no CSV.
    """
    try:
        with path.open(encoding="utf-8-sig", errors="replace") as file:
            header = file.readline()
        found = next((d for d in ",;\t" if d in header), ",")
        return pyarrow.csv.read_csv(path, parse_options=pyarrow.csv.ParseOptions(delimiter=found))
    except (pa.ArrowInvalid, UnicodeDecodeError, OSError) as error:
        raise PotstillError(f"{path}: not a CSV file with a header line ({reason(error)})") from None


def read_parquet(path: Path) -> Any:
    """The Arrow table in a Parquet file.

    Raises:
        PotstillError: the file is no Parquet file.
    """
    try:
        return pyarrow.parquet.ParquetFile(path).read()
    except (pa.ArrowException, OSError) as error:
        raise PotstillError(f"{path}: not a Parquet file ({reason(error)}); write it anew") from None


def features_of(table: Any) -> dict[str, Any]:
    """What Hugging Face wrote about the columns, or nothing."""
    try:
        about = json.loads((table.schema.metadata or {}).get(b"huggingface", b"{}"))
        return dict(about["info"]["features"])
    except (ValueError, KeyError, TypeError):
        return {}


def label_column(table: Any, label: str | None, features: dict[str, Any], name: str) -> str:
    """The column of labels: ``label``, or the one that is called so or marked so."""
    columns: list[str] = table.column_names
    if label is None:
        classes = [c for c in columns if isinstance(f := features.get(c), dict) and f.get("_type") == "ClassLabel"]
        found = next((c for c in _LABELS if c in columns), classes[0] if len(classes) == 1 else None)
        if found is not None:
            return found
    elif label in columns:
        return label
    near = difflib.get_close_matches((label or "label").lower(), [c.lower() for c in columns], n=1, cutoff=0.5)
    real = [c for c in columns if c.lower() in near]
    listed = ", ".join(columns[:8]) + (", …" if len(columns) > 8 else "")
    hint = f"did you mean {real[0]!r}?" if real else f"the columns are: {listed}"
    raise PotstillError(f"{name}: there is no column {label or 'label'!r}; {hint} Say which with --label COLUMN")


def _is_picture(field: Any, feature: Any) -> bool:
    if isinstance(feature, dict) and feature.get("_type") == "Image":
        return True
    kind = field.type
    if pa.types.is_struct(kind):
        return any(kind.field(i).name == "bytes" for i in range(kind.num_fields))
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def picture_column(table: Any, label: str, features: dict[str, Any], name: str) -> str | None:
    """The column of pictures, if there is one."""
    found = [f.name for f in table.schema if f.name != label and _is_picture(f, features.get(f.name))]
    if len(found) > 1:
        named = [c for c in _PICTURES if c in found]
        if not named:
            raise PotstillError(f"{name}: several columns hold pictures ({', '.join(found)}); keep one of them")
        return named[0]
    return found[0] if found else None


def labels_in(table: Any, column: str, name: str) -> list[Any]:
    """The labels in ``column``, none missing."""
    values = table.column(column)
    if values.null_count:
        row = values.to_pylist().index(None) + 1
        raise PotstillError(f"{name}: row {row}, column {column!r} has no label; fill it or remove the row")
    kind = values.type
    if pa.types.is_list(kind) or pa.types.is_struct(kind) or pa.types.is_binary(kind):
        raise PotstillError(f"{name}: column {column!r} holds {kind}, not classes; name another with --label COLUMN")
    plain = list(values.to_pylist())
    return plain if all(isinstance(v, bool | int | float | str) for v in plain) else [str(v) for v in plain]


def _hole(name: str, row: int, column: str, what: str) -> PotstillError:
    return PotstillError(f"{name}: row {row}, column {column!r} is {what}; fill it or remove the row")


def _numbers(values: Any, column: str, name: str) -> npt.NDArray[np.float64]:
    if values.null_count:
        raise _hole(name, values.to_pylist().index(None) + 1, column, "empty")
    if pa.types.is_boolean(values.type):
        values = values.cast(pa.uint8())
    x: npt.NDArray[np.float64] = values.cast(pa.float64(), safe=False).to_numpy()
    with np.errstate(over="ignore"):
        bad = np.flatnonzero(~np.isfinite(x.astype(np.float32)))
    if bad.size:
        raise _hole(name, int(bad[0]) + 1, column, str(x[bad[0]]))
    return x


def _categories(values: Any, column: str, name: str) -> list[str]:
    texts: list[str | None] = values.to_pylist()
    for row, text in enumerate(texts, 1):
        if not text:
            raise _hole(name, row, column, "empty")
    distinct = sorted({t for t in texts if t})
    if len(distinct) > _MAX_CATEGORIES:
        raise PotstillError(
            f"{name}: column {column!r} holds {len(distinct):,} different texts, which looks like free text or names; "
            f"remove the column (up to {_MAX_CATEGORIES} categories become columns of 0 and 1)"
        )
    return distinct


def _matrices(tables: list[Any], columns: list[str], name: str) -> tuple[list[npt.NDArray[np.float32]], list[str]]:
    """One row per sample; a text column becomes one column of 0 and 1 per category of the first table."""
    out: list[list[npt.NDArray[Any]]] = [[] for _ in tables]
    notes: list[str] = []
    for column in columns:
        kind = tables[0].schema.field(column).type
        kind = kind.value_type if pa.types.is_dictionary(kind) else kind
        if pa.types.is_string(kind) or pa.types.is_large_string(kind):
            names = _categories(tables[0].column(column), column, name)
            notes.append(f"{name}: column {column!r} became {len(names)} columns of 0 and 1")
            for rows, table in zip(out, tables, strict=True):
                texts = np.asarray(table.column(column).to_pylist(), dtype=object)
                rows += [(texts == n).astype(np.float32) for n in names]
        elif any(
            t(kind) for t in (pa.types.is_boolean, pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal)
        ):
            for rows, table in zip(out, tables, strict=True):
                rows.append(_numbers(table.column(column), column, name).astype(np.float32))
        elif pa.types.is_null(kind):
            raise _hole(name, 1, column, "empty")
        else:
            raise PotstillError(f"{name}: column {column!r} holds {kind}; turn it into numbers or texts, or remove it")
    return [np.column_stack(rows) for rows in out], notes


def read_arrow(
    train: Any,
    test: Any,
    *,
    label: str | None,
    name: str,
    base: Path | None = None,
    size: tuple[int, int] | None = None,
    skip_bad: bool = False,
) -> Parts:
    """Reads Arrow tables with a label column.

    A column of pictures (Hugging Face's ``Image``, a struct with ``bytes``, or binary) makes it a set of pictures;
    else every other column is an input: numbers as float32, texts as one column of 0 and 1 per category.

    Args:
        train: ``pyarrow.Table``.
        test: the same, or ``None``.
        label: the label column; ``None``: ``label``, or the only one that Hugging Face marks as classes.
        name: of the data.
        base: what picture paths in the table are relative to.
        size: (height, width) for pictures.
        skip_bad: leave broken pictures out.

    Raises:
        PotstillError: no label column, empty or non-finite cells, columns that are neither numbers nor categories.
    """
    tables = [train] if test is None else [train, test]
    if min(t.num_rows for t in tables) == 0:
        raise PotstillError(f"{name}: there are no rows; give at least one sample")
    features = features_of(train)
    column = label_column(train, label, features, name)
    for table in tables[1:]:
        if lacking := [c for c in train.column_names if c not in table.column_names]:
            raise PotstillError(f"{name}: the test part lacks the column {lacking[0]!r} of the training part")
    about = features.get(column)
    named = tuple(about["names"]) if isinstance(about, dict) and about.get("_type") == "ClassLabel" else None
    given = [labels_in(t, column, name) for t in tables]
    picture = picture_column(train, column, features, name)
    if picture is not None:
        return _pictures(tables, given, picture, named, name, base or Path(), size, skip_bad)
    blank = {c for c in train.column_names if c == "" or c.startswith("Unnamed: ") or c == "__index_level_0__"}
    columns = [c for c in train.column_names if c != column and c not in blank]
    if not columns:
        raise PotstillError(f"{name}: there is no column beside {column!r}; give at least one to learn from")
    matrices, notes = _matrices(tables, columns, name)
    if blank:
        notes.append(f"{name}: the column without a name (row numbers) was not read")
    y, z, classes, more = encode_labels(given[0], given[1] if test is not None else None, classes=named, name=name)
    spec = InputSpec(kind="table", shape=tuple(matrices[0].shape[1:]), units="column values")
    return Parts(
        name=name,
        train=torch.from_numpy(matrices[0]),
        train_labels=y,
        test=torch.from_numpy(matrices[1]) if test is not None else None,
        test_labels=z,
        spec=spec,
        classes=classes,
        notes=(*notes, *more),
    )


def _pictures(
    tables: list[Any],
    given: list[list[Any]],
    column: str,
    named: tuple[str, ...] | None,
    name: str,
    base: Path,
    size: tuple[int, int] | None,
    skip_bad: bool,
) -> Parts:
    items: list[tuple[str, Picture]] = []
    for part, table in zip(("", " (test)"), tables, strict=False):
        for row, value in enumerate(table.column(column).to_pylist(), 1):
            where = f"{name}{part}: row {row}"
            cell = value if isinstance(value, dict) else {"bytes": value}
            if cell.get("bytes") is not None:
                items.append((where, cell["bytes"]))
            elif cell.get("path"):
                items.append((where, base / cell["path"]))
            else:
                raise PotstillError(f"{where} has no picture in column {column!r}; fill it or remove the row")
    got = gather(items, size=size, skip_bad=skip_bad, name=name)
    cut = sum(i < len(given[0]) for i in got.kept)
    values = [v for part in given for v in part]
    kept = [values[i] for i in got.kept]
    y, z, classes, notes = encode_labels(kept[:cut], kept[cut:] if len(tables) == 2 else None, classes=named, name=name)
    return Parts(
        name=name,
        train=got.pixels[:cut],
        train_labels=y,
        test=got.pixels[cut:] if len(tables) == 2 else None,
        test_labels=z,
        spec=InputSpec(kind="image", shape=tuple(got.pixels.shape[1:])),
        classes=classes,
        notes=(*got.notes, *notes),
        places=torch.tensor(got.kept[:cut]),
    )
