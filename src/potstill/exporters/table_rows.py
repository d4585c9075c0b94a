"""Rows of a set as a table like its source: categories, dates, class names and types.

Columns in the metadata are validated first; types are looked up in a fixed list.
"""

import json
import re
import zoneinfo
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from torch import Tensor

from potstill.dataset_file.dataset import Distilled
from potstill.errors import PotstillError
from potstill.tasks import list_targets

__all__ = ["column_names", "names_as_type", "source_table", "to_pandas"]

_WHOLE = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
_REAL = {"halffloat": "float16", "float": "float32", "double": "float64"}
_MOMENT = re.compile(r"timestamp\[(s|ms|us|ns)(?:, tz=([\w/+:-]{1,40}))?\]")
_CATEGORY = re.compile(r"category<(\w+)>")
_EPOCH = datetime(1970, 1, 1)
_SECONDS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_CENTURIES = (-719_162.0, 2_932_896.0)
"""Days since 1970 of the years 1 and 9999."""
_LARGEST = 1e300
"""Maximum offset; beyond it sums overflow."""
_NANOSECONDS = (-106_000.0, 106_000.0)
"""Days since 1970 that 64-bit nanoseconds hold."""


@dataclass(frozen=True)
class _Column:
    """A validated column of the source."""

    name: str
    kind: str
    values: tuple[str, ...]
    since: float
    """Days since 1970 of dates."""
    type: str
    whole: bool
    absent: bool
    offset: float
    """Offset that was subtracted before values became float32."""

    @property
    def width(self) -> int:
        return len(self.values) if self.kind == "category" else 1


def source_table(distilled: Distilled) -> Any:
    """Return rows as a ``pyarrow.Table``: columns of the source in order, labels or targets, and further columns.

    A category is the one of the largest value, or null where that stood for missing cells; a boolean is true above one
    half; whole numbers and days are rounded where the source had such; real numbers have the fewest digits of their
    float32. Further columns are ``soft_label``, ``scores``, ``weight`` and ``text``; a name that the source has already
    gets an underscore.

    Raises:
        PotstillError: the set has no rows of a table, or its metadata do not describe them.
    """
    spec, inputs = distilled.input, distilled.inputs
    if spec.kind != "table" or spec.parts or not isinstance(inputs, Tensor):
        raise PotstillError(
            f"this set holds no rows of a table, but inputs of kind {spec.kind}; export pictures with "
            '`to="png"`, other inputs with `to="npz"`'
        )
    x: npt.NDArray[np.float32] = inputs.numpy()
    columns = _columns(distilled.metadata, x.shape[1])
    result: dict[str, Any] = {}
    if columns is None:
        result = {name: pa.array(x[:, n]) for n, name in enumerate(column_names(spec.columns, x.shape[1]))}
    else:
        at = 0
        for column in columns:
            result[column.name] = _cells(column, x[:, at : at + column.width])
            at += column.width
    labels = _with_free_names(_targets(distilled), result)
    further = _with_free_names(_further_columns(distilled), {**result, **labels})
    table = pa.table({**result, **labels, **further})
    features = {field.name: _feature(field.type) for field in table.schema}
    if distilled.is_classification:
        (label,) = labels
        features[label] = _class_label(distilled.classes, table.schema.field(label).type) or features[label]
    said = {"shape": list(spec.shape), "beside": list(further), "card": distilled.to_dict()}
    return table.replace_schema_metadata(
        {"huggingface": json.dumps({"info": {"features": features}}), "potstill": json.dumps(said)}
    )


def _with_free_names(columns: Mapping[str, Any], reserved: Mapping[str, Any]) -> dict[str, Any]:
    """Return columns under names that are not in ``taken``."""
    renamed: dict[str, Any] = {}
    for name, values in columns.items():
        while name in reserved or name in renamed:
            name += "_"
        renamed[name] = values
    return renamed


def _feature(kind: Any) -> dict[str, Any]:
    """Return the Hugging Face feature of an Arrow type."""
    if pa.types.is_list(kind):
        return {"feature": _feature(kind.value_type), "_type": "Sequence"}
    if pa.types.is_dictionary(kind):
        return _feature(kind.value_type)
    word = {"float": "float32", "double": "float64", "halffloat": "float16", "date32[day]": "date32"}
    return {"dtype": word.get(str(kind), str(kind)), "_type": "Value"}


def _class_label(classes: Sequence[str], kind: Any) -> dict[str, Any] | None:
    """Return the Hugging Face ``ClassLabel`` of texts, or of whole numbers that index the classes."""
    places = pa.types.is_integer(kind) and list(classes) == [str(n) for n in range(len(classes))]
    return {"names": list(classes), "_type": "ClassLabel"} if pa.types.is_string(kind) or places else None


