"""Stratified splits drawn by seed, and the assembly of read arrays into ``Splits``."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np
import torch
from jaxtyping import Int
from PIL import Image
from torch import Tensor
from torch.nn import functional

from potstill._util.input_limits import check_limit
from potstill.core import Inputs, InputSpec, Normalization, Source, Splits, Task
from potstill.core.nested import index, num_samples
from potstill.data.groups import (
    GroupValues,
    encode_groups,
    get_groups,
    join_groups,
    match_file_groups,
    note_group_overlap,
    refuse_groups,
    split_group_values,
    stratify_groups,
)  # fmt: skip
from potstill.data.in_memory import TensorSource, checked_normalization, fit_normalization, split_chunks, to_data_units
from potstill.data.leaking_columns import leaking_columns
from potstill.data.limits import require_memory
from potstill.data.pictures import resize_and_crop
from potstill.data.read_options import ReadOptions
from potstill.data.subset import SourceView
from potstill.data.table_encoding import Column, Frame, encode_frames
from potstill.data.train_test_overlap import first_equal, keep_copies_together, note_overlap
from potstill.errors import PotstillError
from potstill.kinds import get_kind
from potstill.rng import generator
from potstill.tasks import FittableTask

__all__ = [
    "RawSplits", "assemble", "check_splits", "count_absent_classes", "draw_test_split", "holdout", "parse_size",
    "stratify",
]  # fmt: skip


def stratify(
    labels: Int[Tensor, " n"], fraction: float, seed: int, groups: Int[Tensor, " n"] | None = None
) -> tuple[Int[Tensor, " k"], Int[Tensor, " h"]]:
    """Return two sorted, disjoint index sets that cover ``labels``: kept and held out.

    Each class gives ``fraction`` of its samples, rounded, but at least one and never all; a class of one sample stays
    in the kept part. The draw depends on the labels, the seed and the groups alone.

    Args:
        labels: int64 classes (n,).
        fraction: in (0, 1).
        seed: any integer.
        groups: numbers of groups (n,) that are kept whole, as `groups.stratify_groups` does it; not where each class
            has one group alone, of which then samples are held out.

    Raises:
        PotstillError: ``fraction`` is not in (0, 1).
    """
    if not 0 < fraction < 1:
        raise PotstillError(f"the fraction to hold out must lie between 0 and 1, not be {fraction}")
    if groups is not None and len((by_group := stratify_groups(labels, groups, fraction, seed))[1]):
        return by_group
    is_held_out = torch.zeros(len(labels), dtype=torch.bool)
    for label, size in enumerate(torch.bincount(labels).tolist()):
        if size < 2:
            continue
        (members,) = torch.where(labels == label)
        count = min(max(round(size * fraction), 1), size - 1)
        order = torch.randperm(size, generator=generator(seed, "split", label))
        is_held_out[members[order[:count]]] = True
    return torch.where(~is_held_out)[0], torch.where(is_held_out)[0]


S = TypeVar("S", bound=Source)


@runtime_checkable
class TimeOrdered(Protocol):
    """A source whose samples overlap, such as windows of a series, and which therefore splits itself."""

    def cut(self, fraction: float, /) -> "tuple[Any, Any]":
        """Return (kept, held out); ``fraction`` in (0, 1) is held out."""
        ...


def holdout(source: S, fraction: float, seed: int) -> tuple[S, S]:
    """Split ``source`` in two, stratified: (kept, held out), both with its classes and normalization.

    Groups that the source knows are kept whole, as `stratify` says.

    Args:
        source: what to cut.
        fraction: of each class to hold out, in (0, 1).
        seed: any integer; equal seeds cut equally.

    Raises:
        PotstillError: ``fraction`` is not in (0, 1), or no class has the two samples that a cut needs.
    """
    if isinstance(source, TimeOrdered):
        return source.cut(fraction)
    train_index, test_index = stratify(source.labels, fraction, seed, get_groups(source))
    if len(test_index) == 0:
        raise PotstillError(f"{source.name}: every class has a single sample, so none can be held out; add samples")
    sliceable: Any = source if hasattr(source, "subset") else SourceView.of(source, source.normalization)
    return sliceable.subset(train_index), sliceable.subset(test_index)


@dataclass(frozen=True, kw_only=True)
class RawSplits:
    """Stored inputs and int64 labels as a reader returns them, with or without a test part."""

    name: str
    train: Inputs | Frame
    """Inputs as sources store them; rows of a table, which are encoded by the statistics of the training part."""
    train_labels: Int[Tensor, " n"]
    spec: InputSpec
    classes: tuple[str, ...]
    test: Inputs | Frame | None = None
    test_labels: Tensor | None = None
    task: Task | None = None
    """The learning task; ``None``: classification."""
    targets: Tensor | None = None
    """Targets of the training part (n, …), if they are not the labels."""
    test_targets: Tensor | None = None
    normalization: Normalization | None = None
    """Published constants; ``None``: fitted on the training part."""
    names: tuple[str, ...] = ()
    """Name of each training sample, if known."""
    test_names: tuple[str, ...] = ()
    """Name of each test sample, if known."""
    groups: GroupValues | None = None
    """Group of each training sample (n,), if known."""
    test_groups: GroupValues | None = None
    """Group of each test sample (m,), if known."""
    texts: tuple[str, ...] = ()
    """Text of each sample of image-text pairs."""
    notes: tuple[str, ...] = ()
    label_column: tuple[str, str] | None = None
    """Label or target column of a table and its type (`table_encoding.label_type`)."""
    places: Int[Tensor, " n"] | None = None
    """Position of each training sample among the files or rows that were read; ``None``: all, in order."""
    test_places: Int[Tensor, " m"] | None = None
    """Position of each test sample, if known."""


def _as_files(x: Tensor) -> bool:
    return x.dtype == torch.uint8 and x.shape[1] in (1, 3)


def _resize(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize images (n, c, h, w) with antialiasing to cover ``size`` and crop the middle; the dtype stays."""
    h, w = x.shape[-2:]
    scale = max(size[0] / h, size[1] / w)
    cover = [max(size[0], round(h * scale)), max(size[1], round(w * scale))]
    top, left = (cover[0] - size[0]) // 2, (cover[1] - size[1]) // 2
    what = f"{len(x):,} pictures of {size[0]:,} × {size[1]:,}"
    require_memory(x.shape[0] * x.shape[1] * size[0] * size[1] * x.element_size(), what, "give a smaller size")
    out = torch.empty((*x.shape[:2], *size), dtype=x.dtype)
    if _as_files(x):
        for i, picture in enumerate(x.movedim(1, -1).squeeze(-1).numpy()):
            resized = np.asarray(resize_and_crop(Image.fromarray(picture), size))
            out[i] = torch.from_numpy(resized.reshape(*size, -1).copy()).movedim(-1, 0)
        return out
    start = 0
    for stored in split_chunks(x):
        part = functional.interpolate(
            to_data_units(stored), cover, mode="bilinear", antialias=True, align_corners=False
        )
        part = part[..., top : top + size[0], left : left + size[1]]
        out[start : start + len(part)] = part.mul(255).round().clamp(0, 255) if x.dtype == torch.uint8 else part
        start += len(part)
    return out


