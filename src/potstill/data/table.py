"""Arrow tables (from CSV, Parquet, Hugging Face) with a label column: numeric tables, or images in a column."""

import difflib
import itertools
import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute
import pyarrow.csv
import pyarrow.parquet
import torch

from potstill._util.input_limits import check_limit, limit_hint, limits
from potstill.core import InputSpec
from potstill.data.arrays import encode_labels
from potstill.data.attributes import attribute_column
from potstill.data.error_text import reason
from potstill.data.groups import GroupValues, read_column_groups
from potstill.data.limits import UnpackBudget, require_memory
from potstill.data.pictures import Picture
from potstill.data.read_options import ReadOptions
from potstill.data.readers import cell_picture
from potstill.data.removed_columns import remove_columns
from potstill.data.splits import RawPart, RawSplits, decode_labelled
from potstill.data.table_encoding import is_text_type, label_type, parse_missing, read_frames, to_texts
from potstill.data.texts import (
    JSON_SUFFIXES,
    find_text_column,
    read_json_lines,
    read_text_csv,
    text_splits,
)
from potstill.errors import PotstillError

__all__ = [
    "CSV_SUFFIXES", "TABLE_SUFFIXES", "check_unique_columns", "find_image_column", "find_label_column",
    "find_missing_labels", "hub_features", "read_csv", "read_file_with_labels", "read_labelled_csv", "read_labels",
    "read_parquet", "read_table_file", "read_tables",
]  # fmt: skip

_LABELS = ("label", "labels", "fine_label")
_PICTURES = ("image", "img", "picture")
CSV_SUFFIXES = (".csv", ".tsv")
TABLE_SUFFIXES = (*CSV_SUFFIXES, *JSON_SUFFIXES, ".parquet", ".pq")
_ZERO = r"^\s*[+-]?0[0-9]"
_ZEROS = b"potstill:zeros"
"""Schema metadata key that lists the numeric CSV columns written with leading zeros."""


def read_csv(path: Path, **convert_options: Any) -> Any:
    """Read a CSV file with a header; the delimiter is a comma, or else a semicolon or tab, by the header.

    Args:
        path: the file.
        convert_options: of ``pyarrow.csv.ConvertOptions``.

    Raises:
        PotstillError: the file is no CSV in UTF-8, a quote is not closed on its line, or a column name stands there
            twice.
    """
    try:
        with path.open(encoding="utf-8-sig", errors="replace") as file:
            header = next(_lines(file, path), "")
        delimiter = next((d for d in ",;\t" if d in header), ",")
        check_limit("columns", header.count(delimiter) + 1, str(path))
        zeros = _check_quotes(path, delimiter)
        table = pyarrow.csv.read_csv(
            path,
            parse_options=pyarrow.csv.ParseOptions(delimiter=delimiter),
            convert_options=pyarrow.csv.ConvertOptions(**convert_options),
        )
    except (pa.ArrowInvalid, UnicodeDecodeError, OSError) as error:
        raise PotstillError(f"{path}: not a CSV file with a header line ({reason(error)})") from None
    check_unique_columns(table, path.name)
    if binary := [f.name for f in table.schema if pa.types.is_binary(f.type)]:
        raise PotstillError(f"{path}: column {binary[0]!r} is not UTF-8; save the file again as UTF-8")
    if (
        zeros
        and not convert_options
        and (whole := [f.name for f in table.schema if f.name and pa.types.is_integer(f.type)])
    ):
        texts = read_csv(path, include_columns=whole, column_types=dict.fromkeys(whole, pa.string()))
        names = [
            c for c in whole if pyarrow.compute.any(pyarrow.compute.match_substring_regex(texts[c], _ZERO)).as_py()
        ]
        table = table.replace_schema_metadata({_ZEROS: json.dumps(names)} if names else None)
    return table


