"""Users of a set as a table of interactions: a row for each user and item."""

from typing import Any

import torch
from torch import Tensor

from potstill.dataset_file.dataset import Distilled

__all__ = ["rating_columns"]


def rating_columns(distilled: Distilled) -> dict[str, list[Any]] | None:
    """Return ``user`` (a number from 1), ``item``, ``title`` where titles are known, and ``rating``, the value, where
    rows are real numbers; ``None``: the set holds no users. Zeros are left out, so that the table is read as it was.
    """
    if distilled.input.kind != "ratings" or not isinstance(distilled.inputs, Tensor):
        return None
    x = distilled.inputs
    users, items = torch.nonzero(x, as_tuple=True)
    at = items.tolist()
    names = distilled.input.columns or tuple(str(i + 1) for i in range(x.shape[1]))
    titles = (distilled.metadata.get("task") or {}).get("titles") or ()
    columns: dict[str, list[Any]] = {"user": (users + 1).tolist(), "item": [names[i] for i in at]}
    if len(titles) == x.shape[1]:
        columns["title"] = [" ".join(str(titles[i]).split()) for i in at]
    if not bool(((x == 0) | (x == 1)).all()):
        columns["rating"] = x[users, items].tolist()
    return columns