def to_pandas(distilled: Distilled) -> Any:
    """Return the rows of a table as a ``pandas.DataFrame`` like the one that the set was made of.

    Columns are those of `source_table`; dates are ``datetime.date`` where the source has no times of day.

    Raises:
        PotstillError: the set has no rows of a table, or pandas is not installed.
    """
    table = source_table(distilled)
    try:
        import pandas
    except ImportError as error:
        raise PotstillError(
            "a frame of pandas needs pandas; pip install 'potstill[frames]', or export the set"
        ) from error
    frame = table.replace_schema_metadata(None).to_pandas()
    assert isinstance(frame, pandas.DataFrame)
    return frame


def column_names(names: Sequence[str], count: int) -> list[str]:
    """Return ``names`` if they are ``count`` different ones, else x0, x1, …"""
    return list(names) if len(names) == len(set(names)) == count else [f"x{n}" for n in range(count)]


def names_as_type(names: Sequence[str], kind: str) -> Any:
    """Return class names in the type of the source's labels.

    Args:
        names: of each row.
        kind: type in the metadata; empty: texts.
    """
    if (inner := _CATEGORY.fullmatch(kind)) is not None:
        return names_as_type(names, "" if inner[1] == "string" else inner[1]).dictionary_encode()
    try:
        if kind in _WHOLE:
            return pa.array([int(name) for name in names], getattr(pa, kind)())
        if kind in _REAL:
            return pa.array([float(name) for name in names], getattr(pa, _REAL[kind])())
        if kind == "bool" and set(names) <= {"True", "False"}:
            return pa.array([name == "True" for name in names])
    except (ValueError, OverflowError, pa.ArrowInvalid):
        pass  # metadata may have any type; only class names are validated
    return pa.array(list(names), pa.string())


def _columns(card: Mapping[str, Any], count: int) -> list[_Column] | None:
    """Return the columns in the metadata, if there are any."""
    said = card["source"].get("columns")
    if said is None:
        return None
    found = [_column(one) for one in said] if isinstance(said, list) else [None]
    columns = [one for one in found if one is not None]
    if (
        len(columns) < len(found)
        or sum(one.width for one in columns) != count
        or len({c.name for c in columns}) != len(columns)
    ):
        raise PotstillError("its metadata's source.columns does not describe its inputs; get the file again")
    return columns


def _column(described: Any) -> _Column | None:
    """Return a validated column, or ``None``."""
    if not isinstance(described, dict) or not isinstance(described.get("name"), str):
        return None
    kind, values, since, word = (
        described.get("kind"),
        described.get("values", []),
        described.get("since"),
        described.get("type", ""),
    )
    if kind not in ("number", "boolean", "category", "date") or not isinstance(word, str):
        return None
    if (
        not isinstance(values, list)
        or not all(isinstance(v, str) for v in values)
        or (kind == "category") != bool(values)
    ):
        return None
    offset = described.get("offset", 0.0)
    if isinstance(offset, bool) or not isinstance(offset, int | float) or not abs(offset) <= _LARGEST:
        return None
    days = 0.0
    if kind == "date":
        try:
            days = (datetime.fromisoformat(str(since)) - _EPOCH) / timedelta(days=1)
        except (ValueError, TypeError):
            return None
    return _Column(
        name=described["name"], kind=kind, values=tuple(values), since=days, type=word,
        whole=described.get("at_midnight") is True, absent=described.get("absent") is True, offset=float(offset),
    )  # fmt: skip


def _cells(column: _Column, x: npt.NDArray[np.float32]) -> Any:
    """Return the cells of a column from its values (n, width)."""
    if column.kind == "category":
        chosen = x.argmax(1)
        last = len(column.values) - 1 if column.absent else len(column.values)
        names = [column.values[c] if c < last else None for c in chosen.tolist()]
        if (inner := _CATEGORY.fullmatch(column.type)) is None:
            return pa.array(names, pa.string())
        known = names_as_type(column.values[:last], "" if inner[1] == "string" else inner[1])
        codes = pa.array([c if c < last else None for c in chosen.tolist()], pa.int32())
        return pa.DictionaryArray.from_arrays(codes, known)
    value = x[:, 0]
    if column.kind == "boolean":
        return pa.array(value > 0.5)
    if column.kind == "date":
        return _dates(column, value.astype(np.float64) + column.since)
    return _numbers(value, column.type, column.offset)


