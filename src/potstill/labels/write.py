"""Writing of label files: teachers label every view of every stored epoch once."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor, nn

from potstill.augment.integer_ops import FetchInputs
from potstill.augment.view_schedule import ViewSchedule
from potstill.dataset_file.memmap_safetensors import write_in_parts
from potstill.dataset_file.shared_decoders import hash_tensors
from potstill.errors import PotstillError
from potstill.functional.counter_rng import random_permutation
from potstill.labels.codec import LabelCodec
from potstill.labels.label_file import LabelFile, count_items, hash_inputs, plan_label_file
from potstill.labels.metadata import LabelMetadata, Statistics, check_class_order
from potstill.rng import derive_seed

__all__ = [
    "LabelTeacher", "RowSettings", "WriteSettings", "hash_network", "mean_logits", "resolve_pool", "teacher_logits",
    "write_labels", "write_rows",
]  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelTeacher:
    """A trained network that labels.

    Attributes:
        name: of its kind, for whoever reads the labels.
        network: with its trained parameters; it is used in evaluation mode.
        classes: in the order of its logits, as it was trained.
    """

    name: str
    network: nn.Module
    classes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RowSettings:
    """Storage of label rows.

    Attributes:
        top_k: classes to keep of each row; all if ``None``.
        dtype: "float16", or "uint8" for 8 bits, "uint4" for 4.
        temperature: the one that students will train with.
        level: store the log-sum-exp, from which logits come back.
    """

    top_k: int | None = None
    dtype: str = "float16"
    temperature: float = 1.0
    level: bool = False

    def codec(self, classes: int) -> LabelCodec:
        """Return the codec of rows of so many classes."""
        return LabelCodec(
            classes=classes, top_k=self.top_k or classes, dtype=self.dtype, temperature=self.temperature,
            level=self.level,
        )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteSettings:
    """Writing of a label file.

    Attributes:
        batch: views of one pass. It may change last bits of a teacher's logits, so an interrupted file is continued
            only with the batch that it began with.
        statistics: as for `teacher_logits`. With ``batch`` a pass has the views of ``batch`` items in an order that the
            views' seed gives to each epoch, as in training; the last pass of an epoch may be smaller.
        inputs_hash: `potstill.labels.label_file.hash_inputs` of the inputs, if known; otherwise they are read for it.
        record_every: seconds between checkpoints of the file.
        replace: overwrite another file.
        progress: called with the number of labels done and of all labels.
    """

    batch: int = 256
    statistics: Statistics = "running"
    inputs_hash: str | None = None
    record_every: float = 5.0
    replace: bool = False
    progress: Callable[[int, int], None] | None = None


DEFAULT_WRITING = WriteSettings()


def hash_network(network: nn.Module) -> str:
    """Return the SHA-256 of all parameters and buffers: names, types, shapes and bytes."""
    return hash_tensors(network.state_dict())


def teacher_logits(network: nn.Module, x: Tensor, statistics: Statistics = "running") -> Float[Tensor, "m k"]:
    """Return logits of a network in evaluation mode, without a graph; the network does not change.

    Args:
        statistics: those of its BatchNorms: ``running``, of its training, or ``batch``, of these inputs (batch-specific
            soft labels; a single input has none to speak of, and takes the running ones).
    """
    kinds = nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d
    norms = [m for m in network.modules() if isinstance(m, kinds)] if statistics == "batch" and len(x) > 1 else []
    kept = [(norm.running_mean, norm.running_var) for norm in norms]
    try:
        for norm in norms:
            norm.running_mean = norm.running_var = None  # then evaluation mode takes the batch's and keeps nothing
        with torch.no_grad():
            logits: Tensor = network(x)
        return logits
    finally:
        for norm, (mean, var) in zip(norms, kept, strict=True):
            norm.running_mean, norm.running_var = mean, var


def mean_logits(
    teachers: Sequence[LabelTeacher], x: Tensor, statistics: Statistics = "running"
) -> Float[Tensor, "m k"]:
    """Return the mean of the teachers' logits (G-VBSM, EDC), each in evaluation mode on its own device."""
    total: Tensor | None = None
    for expert in teachers:
        was_training = expert.network.training
        expert.network.eval()
        device = next((p.device for p in expert.network.parameters()), x.device)
        try:
            logits = teacher_logits(expert.network, x.to(device), statistics).float()
        finally:
            expert.network.train(was_training)
        total = logits if total is None else total + logits.to(total.device)
    if total is None:
        raise PotstillError("labels need at least one teacher, but none was given; give experts")
    return total / len(teachers)


