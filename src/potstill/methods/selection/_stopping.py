"""When to stop a teacher, chosen for a set: short students of every stop's labels, scored on samples that nobody saw.

One step is one update of one student. Students of equal number start from the same parameters and see the same batches
at every stop, so that stops are compared and not students.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from potstill.core import NetworkWeights, Problem
from potstill.functional.train import train_step
from potstill.labels.teacher import Teacher, fresh_teacher, soft_labels
from potstill.methods.engine import require_tensor
from potstill.rng import derive_seed, generator

__all__ = ["Choice", "Trial", "begin", "best", "epochs_of", "tried"]

MOST = 2000
"""Samples to score on, at most: more take time and decide nothing."""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Where a choice stands."""

    rows: Float[Tensor, "s m k"]
    """Labels of the set by every stop's teacher."""
    held: Int[Tensor, " h"]
    """Samples that neither teacher nor set has, to score on."""
    student: Teacher
    """The one that is being trained."""
    scores: Float[Tensor, " s r"]
    """Accuracies of students, of each stop; −1 before there is one."""
    step: int = 0


@dataclass(frozen=True, kw_only=True)
class Trial:
    """How students are trained."""

    steps: int
    batch: int
    lr: float
    momentum: float
    weight_decay: float
    temperature: float


def epochs_of(steps: Sequence[int], samples: int, batch: int) -> tuple[int, ...]:
    """Whole epochs nearest to so many steps, at least one, ascending, each once."""
    per_epoch = math.ceil(samples / batch)
    return tuple(sorted({max(1, round(count / per_epoch)) for count in steps}))


def begin(
    problem: Problem,
    index: Tensor,
    held: Tensor,
    stops: Sequence[NetworkWeights],
    students: int,
    seed: int,
    trial: Trial,
) -> Choice:
    """A choice of which nothing is known yet.

    Args:
        index: the set.
        held: samples that no teacher saw; of many, some are drawn.
        stops: one teacher at several epochs.
        students: of each stop.
    """
    x = require_tensor(problem.train.fetch(index).x)
    rows = [
        soft_labels(
            problem.network(stop.seed), Teacher(params=stop.parameters, velocity={}, buffers=stop.buffers), x,
            trial.temperature,
        )
        for stop in stops
    ]  # fmt: skip
    order = torch.randperm(len(held), generator=generator(seed, "held"))[:MOST]
    return Choice(
        rows=torch.stack(rows), held=held[order].sort().values, student=_fresh(problem, seed, 0),
        scores=torch.full((len(stops), students), -1.0),
    )  # fmt: skip


def tried(problem: Problem, choice: Choice, index: Tensor, seed: int, trial: Trial) -> tuple[Choice, float]:
    """The choice after one more update of a student, and the loss before it; after the last update it is scored."""
    number, at = divmod(choice.step, trial.steps)
    stop, student = divmod(number, choice.scores.shape[1])
    made = _fresh(problem, seed, student) if at == 0 else choice.student
    size = min(trial.batch, len(index))
    batch = torch.randperm(len(index), generator=generator(seed, "batch", student, at))[:size]
    network = problem.network(derive_seed(seed, "student", student)).train()
    after = train_step(
        network, made.params, made.velocity, require_tensor(problem.train.fetch(index[batch]).x),
        choice.rows[stop][batch.to(choice.rows.device)], lr=trial.lr, momentum=trial.momentum,
        weight_decay=trial.weight_decay, buffers=made.buffers,
    )  # fmt: skip
    made = Teacher(params=after.params, velocity=after.velocity, buffers=after.buffers, step=made.step + 1)
    scores = choice.scores
    if at + 1 == trial.steps:
        scores = scores.clone()
        scores[stop, student] = _accuracy(problem, made, choice.held, seed, student)
    return replace(choice, student=made, scores=scores, step=choice.step + 1), float(after.loss)


def best(choice: Choice) -> int:
    """The stop whose students are best on the mean, of those that are all scored; of equals the earliest."""
    means = choice.scores.mean(1).masked_fill((choice.scores < 0).any(1), -1.0)
    return int(means.argmax())


def _fresh(problem: Problem, seed: int, student: int) -> Teacher:
    return fresh_teacher(problem.network(derive_seed(seed, "student", student)))


def _accuracy(problem: Problem, made: Teacher, held: Tensor, seed: int, student: int) -> float:
    network = problem.network(derive_seed(seed, "student", student))
    right = 0
    for part in torch.split(held, 500):
        guessed = soft_labels(network, made, require_tensor(problem.train.fetch(part).x)).argmax(1).cpu()
        right += int((guessed == problem.train.labels[part]).sum())
    return right / len(held)