def _numbers(value: npt.NDArray[np.float32], kind: str, offset: float = 0.0) -> Any:
    """Return ``offset`` + values (n,) in the type of the source."""
    if kind in _WHOLE:
        info = np.iinfo(kind)
        low, high = float(info.min), float(info.max)
        high = high if int(high) <= info.max else float(np.nextafter(high, 0.0))  # 2^63 is no 64-bit whole number
        return pa.array(np.clip(np.rint(value.astype(np.float64) + offset), low, high).astype(kind))
    if _REAL.get(kind) in ("float16", "float32"):
        return pa.array((value.astype(np.float64) + offset).astype(_REAL[kind]))
    return pa.array(
        value.astype(str).astype(np.float64) + offset
    )  # the shortest digits: 0.1 and not 0.10000000149011612


def _dates(column: _Column, days: npt.NDArray[np.float64]) -> Any:
    """Return dates or timestamps of days since 1970 (n,)."""
    found = _MOMENT.fullmatch(column.type)
    unit, zone = (found[1], found[2]) if found else ("us", None)
    days = np.clip(days, *(_NANOSECONDS if unit == "ns" else _CENTURIES))
    if column.whole or column.type.startswith("date"):
        days = np.rint(days)
    if column.type.startswith("date"):
        return pa.array(days.astype(np.int32)).cast(pa.date32())
    if zone is not None:
        try:
            zoneinfo.ZoneInfo(zone) if re.search("[A-Za-z]", zone) else None
        except (ValueError, OSError, zoneinfo.ZoneInfoNotFoundError):
            zone = "UTC"
    whole = np.floor(days)
    ticks = whole.astype(np.int64) * (86_400 * _SECONDS[unit])
    ticks += np.rint((days - whole) * 86_400).astype(np.int64) * _SECONDS[unit]  # 32 bits do not hold more
    return pa.array(ticks).cast(pa.timestamp(unit, zone))


def _targets(distilled: Distilled) -> dict[str, Any]:
    """Return the column of labels, or the columns of targets."""
    said = distilled.metadata["source"].get("label")
    said = said if isinstance(said, dict) else {}
    name, kind = said.get("name"), said.get("type", "")
    kind = kind if isinstance(kind, str) else ""
    if distilled.is_classification:
        names = [distilled.classes[c] for c in distilled.hard_labels.tolist()]
        if "type" not in said and not isinstance(name, str) and all(_is_whole(c) for c in distilled.classes):
            kind = "int64"
        return {name if isinstance(name, str) else "label": names_as_type(names, kind)}
    if distilled.has_ragged_targets:
        label_names: tuple[str, ...] = getattr(distilled.task, "labels", ())
        rows = (t.tolist() for t in list_targets(distilled.labels))
        cells = [";".join(label_names[each] if label_names else str(each) for each in row) for row in rows]
        return {name if isinstance(name, str) else "targets": pa.array(cells, pa.string())}
    y = distilled.labels.flatten(1).numpy() if distilled.labels.ndim > 1 else distilled.labels.numpy()[:, None]
    offset = getattr(distilled.task, "offset", ()) or (0.0,) * y.shape[1]
    if isinstance(name, str) and y.shape[1] == 1 and y.dtype == np.float32:
        return {name: _numbers(y[:, 0], kind, offset[0])}
    targets = getattr(distilled.task, "targets", ())
    named = (
        column_names(targets, y.shape[1]) if targets else ["target", *(f"target_{n}" for n in range(2, 1 + y.shape[1]))]
    )
    if not any(offset):
        return {n: pa.array(y[:, at]) for at, n in enumerate(named)}
    return {n: pa.array(y[:, at].astype(np.float64) + offset[at]) for at, n in enumerate(named)}


def _is_whole(name: str) -> bool:
    return re.fullmatch(r"0|-?[1-9]\d{0,17}", name) is not None


def _further_columns(distilled: Distilled) -> dict[str, Any]:
    """Return the columns ``soft_label``, ``scores``, ``weight`` and ``text``, where there are any."""
    columns: dict[str, Any] = {}
    if distilled.has_soft_labels:
        columns["soft_label"] = pa.array(list(distilled.labels.numpy()), pa.list_(pa.float32()))
    if distilled.scores is not None:
        columns["scores"] = pa.array(list(distilled.scores.numpy()), pa.list_(pa.float32()))
    if distilled.weights is not None:
        columns["weight"] = pa.array(distilled.weights.numpy())
    if distilled.captions:
        columns["text"] = pa.array(distilled.captions, pa.string())
    return columns
