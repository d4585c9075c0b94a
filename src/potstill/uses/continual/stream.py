"""Streams: training data in steps, by class or by group, and the test samples that belong to each step."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Int
from torch import Generator, Tensor

from potstill.core import Source
from potstill.core.nested import single_tensor
from potstill.data import TensorSource
from potstill.data.groups import get_groups
from potstill.errors import PotstillError
from potstill.functional.coreset import average_clusters
from potstill.rng import generator
from potstill.tasks import Classification, get_task

__all__ = ["Step", "check_source", "class_stream", "group_stream", "named_stream", "split_classes", "step_source"]


@dataclass(frozen=True, kw_only=True)
class Step:
    """One step of a stream."""

    classes: tuple[int, ...]
    """Classes of the step, as numbers of the whole data."""
    train: Int[Tensor, " n"]
    """Positions of its training samples."""
    test: Int[Tensor, " m"]
    """Positions of the test samples that it is measured on."""
    groups: tuple[int, ...] = ()
    """Group numbers of the step, for a stream of groups."""


def check_source(source: Source, what: str, use: str = "a stream") -> TensorSource:
    """Return a source that a stream can be made of.

    Args:
        source: training or test data.
        what: which of the two, for messages.
        use: what is made of it, for messages.

    Raises:
        PotstillError: its samples are not held in memory as one tensor, or it has no classes.
    """
    if not isinstance(source, TensorSource) or not isinstance(source.inputs, Tensor):
        raise PotstillError(
            f"{use} needs {what} data that are held in memory as one tensor, but {source.name} is not; give arrays"
        )
    if not isinstance(get_task(source), Classification) or len(source.classes) < 2:
        raise PotstillError(
            f"{use} needs data with two classes or more, but {source.name} has {len(source.classes)}; give others"
        )
    return source


def class_stream(train: Source, test: Source, classes_per_step: int, seed: int) -> tuple[Step, ...]:
    """Return a class-incremental stream: classes in an order drawn by ``seed``, the last step with what is left.

    Raises:
        PotstillError: there would be fewer than two steps, or a class has no samples.
    """
    k = len(train.classes)
    if not 1 <= classes_per_step < k:
        raise PotstillError(
            f"a stream needs two steps or more, but {classes_per_step} classes a step of {k} classes make "
            f"{'one' if classes_per_step > 0 else 'none'}; give 1 to {k - 1}"
        )
    order = torch.randperm(k, generator=generator(seed, "classes")).tolist()
    parts = [order[i : i + classes_per_step] for i in range(0, k, classes_per_step)]
    return tuple(_class_step(train, test, tuple(part)) for part in parts)


def named_stream(train: Source, test: Source, steps: Sequence[Sequence[str]]) -> tuple[Step, ...]:
    """Return a class-incremental stream of named classes; classes that stand in no step are left out.

    Raises:
        PotstillError: a class is unknown, stands twice or has no samples, or there are fewer than two steps.
    """
    step_of: dict[str, int] = {}
    for number, names in enumerate(steps):
        if not names:
            raise PotstillError(f"step {number + 1} of the stream has no class; name one at least")
        for name in names:
            if name not in train.classes:
                raise PotstillError(
                    f"step {number + 1} of the stream names class {name!r}, but {train.name} has "
                    f"{', '.join(train.classes[:8])}{', …' if len(train.classes) > 8 else ''}; name one of them"
                )
            if name in step_of:
                raise PotstillError(
                    f"class {name!r} stands twice in the stream, in steps {step_of[name] + 1} and {number + 1}; a "
                    "class comes once, so leave it out of one of them"
                )
            step_of[name] = number
    if len(steps) < 2:
        raise PotstillError(f"a stream needs two steps or more, but {len(steps)} are named; name more")
    return tuple(_class_step(train, test, tuple(train.classes.index(n) for n in names)) for names in steps)


def group_stream(train: Source, test: Source, steps: int, seed: int) -> tuple[Step, ...]:
    """Return a domain-incremental stream: groups of samples in an order drawn by ``seed``, all classes throughout.

    Test samples of a step are those of its groups; where the test split has none of the training groups, each step has
    all test samples.

    Raises:
        PotstillError: the data have no groups, or fewer than steps.
    """
    groups, other = get_groups(train), get_groups(test)
    if groups is None:
        raise PotstillError(
            f"a domain-incremental stream needs groups of samples, but {train.name} has none; load it with `group=`"
        )
    values = torch.unique(groups).tolist()
    if not 2 <= steps <= len(values):
        raise PotstillError(
            f"a domain-incremental stream of {len(values)} groups has 2 to {len(values)} steps, not {steps}; change "
            "the number"
        )
    order = torch.randperm(len(values), generator=generator(seed, "groups")).tolist()
    drawn = [values[i] for i in order]
    parts = [drawn[i * len(drawn) // steps : (i + 1) * len(drawn) // steps] for i in range(steps)]
    shared = other is not None and all(bool(torch.isin(other, torch.tensor(part)).any()) for part in parts)
    made = []
    for part in parts:
        wanted = torch.tensor(part)
        at = torch.isin(groups, wanted).nonzero().flatten()
        tested = torch.isin(other, wanted).nonzero().flatten() if shared and other is not None else _all(test)
        classes = tuple(torch.unique(train.labels[at]).tolist())
        made.append(Step(classes=classes, train=at, test=tested, groups=tuple(part)))
    return tuple(made)


def _all(source: Source) -> Tensor:
    return torch.arange(len(source))


def _class_step(train: Source, test: Source, classes: tuple[int, ...]) -> Step:
    for c in classes:
        for what, source in (("training", train), ("test", test)):
            if not bool((source.labels == c).any()):
                raise PotstillError(
                    f"class {train.classes[c]!r} has no {what} samples, so a stream cannot have it; leave it out"
                )
    wanted = torch.tensor(classes)
    train_at, test_at = (torch.isin(s.labels, wanted).nonzero().flatten() for s in (train, test))
    return Step(classes=classes, train=train_at, test=test_at)


def step_source(source: TensorSource, at: Int[Tensor, " n"], classes: Sequence[int]) -> TensorSource:
    """Return samples as a source of their own, whose classes are ``classes`` in that order."""
    part = source.subset(at)
    number = torch.full((len(source.classes),), -1, dtype=torch.int64)
    number[torch.tensor(list(classes))] = torch.arange(len(classes))
    return replace(part, classes=tuple(source.classes[c] for c in classes), labels=number[part.labels])


def split_classes(source: TensorSource, parts: int, least: int, rng: Generator) -> TensorSource:
    """Return a source whose classes are clusters of each class: a harder problem on the same samples.

    Args:
        source: with classes, its inputs one tensor.
        parts: clusters of each class at most.
        least: fewest samples of a cluster; a class with fewer stays as it is.
        rng: draws the first centres of k-means.
    """
    flat = single_tensor(source.fetch(torch.arange(len(source))).x, "a stream").flatten(1)
    labels = torch.zeros_like(source.labels)
    names: list[str] = []
    for number, name in enumerate(source.classes):
        own = (source.labels == number).nonzero().flatten()
        if len(own) < least:
            labels[own], names = len(names), [*names, name]
            continue
        centres, _ = average_clusters(flat[own], parts, least, rng)
        nearest, own_labels = torch.cdist(flat[own], centres).argmin(1).unique(return_inverse=True)  # type: ignore[no-untyped-call]
        labels[own] = len(names) + own_labels
        names += [f"{name} {part}" for part in range(len(nearest))]
    return replace(source, classes=tuple(names), labels=labels)
