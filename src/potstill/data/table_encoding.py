"""Table columns by kind (numbers, booleans, categories, dates), fitted on the training part and encoded by it."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from jaxtyping import Float32, Int
from torch import Tensor

from potstill._util.input_limits import limit_hint, limits
from potstill.data.canonicalize import float32_offsets, note_merged_values
from potstill.data.parsed import dictionary_codes, parse_column
from potstill.errors import PotstillError, unknown_name

__all__ = [
    "Column", "Frame", "Kind", "Missing", "check_float32_range", "column_metadata", "encode_frames",
    "is_number_type", "is_text_type", "label_type", "parse_missing", "read_frames", "to_texts",
]  # fmt: skip

Kind: TypeAlias = Literal["number", "boolean", "category", "date"]
Missing: TypeAlias = Literal["impute", "drop", "refuse"]

_EPOCH = datetime(1970, 1, 1)
_DAY = 86_400_000_000  # microseconds
_UNITS = {"d": 1, "s": 86_400, "ms": 86_400_000, "us": _DAY}
"""Number of units in a day."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A table column with its training statistics."""

    name: str
    kind: Kind
    """``category`` became one value of 0 or 1 per category; ``date`` days since ``since``; ``boolean`` 0 and 1."""
    values: tuple[str, ...] = ()
    """Categories, in the order of their values in the input."""
    fill: float | str | None = None
    """Value that replaces a missing one; ``None``: none was missing."""
    since: str | None = None
    """Earliest date of the training part."""
    offset: float | None = None
    """Number subtracted before conversion to float32; ``None``: none."""
    type: str = ""
    """Arrow type of the cells as read; a dictionary is ``category<TYPE>``. Empty: float64, boolean, text; for dates,
    microseconds."""
    at_midnight: bool = False
    """True if all dates of the training part are at midnight."""
    absent: bool = False
    """True if the last category stands for missing cells."""

    @property
    def names(self) -> tuple[str, ...]:
        """Name of each input value that comes from this column."""
        return tuple(f"{self.name}={v}" for v in self.values) if self.kind == "category" else (self.name,)


@dataclass(frozen=True, slots=True, eq=False)
class _RawColumn:
    """A column as read: float64 numbers and NaN (dates: days since 1970), or codes of ``words`` and -1."""

    name: str
    kind: Kind
    cells: npt.NDArray[Any]
    words: tuple[str, ...] = ()
    type: str = ""

    @property
    def empty(self) -> npt.NDArray[np.bool_]:
        """True for missing cells (n,)."""
        return np.asarray(self.cells < 0 if self.kind == "category" else np.isnan(self.cells))


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """Table rows that were read and not yet encoded."""

    name: str
    columns: tuple[_RawColumn, ...]
    rows: npt.NDArray[np.int64]
    """Row number in the data, from 0."""

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Int[Tensor, " m"] | npt.NDArray[Any]) -> "Frame":
        at = index.numpy() if isinstance(index, Tensor) else index
        return Frame(self.name, tuple(replace(c, cells=c.cells[at]) for c in self.columns), self.rows[at])

    @property
    def complete_rows(self) -> npt.NDArray[np.bool_]:
        """True for rows with a value in every column (n,)."""
        complete = np.ones(len(self), dtype=bool)
        for column in self.columns:
            complete &= ~column.empty
        return complete

    def refuse_holes(self) -> None:
        """Refuse missing values, naming the row and column of the first."""
        for column in self.columns:
            if (at := np.flatnonzero(column.empty)).size:
                row = int(self.rows[at[0]]) + 1
                raise PotstillError(
                    f"{self.name}: row {row}, column {column.name!r} is empty; fill it or remove the row, or say what "
                    'is to be done with missing values: `missing="impute"` or `missing="drop"`'
                )


def column_metadata(source: object) -> dict[str, Any]:
    """Return the metadata of a source's columns (names, kinds, types, training statistics) and of its label column."""
    columns: Sequence[Column] = getattr(source, "columns", ())
    label: tuple[str, str] | None = getattr(source, "label_column", None)
    metadata: dict[str, Any] = {}
    if columns:
        column_items = [asdict(c).items() for c in columns]
        metadata["columns"] = [
            {n: v for n, v in of if v is not None and v is not False and v not in ((), "")} for of in column_items
        ]
    if label is not None:
        metadata["label"] = {"name": label[0], **({"type": label[1]} if label[1] else {})}
    return metadata


def label_type(arrow: Any, *, named: bool = False) -> str:
    """Return the metadata word for the labels' type; empty for texts, and for numbers that index names."""
    if named or is_text_type(arrow):
        return ""
    return _type_word(arrow, "category") if pa.types.is_dictionary(arrow) else str(arrow)


