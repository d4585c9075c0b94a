"""The points of a set of series as a table: a row for each point in time."""

from typing import Any

import numpy as np

from potstill.core.nested import single_tensor
from potstill.dataset_file.dataset import Distilled
from potstill.dataset_file.series_io import stored_series

__all__ = ["series_columns"]


def series_columns(distilled: Distilled) -> dict[str, Any] | None:
    """Return ``time`` (a number), a column for each variable in its own units, and before them ``stretch`` where there
    are several; of series with classes ``series``, ``time``, the channels and ``label``, as `potstill.load_data` reads
    them; ``None``: the set stores no series.
    """
    if distilled.input.kind == "signal":
        return _labelled_columns(distilled)
    points = stored_series(distilled)
    if points is None:
        return None
    count, length, variables = points.shape
    offset = np.array((distilled.metadata.get("task") or {}).get("offset") or (0.0,) * variables)
    names = distilled.input.columns
    if len(set(names) - {"stretch", "time"}) != variables:
        names = tuple(f"variable {v + 1}" for v in range(variables))
    first = {"stretch": np.repeat(np.arange(1, count + 1), length)} if count > 1 else {}
    rows = points.reshape(count * length, variables).numpy()
    shown = rows if not offset.any() else rows.astype(np.float64) + offset
    return {**first, "time": np.tile(np.arange(length), count), **{n: shown[:, v] for v, n in enumerate(names)}}


def _labelled_columns(distilled: Distilled) -> dict[str, Any]:
    x = single_tensor(distilled.inputs, "a table of series").numpy()
    n, channels, length = x.shape
    names = distilled.input.columns
    if len(set(names) - {"series", "time", "label", "weight"}) != channels:
        names = tuple(f"channel {c + 1}" for c in range(channels))
    columns: dict[str, Any] = {"series": np.repeat(np.arange(1, n + 1), length), "time": np.tile(np.arange(length), n)}
    columns |= {name: x[:, c].reshape(-1) for c, name in enumerate(names)}
    classes = [distilled.classes[label] for label in distilled.hard_labels.tolist()]
    columns["label"] = np.repeat(np.array(classes, dtype=object), length)
    if distilled.has_soft_labels:
        columns |= {
            f"soft_label={name}": np.repeat(distilled.labels[:, k].numpy(), length)
            for k, name in enumerate(distilled.classes)
        }
    if distilled.weights is not None:
        columns["weight"] = np.repeat(distilled.weights.numpy(), length)
    return columns