def read_labelled_csv(path: Path, label: str | None) -> Any:
    """Read a CSV file; the label column keeps its text where that says more than the numbers in it.

    ``01`` is not made 1, ``true`` is not made 1 or ``True``, and a number too large to be counted with stays as it is
    written.

    Args:
        path: the file.
        label: that column; ``None``: as `find_label_column` finds it.

    Raises:
        PotstillError: as `read_csv`, or there is no such column, or two labels are one and the same but for zeros,
            blanks, or the case of true and false.
    """
    table = read_csv(path)
    column = find_label_column(table, label, {}, path.name)
    texts = read_csv(path, include_columns=[column], column_types={column: pa.string()}).column(0)
    place = table.column_names.index(column)
    kind = table.column(place).type
    _check_similar_labels(texts.to_pylist(), column, path.name, pa.types.is_boolean(kind))
    return table.set_column(place, column, texts) if _loses_names(kind, texts) else table


def _lines(file: TextIO, path: Path) -> Iterator[str]:
    """Yield the lines of a file, refusing lines and row counts beyond the limits."""
    most, rows = limits().line_bytes, limits().rows
    for number in itertools.count(1):
        line = file.readline(most + 1)
        if len(line) > most:
            raise PotstillError(
                f"{path}: line {number:,} has more than {most:,} characters; {limit_hint('line_bytes')}"
            )
        if number > rows + 1:
            raise PotstillError(f"{path}: more than {rows:,} rows; {limit_hint('rows')}")
        if not line:
            return
        yield line


def check_table(rows: int, columns: int, where: str) -> None:
    """Refuse a table beyond the limits or this machine's memory."""
    check_limit("rows", rows, where)
    check_limit("columns", columns, where)
    check_limit("cells", rows * columns, where)
    require_memory(8 * rows * columns, f"{where}: {rows:,} rows of {columns:,} numbers", "give fewer")


def _check_quotes(path: Path, delimiter: str) -> bool:
    """Refuse a quote that is not closed on its line: it would take the next lines into its value."""
    d = re.escape(delimiter)
    # A value begins with a quote and runs to the next single one, or it holds none that counts. Nothing is tried twice.
    value = rf'(?:"(?:[^"]|"")*+(?:"(?!"))[^{d}]*+|(?!")[^{d}]*+)'
    closed = re.compile(rf"{value}(?:{d}{value})*+")
    zero, zeros = re.compile(rf'(?:^|{d})\s*"?[+-]?0[0-9]'), False
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        for number, line in enumerate(_lines(file, path), 1):
            zeros = zeros or zero.search(line) is not None
            if '"' in line and closed.fullmatch(line.rstrip("\r\n")) is None:
                raise PotstillError(
                    f"{path}: line {number}: a quote opens a value and is not closed on that line; close it, or take "
                    'the line break out of the value (texts may have some: say their column with `text="COLUMN"`)'
                )
    return zeros


def _check_similar_labels(texts: list[str | None], column: str, name: str, booleans: bool) -> None:
    first_rows: dict[str, tuple[str, int]] = {}
    for row, text in enumerate(texts, 1):
        if text is None:
            continue
        before, first = first_rows.setdefault(_label_key(text).lower() if booleans else _label_key(text), (text, row))
        if before != text:
            raise PotstillError(
                f"{name}: column {column!r} holds the labels {before!r} (row {first}) and {text!r} (row {row}); "
                "whether these are one class or two cannot be told; write them alike, or so that they differ"
            )


def _label_key(text: str) -> str:
    bare = text.strip()
    match = re.fullmatch(r"([+-]?)0*(\d+)", bare)
    return bare if match is None else match[1].replace("+", "") + match[2]


def _loses_names(kind: Any, texts: Any) -> bool:
    """Return True if numbers or booleans read from texts lost what makes them names."""
    if pa.types.is_boolean(kind):
        return True
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
        return False
    written = [t for t in pyarrow.compute.unique(texts).to_pylist() if t and t.strip()]
    if pa.types.is_floating(kind):  # whole numbers beyond 64 bits, which became floats
        return all(re.fullmatch(r"[+-]?\d+", t.strip()) for t in written) and any(len(t.strip()) > 18 for t in written)
    return any(_label_key(t) != t for t in written)


