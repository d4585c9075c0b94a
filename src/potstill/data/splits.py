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
from potstill.core.nested import index, named_tensors, num_samples
from potstill.data.arrays import encode_labels
from potstill.data.attributes import Attribute, encode_attributes, select_attribute
from potstill.data.groups import (
    encode_groups,
    get_groups,
    join_groups,
    match_file_groups,
    note_group_overlap,
    split_group_values,
    stratify_groups,
)  # fmt: skip
from potstill.data.in_memory import TensorSource, checked_normalization, fit_normalization, split_chunks, to_data_units
from potstill.data.leaking_columns import leaking_columns
from potstill.data.limits import require_memory
from potstill.data.pictures import Picture, decode_images, resize_and_crop
from potstill.data.read_options import ReadOptions
from potstill.data.subset import SourceView
from potstill.data.table_encoding import Column, Frame, encode_frames
from potstill.data.text_encoder import (
    Representation,
    TextEncoder,
    encode_inputs,
    encoded_spec,
    note_wordless,
    text_normalization,
    text_part,
)
from potstill.data.train_test_overlap import first_equal, first_equal_texts, keep_copies_together, note_overlap
from potstill.errors import PotstillError
from potstill.kinds import get_kind
from potstill.rng import generator
from potstill.tasks import FittableTask, is_ragged