def resolve_pool(epochs: int, pool: int | None) -> int:
    """Return the number of epochs to store: all that are trained, unless a pool is given.

    Raises:
        PotstillError: the pool is empty, or holds more than are trained.
    """
    if epochs < 1:
        raise PotstillError(
            "labels are stored for whole epochs of training, but there is less than one; train for more steps or epochs"
        )
    stored = epochs if pool is None else pool
    if not 1 <= stored <= epochs:
        raise PotstillError(f"a pool must hold 1…{epochs} epochs (those trained), but it is {stored}; change it")
    return stored


def write_labels(
    path: str | Path,
    teachers: Sequence[LabelTeacher],
    inputs: Tensor | FetchInputs,
    views: ViewSchedule,
    *,
    classes: Sequence[str],
    epochs: int,
    pool: int | None = None,
    items: int | None = None,
    rows: RowSettings = RowSettings(),
    settings: WriteSettings = DEFAULT_WRITING,
) -> LabelFile:
    """Label every view of every stored epoch, or continue an interrupted file.

    The file has `label_file_bytes` bytes, all reserved before the first label is made. Killed at any moment and called
    again with the same arguments, it ends with the same bytes.

    Args:
        path: of the file; it gets this name when it is whole.
        teachers: their mean logits are stored; all must have ``classes`` in this order.
        inputs: all items (n, …) in model space, or a function from indices to items.
        views: the recipe of crops, flips and mixes.
        classes: the data's, in label order.
        epochs: that will be trained.
        pool: epochs to store, at most ``epochs``; all of them if ``None``. See `potstill.labels.label_file`.
        items: n, where ``inputs`` is a function.
        rows: storage of the rows.
        settings: writing of the file.

    Returns:
        The store, open.

    Raises:
        PotstillError: a teacher's class order differs, a logit is not finite, another file is there, the disk is too
            small, or a setting is out of its range: one line.
    """
    path, names, batch, statistics = Path(path), tuple(classes), settings.batch, settings.statistics
    for expert in teachers:
        check_class_order(expert.classes, names, f"the teacher {expert.name!r}", "the data")
    n = count_items(inputs, items)
    if batch < 1:
        raise PotstillError(f"a batch must hold at least 1 view, but it is {batch}; 256 is usual")
    stored = resolve_pool(epochs, pool)
    about = LabelMetadata(
        classes=names, items=n, content_hash=settings.inputs_hash or hash_inputs(inputs, n), epochs=stored,
        coding=rows.codec(len(names)), views=views, version=version("potstill"), statistics=statistics,
        networks=tuple((expert.name, hash_network(expert.network)) for expert in teachers),
        batch=batch if statistics == "batch" else None,
    )  # fmt: skip
    step = n if statistics == "batch" else batch  # rows are written as they lie, so an epoch in its own order at once
    parts = [
        (e * n + first, e * n + min(n, first + step)) for e in range(stored) for first in range(0, n, step)
    ]  # fmt: skip

    def make(first: int, end: int) -> Mapping[str, NDArray[Any]]:
        epoch = first // n
        index = torch.arange(first - epoch * n, end - epoch * n)
        if statistics == "batch":
            order = torch.from_numpy(random_permutation(derive_seed(views.seed, "label batches"), n, epoch))
            together = torch.split(order, batch)
            logits = torch.cat([mean_logits(teachers, views.view(inputs, epoch, i, n), "batch") for i in together])
            logits = logits[order.argsort().to(logits.device)]
        else:
            logits = mean_logits(teachers, views.view(inputs, epoch, index, n))
        if logits.shape[1] != len(names):
            raise PotstillError(
                f"teachers of {len(names)} classes are required, but these give {logits.shape[1]} logits; check them"
            )
        if not bool(torch.isfinite(logits).all()):
            item = int(index[(~torch.isfinite(logits)).any(1).nonzero()[0, 0].cpu()])
            raise PotstillError(
                f"a teacher's logits must be finite, but those of item {item} in epoch {epoch} are not; check the "
                "teacher and its inputs"
            )
        return about.coding.encode(logits)

    return write_rows(path, about, parts, make, settings)


def write_rows(
    path: Path, about: LabelMetadata, parts: Sequence[tuple[int, int]],
    make: Callable[[int, int], Mapping[str, NDArray[Any]]], settings: WriteSettings,
) -> LabelFile:  # fmt: skip
    """Write a file of rows in parts, or continue it; ``make`` returns the fields of rows ``first`` to ``end``."""
    write_in_parts(
        path, plan_label_file(about), parts, make, record_every=settings.record_every, replace=settings.replace,
        progress=settings.progress,
    )  # fmt: skip
    return LabelFile(path)