def check_unique_columns(table: Any, name: str) -> None:
    """Refuse an Arrow ``table`` with duplicate column names or names that are not text."""
    try:
        count = Counter(c for c in table.column_names if c != "")
    except UnicodeDecodeError:
        raise PotstillError(f"{name}: the name of a column is not UTF-8; save the file again as UTF-8") from None
    if twice := [c for c, n in count.items() if n > 1]:
        places = [str(i) for i, c in enumerate(table.column_names, 1) if c == twice[0]]
        raise PotstillError(
            f"{name}: {count[twice[0]]} columns are called {twice[0]!r} (columns {', '.join(places)}); "
            "give each its own name"
        )


def read_parquet(path: Path) -> Any:
    """Read the Arrow table in a Parquet file; one that is no such file, or holds text that is no UTF-8, is refused."""
    try:
        file = pyarrow.parquet.ParquetFile(path)
        about, unpacked = file.metadata, UnpackBudget(path)
        check_table(about.num_rows, about.num_columns, str(path))
        for group in range(about.num_row_groups):
            unpacked.add(about.row_group(group).total_byte_size)
        table = file.read()
        table.validate(full=True)
        return table
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise PotstillError(f"{path}: not a Parquet file ({reason(error)}); write it again") from None


def read_table_file(path: Path) -> Any:
    """Read the Arrow table in a CSV, JSON lines or Parquet file, by its suffix."""
    if (suffix := path.suffix.lower()) in CSV_SUFFIXES:
        return read_csv(path)
    return read_json_lines(path) if suffix in JSON_SUFFIXES else read_parquet(path)


def read_file_with_labels(path: Path, options: ReadOptions) -> Any:
    """Read the Arrow table in a file that has a label column; of texts that are named so, in any encoding."""
    if path.suffix.lower() not in CSV_SUFFIXES:
        return read_table_file(path)
    named = options.text is not None or options.kind == "text"
    return read_text_csv(path) if named else read_labelled_csv(path, options.label)


def hub_features(table: Any) -> dict[str, Any]:
    """Return the column features that Hugging Face wrote, or an empty mapping."""
    try:
        about = json.loads((table.schema.metadata or {}).get(b"huggingface", b"{}"))
        return dict(about["info"]["features"])
    except (ValueError, KeyError, TypeError):
        return {}


def find_label_column(table: Any, label: str | None, features: dict[str, Any], name: str) -> str:
    """Find the label column: ``label``, or the one with a usual name or a ClassLabel feature."""
    columns: list[str] = table.column_names
    if label is None:
        classes = [c for c in columns if isinstance(f := features.get(c), dict) and f.get("_type") == "ClassLabel"]
        usual = next((c for c in _LABELS if c in columns), classes[0] if len(classes) == 1 else None)
        if usual is not None:
            return usual
    elif label in columns:
        return label
    # Where nobody said a name, only what is nearly ours was meant: an `age` is no `label`.
    cutoff = 0.75 if label is None else 0.5
    near = difflib.get_close_matches((label or "label").lower(), [c.lower() for c in columns], n=1, cutoff=cutoff)
    real = [c for c in columns if c.lower() in near]
    listed = ", ".join(columns[:8]) + (f" and {len(columns) - 8} more" if len(columns) > 8 else "")
    parts = [part.strip() for part in (label or "").split(",")]
    if len(parts) > 1 and all(part in columns for part in parts):
        hint = 'several columns are targets of `task="regression"` alone.'
    else:
        hint = f"did you mean {real[0]!r}?" if real else f"the columns are: {listed}."
    raise PotstillError(f'{name}: there is no column {label or "label"!r}; {hint} Say which with `label="COLUMN"`')


