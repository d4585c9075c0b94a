"""The points of a set of one series as a table: a row for each point in time."""

from typing import Any

import numpy as np

from potstill.dataset_file.dataset import Distilled
from potstill.dataset_file.series_io import stored_series

__all__ = ["series_columns"]


def series_columns(distilled: Distilled) -> dict[str, Any] | None:
    """Return ``time`` (a number), a column for each variable in its own units, and before them ``stretch`` where there
    are several; ``None``: the set stores no series.
    """
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