def parse_missing(value: str | None) -> Missing:
    """Return ``value``, or ``refuse`` for ``None``.

    Raises:
        PotstillError: it is something else.
    """
    if value is None:
        return "refuse"
    if value not in get_args(Missing):
        raise unknown_name("way with missing values", str(value), get_args(Missing))
    return value  # type: ignore[return-value]  # checked just now


def read_frames(
    tables: Sequence[Any], columns: Sequence[str], features: dict[str, Any], name: str, way: Missing
) -> tuple[list[Frame], list[str]]:
    """Read the rows of Arrow tables of the same columns, and notes on text columns that are numbers or dates.

    Args:
        tables: each a ``pyarrow.Table``; the first is the training part.
        features: what Hugging Face wrote about the columns.
        way: what is done with missing values; unless they are refused, "?" and the like are some among numbers.

    Raises:
        PotstillError: a column is neither numbers, booleans, texts nor dates, holds a number beyond floats of 32 bits,
            too many different texts, or numbers in texts that cannot be read.
    """
    read: list[list[_RawColumn]] = [[] for _ in tables]
    notes = []
    names = [name, f"{name} (test part)"]
    for column in columns:
        values = [table.column(column) for table in tables]
        at = [i for i, v in enumerate(values) if is_text_type(v.type)]
        parsed = at and parse_column(
            [(names[i], values[i].cast(pa.large_string())) for i in at], column, fill=way != "refuse",
            numbers=any(is_number_type(v.type) for v in values),
        )  # fmt: skip
        if parsed:
            notes.append(parsed.note)
        for i, v in enumerate(values):
            if parsed and i in at:
                cells = parsed.parts[at.index(i)]
                check_float32_range(cells, column, names[i])
                read[i].append(_RawColumn(column, parsed.kind, cells))
            else:
                raw = _read_column(v, column, features.get(column), names[i])
                read[i].append(replace(raw, type=_type_word(v.type, raw.kind)))
    for part, raw_columns in zip(names, read, strict=False):
        _refuse_varied_texts([c for c in raw_columns if not _has_class_names(features.get(c.name))], part)
    frames = [Frame(name, tuple(r), np.arange(t.num_rows)) for r, t in zip(read, tables, strict=True)]
    return frames, notes


def _type_word(arrow: Any, kind: Kind) -> str:
    """Return the metadata word for a type; empty where the kind of the column implies it."""
    if pa.types.is_dictionary(arrow):
        inner = "string" if is_text_type(arrow.value_type) else str(arrow.value_type)
        return f"category<{inner}>"
    if is_text_type(arrow) or str(arrow) in ("double", "bool", "timestamp[us]") or pa.types.is_decimal(arrow):
        return ""
    if kind == "category" or pa.types.is_null(arrow):  # numbers that Hugging Face has names for
        return ""
    return str(arrow)


def is_number_type(kind: Any) -> bool:
    """Return True for numeric Arrow types."""
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def _has_class_names(about: Any) -> bool:
    return isinstance(about, dict) and about.get("_type") == "ClassLabel"


def _read_column(values: Any, column: str, about: Any, name: str) -> _RawColumn:
    kind, types = values.type, pa.types
    if _has_class_names(about) and types.is_integer(kind):
        names = tuple(str(n) for n in about["names"])
        return _RawColumn(column, "category", _numbers(values, column, name, -1).astype(np.int64), names)
    if types.is_null(kind):
        return _RawColumn(column, "number", np.full(len(values), np.nan))
    if types.is_dictionary(kind) or is_text_type(kind):
        return _texts(values, column)
    if types.is_boolean(kind):
        return _RawColumn(column, "boolean", _numbers(values.cast(pa.uint8()), column, name))
    if is_number_type(kind):
        return _RawColumn(column, "number", _numbers(values, column, name))
    if types.is_date(kind) or types.is_timestamp(kind):
        return _RawColumn(column, "date", _days(values, column, name))
    raise PotstillError(f"{name}: column {column!r} holds {kind}; turn it into numbers or texts, or remove it")


def _days(values: Any, column: str, name: str) -> npt.NDArray[np.float64]:
    """Return days since 1970 of dates and times, counted in their own unit to stay exact."""
    kind = values.type
    unit = "d" if pa.types.is_date32(kind) else "ms" if pa.types.is_date64(kind) else kind.unit
    if unit == "ns":  # what is below a microsecond is left out
        values, unit = values.cast(pa.timestamp("us", kind.tz), safe=False), "us"
    integers = values.cast(pa.int32() if unit == "d" else pa.int64())
    x = _numbers(integers, column, name) / _UNITS[unit]
    if (bad := np.flatnonzero((x < -719_162) | (x >= 2_932_897))).size:
        raise PotstillError(
            f"{name}: row {int(bad[0]) + 1}, column {column!r} is a date beyond the years 1 to 9999; correct it"
        )
    return x