def _is_picture(field: Any, feature: Any) -> bool:
    if isinstance(feature, dict) and feature.get("_type") == "Image":
        return True
    kind = field.type
    if pa.types.is_struct(kind):
        return any(kind.field(i).name == "bytes" for i in range(kind.num_fields))
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def find_image_column(table: Any, label: str, features: dict[str, Any], name: str) -> str | None:
    """Return the image column, or ``None``."""
    found = [f.name for f in table.schema if f.name != label and _is_picture(f, features.get(f.name))]
    if len(found) > 1:
        named = [c for c in _PICTURES if c in found]
        if not named:
            raise PotstillError(f"{name}: several columns hold pictures ({', '.join(found)}); keep one of them")
        return named[0]
    return found[0] if found else None


def find_missing_labels(table: Any, column: str) -> npt.NDArray[np.bool_]:
    """Return True for rows without a label (n,): an empty cell, or a blank text."""
    values = table.column(column)
    empty = values.is_null(nan_is_null=True)
    if is_text_type(values.type.value_type if pa.types.is_dictionary(values.type) else values.type):
        blank = pyarrow.compute.equal(pyarrow.compute.utf8_trim_whitespace(to_texts(values)), "")
        empty = pyarrow.compute.or_kleene(empty, blank)
    return np.asarray(empty.combine_chunks().fill_null(True).to_numpy(zero_copy_only=False), dtype=bool)


def read_labels(table: Any, column: str, name: str) -> list[Any]:
    """Return the labels in ``column``, none missing."""
    values = table.column(column)
    if (empty := find_missing_labels(table, column)).any():
        row = int(empty.argmax()) + 1
        raise PotstillError(
            f"{name}: row {row}, column {column!r} has no label; fill it or remove the row "
            '(`missing="drop"` leaves such rows out)'
        )
    kind = values.type
    if pa.types.is_list(kind) or pa.types.is_struct(kind) or pa.types.is_binary(kind):
        raise PotstillError(f'{name}: column {column!r} holds {kind}, not classes; name another with `label="COLUMN"`')
    plain = list(values.to_pylist())
    return plain if all(isinstance(v, bool | int | float | str) for v in plain) else [str(v) for v in plain]


