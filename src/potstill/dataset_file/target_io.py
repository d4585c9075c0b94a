"""Targets in a set's file: labels, scores, and values with offsets of ragged ones."""

import torch
from torch import Tensor

from potstill.codecs import encode_classes, encode_ints, encode_probabilities
from potstill.codecs.exact import Float
from potstill.codecs.uniform import Uniform
from potstill.core import Codec, Encoded, Task
from potstill.core.nested import OFFSETS, VALUES
from potstill.dataset_file.validate import are_valid_offsets
from potstill.errors import PotstillError
from potstill.functional.packing import MOST_BITS
from potstill.tasks import (
    CheckedTargets,
    PackedTargets,
    Retrieval,
    is_ragged,
    join_targets,
    split_targets,
    target_mask,
)

__all__ = ["LABELS", "SCORES", "encode_labels", "encode_scores", "encode_targets", "pop_targets"]

SCORES, LABELS = "scores", "labels"


def encode_labels(labels: Tensor, classes: int | None, codec: Codec) -> Encoded:
    """Encode targets: classes and probability rows in few bits, real values as float32, other whole numbers exactly.

    Args:
        classes: number of classes; ``None``: the targets are no classes.
    """
    if classes is None:
        return Float().pack(labels) if labels.is_floating_point() else encode_ints(labels)
    if labels.is_floating_point():
        return encode_probabilities(labels, codec.label_bits)
    return encode_classes(labels, classes)


def encode_targets(labels: Tensor, classes: int | None, codec: Codec, task: Task | None) -> dict[str, Encoded]:
    """Encode targets by their names in the file: ``labels``, or values and offsets without the padding of ragged ones.

    Args:
        labels: the targets.
        classes: number of classes; ``None``: the targets are no classes.
        codec: its bits are those of soft labels, and of rows of a learned similarity.
        task: it may be ragged, or pack its targets.

    Raises:
        PotstillError: ragged targets are no padded rows, or no sample has any.
    """
    if isinstance(task, PackedTargets):
        labels = task.pack_targets(labels.cpu())
    if isinstance(task, Retrieval) and labels.is_floating_point():  # rows of a learned similarity
        return {LABELS: encode_scores(labels, codec)}
    if not is_ragged(task):
        return {LABELS: encode_labels(labels, classes, codec)}
    try:
        values, offsets = split_targets(labels)
    except ValueError as error:
        raise PotstillError(f"the distilled set: {error}") from error
    if not len(values):
        raise PotstillError("the distilled set: at least one target is required, but no sample has any; take more")
    return {LABELS + VALUES: encode_labels(values, None, codec), LABELS + OFFSETS: encode_ints(offsets)}


def pop_targets(decoded: dict[str, Tensor], task: Task | None) -> Tensor | None:
    """Remove the targets of a file from ``decoded`` and return them, ragged ones as padded rows; ``None``: none.

    Args:
        task: it may have packed its targets.

    Raises:
        PotstillError: they are none of the task.
    """
    values, offsets = (decoded.pop(LABELS + ending, None) for ending in (VALUES, OFFSETS))
    if values is None and offsets is None:
        stored = decoded.pop(LABELS, None)
        if stored is None or not isinstance(task, PackedTargets):
            return stored
        try:
            return task.unpack_targets(stored)
        except (ValueError, RuntimeError) as error:
            raise PotstillError(f"its targets are none of {task.name} ({error}); get the file again") from error
    if (
        values is None
        or offsets is None
        or LABELS in decoded
        or values.ndim == 0
        or values.dtype not in (torch.float32, torch.int64)
        or not are_valid_offsets(values, offsets, offsets.numel())
    ):
        raise PotstillError("its ragged targets must be values and the offset of each item's; get the file again")
    joined = join_targets(values, offsets)
    if isinstance(task, CheckedTargets):
        try:
            if not bool(target_mask(values[:, None]).all()):
                raise ValueError("some are not numbers")
            task.check_targets(joined)
        except (ValueError, IndexError) as error:
            raise PotstillError(f"its targets are none of {task.name} ({error}); get the file again") from error
    return joined


def encode_scores(scores: Tensor, codec: Codec) -> Encoded:
    """Encode scores in as many bits as soft labels have, with ranges of their own."""
    bits = codec.label_bits
    return Float().pack(scores) if bits > MOST_BITS else Uniform(bits=bits).pack(scores)