def count_absent_classes(classes: tuple[str, ...], labels: Tensor) -> int:
    return int((torch.bincount(labels, minlength=len(classes)) == 0).sum())


def parse_size(size: int | tuple[int, int] | None) -> tuple[int, int] | None:
    """Return ``size`` as (height, width).

    Raises:
        PotstillError: a side is smaller than one pixel, or there are too many.
    """
    if size is None:
        return None
    h, w = (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))
    if h < 1 or w < 1:
        raise PotstillError(f"the picture size must be at least 1 × 1, not {h} × {w}")
    check_limit("pixels", h * w, f"the picture size {h:,} × {w:,}")
    return h, w


def _size(x: Inputs | Frame) -> int:
    return len(x) if isinstance(x, Frame) else num_samples(x)


def _select(x: Inputs | Frame, at: Tensor) -> Any:
    return x[at] if isinstance(x, Frame) else index(x, at)


def check_splits(
    name: str, classes: tuple[str, ...] | None, train: tuple[int, Tensor], test: tuple[int, Tensor] | None
) -> None:
    """Check that samples, labels and class names of a training and a test part fit together.

    Args:
        train, test: how many inputs there are, and their labels.

    Raises:
        PotstillError: they do not, or a class has no training samples.
    """
    for part, where in ((train, f"{name}: training part"), (test, f"{name}: test part")):
        if part is None:
            continue
        inputs, labels = part[0], len(part[1])
        if inputs != labels:
            raise PotstillError(f"{where}: {inputs} inputs but {labels} labels; give one label for each input")
        if inputs == 0:
            raise PotstillError(f"{where}: there are no samples; give at least one")
    if classes is None:  # the task knows none
        return
    if len(classes) < 2:
        raise PotstillError(f"{name}: there is one class, {classes[0]!r}; at least two are needed")
    if len(set(classes)) < len(classes):
        twice = next(c for c in classes if classes.count(c) > 1)
        raise PotstillError(f"{name}: the class name {twice!r} stands there twice; give each class its own name")
    counts = torch.bincount(train[1], minlength=len(classes))
    if (missing := torch.where(counts == 0)[0]).numel():
        which = ", ".join(repr(classes[i]) for i in missing[:3].tolist())
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise PotstillError(
            f"{name}: class {which}{more} has no samples in the training split; add some or leave the class out"
        )