__all__ = [
    "RawPart", "RawSplits", "TimeOrdered", "assemble", "check_splits", "decode_labelled", "draw_test_split", "holdout",
    "note_given_split", "parse_size", "stratify",
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
    _check_fraction(fraction)
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


def _check_fraction(fraction: float) -> None:
    if not 0 < fraction < 1:
        raise PotstillError(f"the fraction to hold out must lie between 0 and 1, not be {fraction}")


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

    Returns:
        What is kept, and what is held out.

    Examples:
        >>> train = potstill.load_data("digits").train
        >>> kept, held_out = potstill.holdout(train, 0.2, seed=0)
        >>> len(kept) > len(held_out), kept.classes == train.classes
        (True, True)
    """
    if isinstance(source, TimeOrdered):
        return source.cut(fraction)
    train_index, test_index = stratify(source.labels, fraction, seed, get_groups(source))
    if len(test_index) == 0:
        raise PotstillError(f"{source.name}: every class has a single sample, so none can be held out; add samples")
    sliceable: Any = source if hasattr(source, "subset") else SourceView.of(source, source.normalization)
    return sliceable.subset(train_index), sliceable.subset(test_index)


@dataclass(frozen=True, kw_only=True)
class RawPart:
    """Samples of one part, training or test, as a reader returns them."""

    inputs: Inputs | Frame
    """Inputs as sources store them; rows of a table, which are encoded by the statistics of the training part."""
    labels: Int[Tensor, " n"]
    targets: Tensor | None = None
    """Targets (n, …), if they are not the labels."""
    names: tuple[str, ...] = ()
    """Name of each sample, if known."""
    texts: tuple[str, ...] = ()
    """Text of each sample of image-text pairs."""
    groups: Any = None
    """Group of each sample (n,): texts or numbers, or ``None``."""
    attributes: Any = None
    """Attribute of each sample (n,): texts or numbers, an `Attribute` once a part is assembled, or ``None``."""
    places: Int[Tensor, " n"] | None = None
    """Position of each sample among the files or rows that were read; ``None``: all, in order."""

    def __len__(self) -> int:
        return len(self.inputs) if isinstance(self.inputs, Frame) else num_samples(self.inputs)

    def with_values(self, option: str, values: Any) -> "RawPart":
        """Return the part with these groups, or attributes where ``option`` is ``attribute``."""
        return replace(self, attributes=values) if option == "attribute" else replace(self, groups=values)

    def select(self, at: Int[Tensor, " m"]) -> "RawPart":
        """Return the samples at ``at``."""

        def texts(values: tuple[str, ...]) -> tuple[str, ...]:
            return tuple(values[i] for i in at.tolist()) if values else ()

        return RawPart(
            inputs=self.inputs[at] if isinstance(self.inputs, Frame) else index(self.inputs, at),
            labels=self.labels[at],
            targets=None if self.targets is None else self.targets[at],
            names=texts(self.names),
            texts=texts(self.texts),
            groups=None if self.groups is None else self.groups[at],
            attributes=select_attribute(self.attributes, at),
            places=None if self.places is None else self.places[at],
        )


@dataclass(frozen=True, kw_only=True)
class RawSplits:
    """A training part, and a test part if the data have one, as a reader returns them."""

    name: str
    train: RawPart
    test: RawPart | None = None
    spec: InputSpec
    classes: tuple[str, ...]
    task: Task | None = None
    """The learning task; ``None``: classification."""
    normalization: Normalization | None = None
    """Published constants; ``None``: fitted on the training part."""
    notes: tuple[str, ...] = ()
    label_column: tuple[str, str] | None = None
    """Label or target column of a table and its type (`table_encoding.label_type`)."""
    representation: Representation | None = None
    """Representation of texts, fitted once the training part is known; ``None``: inputs are no texts."""


def decode_labelled(
    items: Sequence[tuple[str, Picture]], labels: Sequence[Sequence[Any]], name: str, options: ReadOptions,
    classes: tuple[str, ...] | None = None,
) -> RawSplits:  # fmt: skip
    """Decode image files with the labels of the training part, and of the test part if there are two."""
    got = decode_images(items, size=options.size, skip_bad=options.skip_bad, name=name)
    values, first = [v for part in labels for v in part], len(labels[0])
    cut = sum(i < first for i in got.positions)
    kept = [values[i] for i in got.positions]
    has_test = len(labels) == 2
    y, z, classes, notes = encode_labels(kept[:cut], kept[cut:] if has_test else None, classes=classes, name=name)
    places = torch.tensor(got.positions, dtype=torch.int64)
    return RawSplits(
        name=name,
        train=RawPart(inputs=got.pixels[:cut], labels=y, places=places[:cut]),
        test=None if z is None else RawPart(inputs=got.pixels[cut:], labels=z, places=places[cut:] - first),
        spec=InputSpec(kind="image", shape=tuple(got.pixels.shape[1:])), classes=classes, notes=(*notes, *got.notes),
    )  # fmt: skip


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


def _count_absent_classes(classes: tuple[str, ...], labels: Tensor) -> int:
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
    name: str, classes: tuple[str, ...], labels: Int[Tensor, " n"], options: ReadOptions,
    groups: Int[Tensor, " n"] | None, first_copies: Int[Tensor, " n"] | None,
) -> tuple[Int[Tensor, " k"], Int[Tensor, " h"], list[str]]:  # fmt: skip
    """Draw the test split, stratified, with groups kept whole: training indices, test indices and notes.

    Args:
        options: fraction and seed.
        first_copies: of each sample the first that equals it, if copies are kept together.

    Raises:
        PotstillError: no class has two samples, or two groups.
    """
    fraction, seed = options.test_fraction, options.seed
    groups = None if groups is None else join_groups(groups, first_copies)
    if groups is None:
        train_index, test_index = stratify(labels, fraction, seed)
        single = "every class has a single sample" if classes else "there is a single sample"
        share, cause = "", f"{single}, so no test split can be drawn; add samples"
        lacking = "classes have a single sample, which stays in training"
    else:
        _check_fraction(fraction)
        train_index, test_index = stratify_groups(labels, groups, fraction, seed)
        total, drawn_groups = len(torch.unique(groups)), len(torch.unique(groups[test_index]))
        share = f"{drawn_groups:,} of {total:,} whole groups, near "
        reason = "each class lies in one group" if classes else "there is one group"
        cause = f"no test split can be drawn that keeps {total:,} groups whole, because {reason}; give smaller groups"
        lacking = f"of {len(classes)} classes have no group to spare and no test samples"
    if len(test_index) == 0:
        raise PotstillError(f"{name}: {cause}")
    each = " of each class" if classes else ""
    notes = [
        f"{name}: no test split found; {len(test_index):,} of {len(labels):,} samples ({share}{fraction:.0%}{each}) "
        f"were drawn as test with seed {seed}"
    ]
    if lonely := _count_absent_classes(classes, labels[test_index]):
        notes.append(f"{name}: {lonely} {lacking}")
    if groups is not None and not len(stratify_groups(labels[train_index], groups[train_index], fraction, seed)[1]):
        notes.append(
            f"{name}: each class has one group left in training, so parts of it that are held out to choose on, "
            "such as a learning rate, are of the same groups"
        )
    if groups is None and first_copies is not None:
        train_index, test_index, more = keep_copies_together(train_index, test_index, first_copies, labels, name)
        notes += more
    return train_index, test_index, notes


def note_given_split(
    name: str, classes: tuple[str, ...], groups: Tensor | None, test_labels: Tensor, test_groups: Tensor | None
) -> list[str]:
    """Return notes on classes that a given test part lacks, and on groups that it shares with the training part."""
    absent = _count_absent_classes(classes, test_labels)
    notes = [f"{name}: {absent} of {len(classes)} classes have no test samples"] if absent else []
    return notes if groups is None or test_groups is None else notes + note_group_overlap(groups, test_groups, name)


def _add_values(parts: RawSplits, option: str, source: str | Sequence[Any] | None) -> RawSplits:
    """Add the groups or attributes that ``source`` says where the reader found none: from file names, or as they are.

    Args:
        option: ``group`` or ``attribute``.
    """
    train, test, field = parts.train, parts.test, f"{option}s"
    if source is None or getattr(train, field) is not None:
        return parts
    if isinstance(source, str):
        if not train.names:
            use = "to group by" if option == "group" else "that say an attribute"
            raise PotstillError(
                f"{parts.name} has no column and no files {use}; leave `{option}=` out (in Python it may be an array)"
            )
        values = match_file_groups(source, train.names, parts.name, option)
        more = match_file_groups(source, test.names, parts.name, option) if test is not None and test.names else None
    else:
        if train.places is not None and not torch.equal(train.places, torch.arange(len(train))):
            raise PotstillError(
                f"{parts.name}: samples were left out, so {field} as an array cannot be told; give a column, or whole "
                "data"
            )
        values, more = split_group_values(source, len(train), 0 if test is None else len(test), parts.name, option)
    rest = None if test is None else test.with_values(option, more)
    return replace(parts, train=train.with_values(option, values), test=rest)


def assemble(parts: RawSplits, options: ReadOptions) -> Splits:
    """Assemble ``Splits`` from read data: resize if asked, draw a test split if there is none, normalise by training
    data.

    Args:
        parts: what was read.
        options: options of ``load``. Test samples that are exact copies of training samples are always looked for.

    Raises:
        PotstillError: fewer than two classes, a class without training samples, lengths that differ, a bad fraction.
    """
    parts = _add_values(_add_values(parts, "group", options.group), "attribute", options.attribute)
    name, train, test, spec, notes = parts.name, parts.train, parts.test, parts.spec, list(parts.notes)
    check_splits(
        name, parts.classes if parts.task is None else None, (len(train), train.labels),
        None if test is None else (len(test), test.labels),
    )  # fmt: skip
    if train.groups is not None:
        groups, test_groups = encode_groups(train.groups, None if test is None else test.groups)
        train, test = replace(train, groups=groups), None if test is None else replace(test, groups=test_groups)
    if train.attributes is not None and not isinstance(train.attributes, Attribute):
        attributes = encode_attributes(train.attributes, None if test is None else test.attributes)
        train = replace(train, attributes=attributes[0])
        test = None if test is None else replace(test, attributes=attributes[1])
    if train.places is None:
        train = replace(train, places=torch.arange(len(train)))
    if (size := options.size) is not None:
        if not get_kind(spec).augmentable:
            raise PotstillError(f"{name}: a size was requested, but the inputs are not pictures; leave it out")
        if size != spec.shape[1:]:
            assert isinstance(train.inputs, Tensor)
            notes.append(
                f"{name}: pictures of {spec.shape[1]} × {spec.shape[2]} resized to {size[0]} × {size[1]}"
                + (
                    ""
                    if _as_files(train.inputs)
                    else ", bilinearly, as their values are not those of files of pictures"
                )
            )
            train = replace(train, inputs=_resize(train.inputs, size))
            if test is not None:
                assert isinstance(test.inputs, Tensor)
                test = replace(test, inputs=_resize(test.inputs, size))
            spec = replace(spec, shape=(spec.shape[0], *size))
    is_drawn = test is None and options.test_fraction != 0
    if is_drawn:
        copies = None
        if options.duplicates == "together":
            of_texts = parts.representation is not None and not spec.parts
            copies = first_equal_texts(train.texts) if of_texts else first_equal(train.inputs)
        at, test_at, more = draw_test_split(name, parts.classes, train.labels, options, train.groups, copies)
        train, test = train.select(at), train.select(test_at)
        notes += more
    elif test is not None:
        notes += note_given_split(name, parts.classes, train.groups, test.labels, test.groups)
    if spec.kind == "table" and isinstance(train.inputs, Frame | Tensor) and not is_ragged(parts.task):
        notes += leaking_columns(train.inputs, train.labels, train.targets, name)
    columns: tuple[Column, ...] = ()
    if isinstance(train.inputs, Frame):
        frame = None if test is None else test.inputs
        assert frame is None or isinstance(frame, Frame)
        x, x_test, columns, more = encode_frames(train.inputs, frame)
        train = replace(train, inputs=x)
        test = test if test is None or x_test is None else replace(test, inputs=x_test)
        values = tuple(name for column in columns for name in column.names)
        spec = replace(spec, shape=tuple(x.shape[1:]), columns=values)
        notes += more
    encoder: TextEncoder | None = None
    if parts.representation is not None:
        encoder = parts.representation.fit(train.texts, options.progress)
        train, spec = replace(train, inputs=encode_inputs(encoder, train, spec)), encoded_spec(spec, encoder.size)
        test = None if test is None else replace(test, inputs=encode_inputs(encoder, test, spec))
        notes += note_wordless(train.inputs, name)
    task, targets = parts.task, train.targets
    task = task.fit(targets) if isinstance(task, FittableTask) and targets is not None else task

    assert not isinstance(train.inputs, Frame)
    normalization = options.normalization
    if isinstance(train.inputs, Tensor):
        normalization = checked_normalization(normalization, train.inputs.shape[1], name)
    if encoder is not None and isinstance(train.inputs, Tensor):
        normalization = normalization or text_normalization(train.inputs)
    normalization = normalization or parts.normalization or fit_normalization(train.inputs)
    if encoder is not None and normalization.parts and options.normalization is None:
        part = text_part(spec)
        scaled = text_normalization(named_tensors(train.inputs)[part])
        normalization = replace(normalization, parts={**normalization.parts, part: scaled})

    def source(part: RawPart) -> TensorSource:
        inputs = part.inputs
        assert not isinstance(inputs, Frame)
        made = TensorSource(
            name=name, input=spec, classes=parts.classes, normalization=normalization, inputs=inputs,
            labels=part.labels, targets=part.targets, places=part.places, names=part.names, texts=part.texts,
            groups=part.groups, attribute=part.attributes, columns=columns, label_column=parts.label_column, task=task,
            encoder=encoder,
        )  # fmt: skip
        return made if made.device == torch.device(options.device) else made.to(options.device)

    splits = Splits(train=source(train), test=None if test is None else source(test))
    return replace(splits, notes=(*notes, *note_overlap(splits, options.duplicates, is_drawn)))