def read_tables(tables: list[Any], options: ReadOptions, *, name: str, base: Path | None = None) -> RawSplits:
    """Read Arrow tables with a label column.

    With an image column (Hugging Face's ``Image``, a struct with ``bytes``, or binary) these are images; else every
    other column is an input, of the kinds that ``table_encoding.read_frames`` tells apart.

    Args:
        tables: ``pyarrow.Table`` of the training part, and that of the test part if there is one.
        options: ``label``, ``size``, ``skip_bad``, ``missing``, ``remove_columns``, ``attribute`` (a text: a column)
            and ``group`` (a text: a column, which is then no input) are used.
        name: name of the data, for messages.
        base: folder that image paths must lie in; ``None``: any, for a table made in this process.

    Raises:
        PotstillError: no label column, empty cells (unless ``missing`` says otherwise), columns of other kinds.
    """
    if options.remove_columns:
        column = find_label_column(tables[0], options.label, hub_features(tables[0]), name)
        for option in ("attribute", "group"):
            used = str(getattr(options, option)).removesuffix(":excluded")
            if used in options.remove_columns:
                cure = f'; `attribute="{used}:excluded"` is not an input either' if option == "attribute" else ""
                raise PotstillError(
                    f"{name}: column {used!r} is removed, and cannot say the {option}; leave it out of "
                    f"`remove_columns=`{cure}"
                )
        rest = remove_columns(tables, options.remove_columns, column, name)
        return read_tables(rest, replace(options, remove_columns=()), name=name, base=base)
    if isinstance(options.attribute, str):
        return _with_attribute(tables, options, options.attribute, name, base)
    train, tables = tables[0], list(tables)
    label, missing, group = options.label, options.missing, options.group
    if isinstance(group, str):
        if group == find_label_column(train, label, hub_features(train), name):
            raise PotstillError(f"{name}: column {group!r} is the label, and cannot say the groups, too; name another")
        values = [read_column_groups(table, group, name) for table in tables]
        inputs = [table.drop_columns([group]) for table in tables]
        parts = read_tables(inputs, replace(options, group=None), name=name, base=base)
        note = f"{name}: column {group!r} says the groups and is no input"

        def grouped(part: RawPart, groups: GroupValues) -> RawPart:
            return replace(part, groups=groups if part.places is None else groups[part.places])

        of_test = None if parts.test is None else grouped(parts.test, values[1])
        return replace(parts, train=grouped(parts.train, values[0]), test=of_test, notes=(*parts.notes, note))
    way = parse_missing(missing)
    if min(t.num_rows for t in tables) == 0:
        raise PotstillError(f"{name}: there are no rows; give at least one sample")
    for table in tables:
        check_unique_columns(table, name)
        check_table(table.num_rows, table.num_columns, name)
    features = hub_features(train)
    column = find_label_column(train, label, features, name)
    for table in tables[1:]:
        if lacking := [c for c in train.column_names if c not in table.column_names]:
            raise PotstillError(f"{name}: the test part lacks the column {lacking[0]!r} of the training part")
    about = features.get(column)
    named = tuple(about["names"]) if isinstance(about, dict) and about.get("_type") == "ClassLabel" else None
    picture = find_image_column(train, column, features, name)
    if picture is not None:
        if missing not in (None, "refuse"):
            raise PotstillError(f"{name}: holds pictures, of which no value is missing; leave `missing=` out")
        labels = [read_labels(t, column, name) for t in tables]
        return _pictures(tables, labels, picture, named, name, base, options)
    if (text := find_text_column(train, column, options, name)) is not None:
        return _texts(tables, text, column, named, options, name)
    blank = {c for c in train.column_names if c == "" or c.startswith("Unnamed: ") or c == "__index_level_0__"}
    blank |= (exported := _exported_columns(train) & {*train.column_names} - {column})
    columns = [c for c in train.column_names if c != column and c not in blank]
    if not columns:
        raise PotstillError(f"{name}: there is no column beside {column!r}; give at least one to learn from")
    frames, notes = read_frames(tables, columns, features, name, way)
    if way == "drop":
        for i, part in enumerate([""] if len(tables) == 1 else [" of the training part", " of the test part"]):
            complete = frames[i].complete_rows & ~find_missing_labels(tables[i], column)
            if dropped := int((~complete).sum()):
                notes.append(
                    f"{name}: {dropped:,} of {len(complete):,} rows{part} have missing values and were left out"
                )
                frames[i], tables[i] = frames[i][np.flatnonzero(complete)], _labels_of(tables[i], column, complete)
            if not len(frames[i]):
                raise PotstillError(f'{name}: every row{part} has a missing value; try `missing="impute"`')
    labels = [read_labels(t, column, name) for t in tables]
    if way == "refuse":
        for frame in frames:
            frame.refuse_holes()
    wide = [c for c in json.loads((train.schema.metadata or {}).get(_ZEROS, b"[]")) if c in columns]
    if wide:
        notes.append(
            f"{name}: column {', '.join(map(repr, wide[:3]))}{', …' * (len(wide) > 3)}: numbers that begin with a "
            "zero, read as numbers; if they are names, as postcodes are, put a letter before them"
        )
    if exported:
        notes.append(f"{name}: {', '.join(sorted(exported))}, which a distilled set has beside its rows, were not read")
    if blank - exported:
        notes.append(f"{name}: the column without a name (row numbers) was not read")
    y, z, classes, more = encode_labels(labels[0], labels[1] if len(labels) == 2 else None, classes=named, name=name)
    return RawSplits(
        name=name,
        train=RawPart(inputs=frames[0], labels=y, places=torch.from_numpy(frames[0].rows)),
        test=None if z is None else RawPart(inputs=frames[1], labels=z, places=torch.from_numpy(frames[1].rows)),
        spec=InputSpec(kind="table", shape=(len(columns),), units="column values"),
        classes=classes,
        notes=(*notes, *more),
        label_column=(column, label_type(train.column(column).type, named=named is not None)),
    )