def draw_test_split(
    name: str, classes: tuple[str, ...], labels: Int[Tensor, " n"], fraction: float, seed: int,
    groups: Int[Tensor, " n"] | None = None,
) -> tuple[Int[Tensor, " k"], Int[Tensor, " h"], list[str]]:  # fmt: skip
    """Draw the test split: training indices, test indices and notes. Arguments as for `stratify`.

    Raises:
        PotstillError: no class has two samples, or two groups.
    """
    if groups is not None:
        return _draw_groups(name, classes, labels, fraction, seed, groups)
    train_index, test_index = stratify(labels, fraction, seed)
    if len(test_index) == 0:
        raise PotstillError(f"{name}: every class has a single sample, so no test split can be drawn; add samples")
    each = " of each class" if classes else ""
    notes = [
        f"{name}: no test split found; {len(test_index):,} of {len(test_index) + len(train_index):,} samples "
        f"({fraction:.0%}{each}) were drawn as test with seed {seed}"
    ]
    if lonely := count_absent_classes(classes, labels[test_index]):
        notes.append(f"{name}: {lonely} classes have a single sample, which stays in training")
    return train_index, test_index, notes


def _add_groups(parts: RawSplits, group: str | Sequence[Any] | None) -> RawSplits:
    """Add groups from ``group`` where the reader found none: from file names, or as given."""
    if group is None or parts.groups is not None:
        return parts
    if isinstance(group, str):
        refuse_groups(None if parts.names else group, parts.name)
        return replace(
            parts, groups=match_file_groups(group, parts.names, parts.name),
            test_groups=match_file_groups(group, parts.test_names, parts.name) if parts.test_names else None,
        )  # fmt: skip
    sizes = _size(parts.train), 0 if parts.test is None else _size(parts.test)
    if parts.places is not None and not torch.equal(parts.places, torch.arange(sizes[0])):
        raise PotstillError(
            f"{parts.name}: samples were left out, so groups as an array cannot be told; give a column, or whole data"
        )
    train, test = split_group_values(group, *sizes, parts.name)
    return replace(parts, groups=train, test_groups=test)


def _draw_groups(
    name: str, classes: tuple[str, ...], labels: Tensor, fraction: float, seed: int, groups: Tensor
) -> tuple[Tensor, Tensor, list[str]]:
    stratify(labels, fraction, seed)  # refuses a bad fraction
    train_index, test_index = stratify_groups(labels, groups, fraction, seed)
    total, drawn_groups = len(torch.unique(groups)), len(torch.unique(groups[test_index]))
    if len(test_index) == 0:
        why = "each class lies in one group" if classes else "there is one group"
        raise PotstillError(
            f"{name}: no test split can be drawn that keeps {total:,} groups whole, because {why}; give smaller groups"
        )
    each = " of each class" if classes else ""
    notes = [
        f"{name}: no test split found; {len(test_index):,} of {len(labels):,} samples "
        f"({drawn_groups:,} of {total:,} whole groups, near {fraction:.0%}{each}) were drawn as test with seed {seed}"
    ]
    if lonely := count_absent_classes(classes, labels[test_index]):
        notes.append(f"{name}: {lonely} of {len(classes)} classes have no group to spare and no test samples")
    if not len(stratify_groups(labels[train_index], groups[train_index], fraction, seed)[1]):
        notes.append(
            f"{name}: each class has one group left in training, so parts of it that are held out to choose on, "
            "such as a learning rate, are of the same groups"
        )
    return train_index, test_index, notes


