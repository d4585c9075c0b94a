"""Teachers: networks trained on real data, step by step as values, and their soft labels.

Early-stopped teachers: Qin et al., "A Label is Worth a Thousand Images in Dataset Distillation", arXiv:2406.10485.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor, nn
from torch.func import functional_call

from potstill.augment.mix import CutMix
from potstill.augment.per_frame import beside_cutmix
from potstill.core import Augmentation, Batch, Inputs, Source, Task
from potstill.core.nested import num_samples, single_tensor
from potstill.data.iterate import prefetch
from potstill.errors import PotstillError
from potstill.functional.sharpness_aware import GSAM, gsam_step
from potstill.functional.train import copy_parameters, train_step
from potstill.kinds import get_kind
from potstill.tasks import Classification, get_task

__all__ = ["SGD", "Teacher", "fresh_teacher", "soft_labels", "teacher_step", "train_epoch", "train_teacher"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Teacher:
    """Training state of a teacher; its network gives the architecture only."""

    params: Mapping[str, Tensor]
    velocity: Mapping[str, Tensor]
    buffers: Mapping[str, Tensor]
    step: int = 0
    num_correct: int = 0
    """Training samples classified correctly when they were met, of ``num_seen``; 0 without classes."""
    num_seen: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SGD:
    """Settings of SGD."""

    batch: int = 256
    """Samples of a step, at least 1."""
    lr: float = 0.01
    momentum: float = 0.9
    weight_decay: float = 5e-4


def fresh_teacher(network: nn.Module) -> Teacher:
    """Return an untrained teacher: copies of the network's parameters and buffers, zero velocity."""
    params = copy_parameters(network)
    return Teacher(
        params=params,
        velocity={name: torch.zeros_like(p) for name, p in params.items()},
        buffers={name: b.detach().clone() for name, b in network.named_buffers()},
    )


def teacher_step(
    network: nn.Module, teacher: Teacher, source: Source, rng: Generator, sgd: SGD = SGD(), *,
    augment: Augmentation | None = None,
) -> tuple[Teacher, Float[Tensor, ""]]:  # fmt: skip
    """Make one SGD step on ``min(sgd.batch, n)`` random samples of ``source``.

    Args:
        network: gives the architecture and the mode (train or eval); it is not changed.
        teacher: the teacher before the step; it stays valid.
        source: real data, on the network's device.
        rng: decides the samples, drawn with replacement, and then the augmentation.
        sgd: settings of SGD.
        augment: applied with one parameter per sample; ``None`` for none.

    Returns:
        The teacher after the step, and the loss before it.

    Raises:
        PotstillError: the source has no targets.
        ValueError: inputs of several tensors are to be augmented.
    """
    size = min(sgd.batch, len(source))
    x, y = _labelled(source, source.fetch(torch.randint(len(source), (size,), generator=rng)))
    if augment is not None:
        one = single_tensor(x, "an augmentation")
        x = augment.apply(one, augment.draw(size, tuple(one.shape[1:]), rng))
    return _stepped(network, teacher, x, y, get_task(source), sgd)


def _stepped(
    network: nn.Module, teacher: Teacher, x: Inputs, y: Tensor, task: Task, sgd: SGD, flat: GSAM | None = None
) -> tuple[Teacher, Float[Tensor, ""]]:
    step = train_step if flat is None else partial(gsam_step, gsam=flat)
    after = step(
        network, teacher.params, teacher.velocity, x, y, lr=sgd.lr, momentum=sgd.momentum,
        weight_decay=sgd.weight_decay, buffers=teacher.buffers, criterion=task.loss,
    )  # fmt: skip
    right = 0
    if isinstance(task, Classification):
        right = int((after.logits.argmax(1) == (y.argmax(1) if y.is_floating_point() else y)).sum())
    after_step = Teacher(
        params=after.params, velocity=after.velocity, buffers=after.buffers, step=teacher.step + 1,
        num_correct=teacher.num_correct + right, num_seen=teacher.num_seen + num_samples(x),
    )  # fmt: skip
    return after_step, after.loss


def train_epoch(
    network: nn.Module, teacher: Teacher, source: Source, order: Int[Tensor, " n"], rng: Generator, sgd: SGD, *,
    augment: Augmentation, cutmix: float = 0.0, flat: GSAM | None = None,
) -> Teacher:  # fmt: skip
    """Make one pass of SGD over the samples at ``order``, each augmented separately, as IDC, DANCE and NCFM train
    networks.

    Args:
        order: indices in the order in which they are met; the last batch may be smaller, none is a pass of no steps.
        cutmix: the part of the batches of pictures that CutMix mixes, in [0, 1]. Where there is any, a cutout is left
            out of IDC's augmentation.
        flat: go towards flat minima (`potstill.functional.sharpness_aware`): two gradients a step.
        network, teacher, source, rng, sgd: as for `teacher_step`.

    Raises:
        PotstillError: the source has no targets.
        ValueError: its inputs are not one tensor.
    """
    mix = CutMix(prob=cutmix) if cutmix and get_kind(source.input).augmentable else None
    if mix is not None:
        augment = beside_cutmix(augment)
    shape, task = source.input.shape, get_task(source)
    for fetched in prefetch(source, torch.split(order, sgd.batch) if len(order) else ()):
        inputs, y = _labelled(source, fetched)
        x: Inputs = inputs
        if isinstance(inputs, Tensor):  # no augmentation is for inputs with names
            x = augment.apply(inputs, augment.draw(len(inputs), shape, rng))
            if mix is not None:
                x, y = mix.apply(x, y, mix.draw(len(inputs), shape, rng), len(source.classes))
        teacher, _ = _stepped(network, teacher, x, y, task, sgd, flat)
    return teacher


def train_teacher(
    network: nn.Module, source: Source, rng: Generator, steps: int, sgd: SGD = SGD(), *,
    augment: Augmentation | None = None,
) -> Teacher:  # fmt: skip
    """Return a teacher after ``steps`` calls of `teacher_step`, from the network's parameters. Arguments as there."""
    teacher = fresh_teacher(network)
    for _ in range(steps):
        teacher, _ = teacher_step(network, teacher, source, rng, sgd, augment=augment)
    return teacher


def soft_labels(
    network: nn.Module, teacher: Teacher, x: Tensor, temperature: float = 1.0, chunk: int = 512
) -> Float[Tensor, "n k"]:
    """Return the teacher's class probabilities, ``softmax(logits / temperature)``, in evaluation mode.

    Args:
        network: the architecture; its mode is put back.
        teacher: its parameters and running statistics.
        x: inputs in model space (n, …).
        temperature: above 0; higher is softer.
        chunk: samples of one pass.

    Returns:
        Float rows that sum to 1.

    Raises:
        PotstillError: the temperature is not above 0.
    """
    if not temperature > 0:
        raise PotstillError(f"a temperature must be above 0, but it is {temperature}; 1 leaves the logits as they are")
    was_training = network.training
    network.eval()
    weights = {**teacher.params, **teacher.buffers}
    try:
        with torch.no_grad():
            rows = [functional_call(network, weights, (part,)) for part in torch.split(x, chunk)]
    finally:
        network.train(was_training)
    return (torch.cat(rows) / temperature).softmax(1)


def _labelled(source: Source, fetched: Batch) -> tuple[Inputs, Tensor]:
    """Return inputs and targets of a batch."""
    if fetched.y is None:
        raise PotstillError(f"a teacher needs labels, but {source.name} has none; choose a source with classes")
    return fetched.x, fetched.y