def _numbers(values: Any, column: str, name: str, empty: float = np.nan) -> npt.NDArray[np.float64]:
    x: npt.NDArray[np.float64] = np.array(values.cast(pa.float64(), safe=False).to_numpy())
    check_float32_range(x, column, name)
    return x if np.isnan(empty) else np.where(np.isnan(x), empty, x)


def check_float32_range(x: npt.NDArray[np.float64], column: str, name: str) -> None:
    """Refuse infinite cells (n,) and those beyond float32."""
    with np.errstate(over="ignore"):
        bad = np.flatnonzero(np.isinf(x.astype(np.float32)))
    if bad.size:
        value = x[bad[0]]
        cure = "fill it or remove the row" if np.isinf(value) else "floats of 32 bits end at 3.4e38; scale the column"
        raise PotstillError(f"{name}: row {int(bad[0]) + 1}, column {column!r} is {value}; {cure}")


def is_text_type(kind: Any) -> bool:
    """Return True for Arrow text types; polars writes views of them."""
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def to_texts(values: Any) -> Any:
    """Convert a chunked Arrow array of texts, or of categories of any type, to plain texts."""
    if not pa.types.is_dictionary(values.type):
        return values.cast(pa.large_string())
    # Arrow does not unpack a dictionary of views by itself.
    parts = [
        pa.DictionaryArray.from_arrays(part.indices, part.dictionary.cast(pa.large_string())).dictionary_decode()
        for part in values.chunks
    ]
    return pa.chunked_array(parts, type=pa.large_string())


def _refuse_varied_texts(frame: Sequence[_RawColumn], name: str) -> None:
    """Refuse columns of free text or names, all in one line."""
    varied = [c for c in frame if len(c.words) > limits().categories]
    if varied:
        first, rest = varied[0], varied[1:]
        more = f" (so do {', '.join(repr(c.name) for c in rest[:8])}{', …' * (len(rest) > 8)})" if rest else ""
        listed = ",".join(c.name for c in varied)
        raise PotstillError(
            f"{name}: column {first.name!r} holds {len(first.words):,} different texts{more}, which looks like free "
            f'text or names; leave it out with `remove_columns="{listed}"` (each text becomes a column '
            f"of 0 and 1; {limit_hint('categories')})"
        )


def _texts(values: Any, column: str) -> _RawColumn:
    codes, words = dictionary_codes(to_texts(values))
    ordered = sorted(w for w in words if w.strip())
    places = {w: i for i, w in enumerate(ordered)}
    new_codes = np.array([*(places.get(w, -1) for w in words), -1])  # the last one is what -1 points at
    return _RawColumn(column, "category", new_codes[codes], tuple(ordered))