def assemble(parts: RawSplits, options: ReadOptions) -> Splits:
    """Assemble ``Splits`` from read data: resize if asked, draw a test split if there is none, normalise by training
    data.

    Args:
        parts: what was read.
        reading: options of ``load``. Test samples that are exact copies of training samples are always looked for.

    Raises:
        PotstillError: fewer than two classes, a class without training samples, lengths that differ, a bad fraction.
    """
    parts = _add_groups(parts, options.group)
    of_test = None if parts.test is None or parts.test_labels is None else (_size(parts.test), parts.test_labels)
    check_splits(
        parts.name, parts.classes if parts.task is None else None, (_size(parts.train), parts.train_labels), of_test
    )
    notes = list(parts.notes)
    train, test, spec = parts.train, parts.test, parts.spec
    train_labels, test_labels, names = parts.train_labels, parts.test_labels, parts.names
    targets, test_targets = parts.targets, parts.test_targets
    test_names = parts.test_names
    groups, test_groups = (None, None) if parts.groups is None else encode_groups(parts.groups, parts.test_groups)
    texts, test_texts = parts.texts, tuple[str, ...]()
    places = torch.arange(_size(train)) if parts.places is None else parts.places
    if (target := options.size) is not None:
        if not get_kind(spec).augmentable:
            raise PotstillError(f"{parts.name}: a size was asked for, but the inputs are no pictures; leave it out")
        if target != spec.shape[1:]:
            assert isinstance(train, Tensor)
            assert test is None or isinstance(test, Tensor)
            notes.append(
                f"{parts.name}: pictures of {spec.shape[1]} × {spec.shape[2]} resized to {target[0]} × {target[1]}"
                + ("" if _as_files(train) else ", bilinearly, as their values are not those of files of pictures")
            )
            train, test = _resize(train, target), None if test is None else _resize(test, target)
            spec = replace(spec, shape=(spec.shape[0], *target))
    is_drawn = test is None and options.test_fraction != 0
    if is_drawn:
        first = first_equal(train) if options.duplicates == "together" else None
        train_index, test_index, split_notes = draw_test_split(
            parts.name, parts.classes, train_labels, options.test_fraction, options.seed,
            None if groups is None else join_groups(groups, first),
        )  # fmt: skip
        if first is not None and groups is None:
            train_index, test_index, more = keep_copies_together(
                train_index, test_index, first, train_labels, parts.name
            )
            split_notes += more
        test, test_labels = _select(train, test_index), train_labels[test_index]
        train, train_labels, places = _select(train, train_index), train_labels[train_index], places[train_index]
        if targets is not None:
            targets, test_targets = targets[train_index], targets[test_index]
        if names:
            names, test_names = (tuple(names[i] for i in at.tolist()) for at in (train_index, test_index))
        if groups is not None:
            groups, test_groups = groups[train_index], groups[test_index]
        if parts.texts:
            texts, test_texts = (tuple(parts.texts[i] for i in at.tolist()) for at in (train_index, test_index))
        notes += split_notes
    elif test_labels is not None:
        if lacking := count_absent_classes(parts.classes, test_labels):
            notes.append(f"{parts.name}: {lacking} of {len(parts.classes)} classes have no test samples")
        if groups is not None and test_groups is not None:
            notes += note_group_overlap(groups, test_groups, parts.name)
    if spec.kind == "table" and isinstance(train, Frame | Tensor):
        notes += leaking_columns(train, train_labels, targets, parts.name)
    columns: tuple[Column, ...] = ()
    if isinstance(train, Frame):
        assert test is None or isinstance(test, Frame)
        train, test, columns, more = encode_frames(train, test)
        values = tuple(name for column in columns for name in column.names)
        spec = replace(spec, shape=tuple(train.shape[1:]), columns=values)
        notes += more
    assert not isinstance(test, Frame)
    normalization = checked_normalization(options.normalization, train, parts.name) or parts.normalization
    normalization = normalization or fit_normalization(train)

    task = parts.task.fit(targets) if isinstance(parts.task, FittableTask) and targets is not None else parts.task

    def source(x: Inputs, y: Tensor, t: Tensor | None, at: Tensor | None = None) -> TensorSource:
        splits = TensorSource(
            name=parts.name, input=spec, classes=parts.classes, normalization=normalization, inputs=x, labels=y,
            places=at, columns=columns, label_column=parts.label_column, task=task, targets=t,
        )  # fmt: skip
        return splits if splits.device == torch.device(options.device) else splits.to(options.device)

    test_source = source(test, test_labels, test_targets) if test is not None and test_labels is not None else None
    test_source = (
        None if test_source is None else replace(test_source, names=test_names, texts=test_texts, groups=test_groups)
    )
    train_source = replace(source(train, train_labels, targets, places), names=names, texts=texts, groups=groups)
    splits = Splits(train=train_source, test=test_source)
    return replace(splits, notes=(*notes, *note_overlap(splits, options.duplicates, is_drawn)))