def _texts(
    tables: list[Any], text: str, column: str, named: tuple[str, ...] | None, options: ReadOptions, name: str
) -> RawSplits:
    """Read a column of texts, without rows that have no label where missing values are dropped."""
    rows = [np.arange(t.num_rows) for t in tables]
    label_column = (column, label_type(tables[0].column(column).type, named=named is not None))
    if options.missing == "drop":
        rows = [np.flatnonzero(~find_missing_labels(t, column)) for t in tables]
        tables = [t.take(pa.array(r)) for t, r in zip(tables, rows, strict=True)]
    labels = [read_labels(t, column, name) for t in tables]
    return text_splits(tables, labels, named, text, [torch.from_numpy(r) for r in rows], options, name, label_column)


def _with_attribute(tables: list[Any], options: ReadOptions, attribute: str, name: str, base: Path | None) -> RawSplits:
    """Read tables with a column that says the attribute, and stays an input unless it is excluded."""
    column, is_input = attribute_column(attribute, tables[0].column_names)
    label = find_label_column(tables[0], options.label, hub_features(tables[0]), name)
    for what, taken in (("label", label), ("group, which a split keeps on one side", options.group)):
        if column == taken:
            raise PotstillError(
                f"{name}: column {column!r} is the {what}, and cannot be the attribute, too; name another"
            )
    values = [read_column_groups(table, column, name, "attribute") for table in tables]
    inputs = tables if is_input else [table.drop_columns([column]) for table in tables]
    parts = read_tables(inputs, replace(options, attribute=None), name=name, base=base)
    note = f"{name}: column {column!r} is the attribute and no input"
    if is_input and parts.spec.kind == "table":
        note = f"{name}: column {column!r} is the attribute, and an input; `attribute={column}:excluded` leaves it out"

    def with_values(part: RawPart, attributes: GroupValues) -> RawPart:
        return replace(part, attributes=attributes if part.places is None else attributes[part.places])

    test = None if parts.test is None else with_values(parts.test, values[1])
    return replace(parts, train=with_values(parts.train, values[0]), test=test, notes=(*parts.notes, note))


def _exported_columns(table: Any) -> set[str]:
    """Return the columns of an exported set that are neither inputs nor labels: weights, soft labels."""
    try:
        names = json.loads((table.schema.metadata or {}).get(b"potstill", b"{}"))["beside"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return set()
    return {name for name in names if isinstance(name, str)} if isinstance(names, list) else set()


def _labels_of(table: Any, column: str, mask: npt.NDArray[np.bool_]) -> Any:
    """Return the labels of the kept rows, texts as plain ones: Arrow cannot filter rows of every type."""
    values = table.column(column)
    inner = values.type.value_type if pa.types.is_dictionary(values.type) else values.type
    return pa.table({column: to_texts(values) if is_text_type(inner) else values}).filter(pa.array(mask))


def _pictures(
    tables: list[Any], labels: list[list[Any]], column: str, named: tuple[str, ...] | None, name: str,
    base: Path | None, options: ReadOptions,
) -> RawSplits:  # fmt: skip
    items: list[tuple[str, Picture]] = []
    for part, table in zip(("", " (test)"), tables, strict=False):
        for row, value in enumerate(table.column(column).to_pylist(), 1):
            where = f"{name}{part}: row {row}"
            items.append((where, cell_picture(value, column, base, where)))
    return decode_labelled(items, labels, name, options, named)
