"""Columns that ride along with the samples of a batch: groups, weights and attributes."""

import torch
from jaxtyping import Int
from torch import Tensor

__all__ = ["COLUMNS", "batch_columns", "column_names"]

COLUMNS = {"group": "groups", "weight": "weights", "attribute": "attribute"}
"""Columns of a ``Batch``, and the attributes of a source that hold them, one value for each sample."""


def column_names(source: object) -> tuple[str, ...]:
    """Return the columns that the batches of ``source`` have."""
    return tuple(name for name, attribute in COLUMNS.items() if getattr(source, attribute, None) is not None)


def batch_columns(source: object, index: Int[Tensor, " m"], device: torch.device) -> dict[str, Tensor]:
    """Return the columns of the samples at ``index``, on ``device``: int64 (m,), ``weight`` float32 (m,)."""
    return {name: getattr(source, COLUMNS[name])[index.cpu()].to(device) for name in column_names(source)}
