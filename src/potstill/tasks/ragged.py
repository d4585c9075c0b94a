"""Targets whose number differs by sample: several labels of one picture, its boxes.

In memory they are rows (n, most, …) of a fixed length, padded after the last target of each sample; a set's file holds
them without padding, as ``labels/values`` and ``labels/offsets``.
"""

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Int64, Shaped
from torch import Tensor

__all__ = [
    "RaggedTask", "concat_targets", "is_ragged", "join_targets", "list_targets", "pad_targets", "split_targets",
    "target_mask",
]  # fmt: skip


@runtime_checkable
class RaggedTask(Protocol):
    """Task whose targets differ in number by sample: ``y`` (n, most, …) is padded, and `target_mask` finds targets."""

    @property
    def ragged(self) -> bool:
        """True where ``y`` is padded rows of targets."""
        ...


def is_ragged(task: Any) -> bool:
    """Return True where a task's targets differ in number by sample."""
    return isinstance(task, RaggedTask) and task.ragged


def _padding(dtype: torch.dtype) -> float | int:
    """Return the value that is no target: the least float32 or int64."""
    return torch.finfo(torch.float32).min if dtype.is_floating_point else torch.iinfo(torch.int64).min


def target_mask(y: Shaped[Tensor, "n most ..."]) -> Bool[Tensor, "n most"]:
    """Return True for targets and False for the padding after the last of each sample.

    Args:
        y: rows of targets (n, most, …), as batches hold them.
    """
    return (y > _padding(y.dtype)).reshape(len(y), y.shape[1], -1).any(2)


def pad_targets(targets: Sequence[Shaped[Tensor, "_ ..."]]) -> Shaped[Tensor, "n most ..."]:
    """Return the targets of n samples as padded rows (n, most, …).

    Args:
        targets: those of each sample (m, …), m ≥ 0; float32 or int64, of one type and with the same further axes.
    """
    lengths = torch.tensor([len(each) for each in targets])
    return join_targets(torch.cat(list(targets)), lengths.cumsum(0) - lengths)


def join_targets(
    values: Shaped[Tensor, "total ..."], offsets: Int64[Tensor, " n"], most: int = 1
) -> Shaped[Tensor, "n most ..."]:
    """Return padded rows of the targets of all samples, one after the other.

    Args:
        values: targets of all samples (total, …).
        offsets: the first target of each sample, ascending from 0.
        most: least width of the rows.
    """
    lengths = torch.cat([offsets[1:], offsets.new_tensor([len(values)])]) - offsets
    mask = torch.arange(max([most, *lengths.tolist()])) < lengths[:, None]
    rows = values.new_full((*mask.shape, *values.shape[1:]), _padding(values.dtype))
    rows[mask] = values
    return rows


def concat_targets(several: Sequence[Shaped[Tensor, "_ _ ..."]]) -> Shaped[Tensor, "total most ..."]:
    """Return padded rows of several sets, one after the other, as wide as the widest."""
    parts = [split_targets(y) for y in several]
    most = max(y.shape[1] for y in several)
    return torch.cat([join_targets(values, offsets, most) for values, offsets in parts])


def list_targets(y: Shaped[Tensor, "n most ..."]) -> list[Tensor]:
    """Return the targets of each sample (m, …), without padding."""
    return [row[present] for row, present in zip(y, target_mask(y), strict=True)]


def split_targets(y: Tensor) -> tuple[Shaped[Tensor, "total ..."], Int64[Tensor, " n"]]:
    """Return the targets of all samples, one after the other (total, …), and the first of each; undoes `join_targets`.

    Raises:
        ValueError: they are no padded rows, or padding stands before a target.
    """
    if y.ndim < 2:
        raise ValueError(f"ragged targets need rows (n, most, …), but they are {list(y.shape)}; see pad_targets")
    mask = target_mask(y)
    if bool((mask[:, 1:] & ~mask[:, :-1]).any()):
        raise ValueError("padding of ragged targets must stand after the last of each sample; see pad_targets")
    lengths = mask.sum(1)
    return y[mask], lengths.cumsum(0) - lengths