def encode_frames(
    train: Frame, test: Frame | None
) -> tuple[Float32[Tensor, "n d"], Float32[Tensor, "m d"] | None, tuple[Column, ...], list[str]]:
    """Encode training and test rows as numbers, by the categories and medians of the training rows.

    A missing number or date becomes the training part's median, a missing boolean its most frequent one. A missing
    category is a category of its own where the training part has any such cell, else the most frequent one. A category
    that training lacks is 0 in all values of its column.

    Args:
        train: n ≥ 1 rows.
        test: rows of the same columns, or ``None``.

    Returns:
        float32 (n, d) and (m, d), the columns, and notes on what was decided.

    Raises:
        PotstillError: a column holds nothing in the training rows, or something else in the test rows.
    """
    fitted, notes = [], list[str]()
    filled: dict[str, tuple[int, str]] = {}
    blocks: list[list[npt.NDArray[np.float32]]] = [[], []]
    parts = [train] if test is None else [train, test]
    for place, raw in enumerate(train.columns):
        other = None if test is None else test.columns[place]
        if other is not None and other.kind != raw.kind and not other.empty.all():
            raise PotstillError(
                f"{train.name}: column {raw.name!r} holds a {raw.kind} in the training part and a {other.kind} in the "
                "test part; give both the same way"
            )
        if raw.empty.all():
            raise PotstillError(f"{train.name}: column {raw.name!r} is empty in the training part; remove the column")
        column = _fit_column(raw, other)
        num_missing = int(raw.empty.sum()) + (0 if other is None else int(other.empty.sum()))
        if num_missing:
            filled[raw.name] = num_missing, _fill_text(column)
        else:
            column = replace(column, fill=None)
        if column.kind == "category":
            many = len(column.values)
            notes.append(f"{train.name}: column {raw.name!r} became {many} column{'s' * (many != 1)} of 0 and 1")
        if column.kind == "date":
            notes.append(
                f"{train.name}: column {raw.name!r} became days since {column.since}, the earliest in training"
            )
        if column.offset is not None:
            notes.append(
                f"{train.name}: column {raw.name!r} is taken less {column.offset:,.15g}: floats of 32 bits do not hold "
                "its digits"
            )
        elif column.kind == "number":
            notes += note_merged_values(raw.cells[:, None], train.name, (raw.name,))
        fitted.append(column)
        for block, part in zip(blocks, parts, strict=False):
            values, strange = _encode_column(column, part.columns[place])
            block.append(values)
            if strange:
                words = ", ".join(repr(w) for w in list(strange)[:3])
                notes.append(
                    f"{train.name}: column {raw.name!r}: {sum(strange.values()):,} test rows hold categories that "
                    f"training lacks ({words}); they are 0 in all of its columns"
                )
    if filled:
        listed = "; ".join(f"{name!r} {count:,} by {how}" for name, (count, how) in list(filled.items())[:6])
        total = sum(count for count, _ in filled.values())
        notes.append(
            f"{train.name}: {total:,} missing values filled by what the training part says: {listed}"
            + ("; …" if len(filled) > 6 else "")
        )
    matrices = [torch.from_numpy(np.concatenate(block, axis=1)) for block in blocks if block]
    return matrices[0], matrices[1] if test is not None else None, tuple(fitted), notes


def _fit_column(raw: _RawColumn, other: _RawColumn | None) -> Column:
    present = raw.cells[~raw.empty]
    if raw.kind == "category":
        counts = np.bincount(present, minlength=len(raw.words))
        values = [w for w, n in zip(raw.words, counts, strict=True) if n]
        fill = raw.words[int(counts.argmax())]
        absent = bool(raw.empty.any())
        if absent:
            words = {*raw.words, *(() if other is None else other.words)}
            fill = "missing" if "missing" not in words else "(missing)"
            values.append(fill)
        return Column(name=raw.name, kind=raw.kind, values=tuple(values), fill=fill, type=raw.type, absent=absent)
    if raw.kind == "boolean":
        return Column(name=raw.name, kind=raw.kind, fill=float(present.mean() > 0.5), type=raw.type)
    column = Column(name=raw.name, kind=raw.kind, fill=float(np.median(present)), type=raw.type)
    if raw.kind == "number":
        (offset,) = float32_offsets(present[:, None])
        return replace(column, offset=offset or None)
    at_midnight = not raw.type.startswith("date") and bool((present % 1 == 0).all())
    return replace(column, since=_date(float(present.min())), at_midnight=at_midnight)


def _fill_text(column: Column) -> str:
    if column.kind == "number":
        return f"the median {column.fill:g}"
    if column.kind == "date":
        assert isinstance(column.fill, float)
        return f"the median {_date(column.fill)}"
    if column.kind == "category" and column.fill == column.values[-1] and "missing" in str(column.fill):
        return f"a category of their own, {column.fill}"
    return f"the most frequent, {column.fill if column.kind == 'category' else bool(column.fill)}"


def _date(days: float) -> str:
    return (_EPOCH + timedelta(microseconds=round(days * _DAY))).isoformat().removesuffix("T00:00:00")


def _encode_column(column: Column, raw: _RawColumn) -> tuple[npt.NDArray[np.float32], Counter[str]]:
    """Return values (n, d), and the count of each category that the column does not have."""
    strange: Counter[str] = Counter()
    if column.kind == "category":
        place = {w: i for i, w in enumerate(column.values)}
        words = (*raw.words, str(column.fill))  # -1, a missing cell, points at the last one
        at = np.array([place.get(w, -1) for w in words])
        codes = at[raw.cells]
        strange.update(raw.words[c] for c in raw.cells[(codes < 0) & (raw.cells >= 0)].tolist())
        return (codes[:, None] == np.arange(len(column.values))).astype(np.float32), strange
    x = raw.cells
    if column.fill is not None:
        x = np.where(raw.empty, column.fill, x)
    if column.since is not None:
        x = x - (datetime.fromisoformat(column.since) - _EPOCH) / timedelta(days=1)
    if column.offset is not None:
        x = x - column.offset
    return x[:, None].astype(np.float32), strange
