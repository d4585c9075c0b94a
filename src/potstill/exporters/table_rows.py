"""Rows of a set as a table like its source: categories, dates, class names and types.

Columns in the metadata are validated first; types are looked up in a fixed list.
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from torch import Tensor

from potstill._util.table_columns import column_cells, names_as_type, numbers_as_type, read_columns
from potstill.dataset_file.dataset import Distilled
from potstill.errors import PotstillError
from potstill.tasks import list_targets

__all__ = ["column_names", "names_as_type", "source_table", "to_pandas"]


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
    columns = read_columns(distilled.metadata, x.shape[1])
    result: dict[str, Any] = {}
    if columns is None:
        result = {name: pa.array(x[:, n]) for n, name in enumerate(column_names(spec.columns, x.shape[1]))}
    else:
        at = 0
        for column in columns:
            result[column.name] = column_cells(column, x[:, at : at + column.width])
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
        return {name: numbers_as_type(y[:, 0], kind, offset[0])}
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
