"""Choose the epoch at which a teacher stops: short students of every stop's labels, scored on held-out samples.

One step is one update of one student. Students of equal number start from the same parameters and see the same batches
at every stop, so that the scores compare stops and not students.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from potstill.core import NetworkWeights, Problem
from potstill.data.real_data import RealData
from potstill.functional.train import train_step
from potstill.labels.teacher import SGD, Teacher, fresh_teacher, soft_labels
from potstill.methods.engine import require_tensor
from potstill.rng import derive_seed, generator

__all__ = ["StopChoice", "StudentSettings", "best_stop", "start_choice", "stop_epochs", "train_student"]

MAX_VALIDATION = 2000
"""Maximum number of samples to score on."""


@dataclass(frozen=True, kw_only=True)
class StopChoice:
    """State of a choice of a stop."""

    rows: Float[Tensor, "s m k"]
    """Soft labels of the set by every stop's teacher."""
    validation: Int[Tensor, " h"]
    """Held-out samples to score on, in neither the teacher's data nor the set."""
    student: Teacher
    """Student in training."""
    scores: Float[Tensor, " s r"]
    """Accuracy of every student at every stop; −1 before it is scored."""
    step: int = 0


@dataclass(frozen=True, kw_only=True)
class StudentSettings:
    """Training of the students."""

    steps: int
    sgd: SGD
    temperature: float


def stop_epochs(steps: Sequence[int], samples: int, batch: int) -> tuple[int, ...]:
    """Return the distinct whole epochs nearest to ``steps``, at least 1, ascending."""
    per_epoch = math.ceil(samples / batch)
    return tuple(sorted({max(1, round(count / per_epoch)) for count in steps}))


def start_choice(
    problem: Problem, index: Tensor, held_out: Tensor, stops: Sequence[NetworkWeights], students: int, seed: int,
    settings: StudentSettings,
) -> StopChoice:  # fmt: skip
    """Return the initial state of a choice.

    Args:
        index: samples of the set.
        held_out: samples that no teacher was trained on; at most `MAX_VALIDATION` of them are drawn.
        stops: one teacher at several epochs.
        students: students per stop.
    """
    x = require_tensor(RealData.of(problem).batch(index).x)
    rows = [
        soft_labels(
            problem.network(stop.seed), Teacher(params=stop.parameters, velocity={}, buffers=stop.buffers), x,
            settings.temperature,
        )
        for stop in stops
    ]  # fmt: skip
    order = torch.randperm(len(held_out), generator=generator(seed, "held"))[:MAX_VALIDATION]
    return StopChoice(
        rows=torch.stack(rows), validation=held_out[order].sort().values, student=_fresh_student(problem, seed, 0),
        scores=torch.full((len(stops), students), -1.0),
    )  # fmt: skip


def train_student(
    problem: Problem, choice: StopChoice, index: Tensor, seed: int, settings: StudentSettings
) -> tuple[StopChoice, float]:
    """Return the state after one more student update, and the loss before it; the last update scores the student."""
    number, at = divmod(choice.step, settings.steps)
    stop, student = divmod(number, choice.scores.shape[1])
    before = _fresh_student(problem, seed, student) if at == 0 else choice.student
    size = min(settings.sgd.batch, len(index))
    batch = torch.randperm(len(index), generator=generator(seed, "batch", student, at))[:size]
    network = problem.network(derive_seed(seed, "student", student)).train()
    stepped = train_step(
        network, before.params, before.velocity, require_tensor(RealData.of(problem).batch(index[batch]).x),
        choice.rows[stop][batch.to(choice.rows.device)], lr=settings.sgd.lr,
        momentum=settings.sgd.momentum, weight_decay=settings.sgd.weight_decay, buffers=before.buffers,
    )  # fmt: skip
    after = Teacher(params=stepped.params, velocity=stepped.velocity, buffers=stepped.buffers, step=before.step + 1)
    scores = choice.scores
    if at + 1 == settings.steps:
        scores = scores.clone()
        scores[stop, student] = _accuracy(problem, after, choice.validation, seed, student)
    return replace(choice, student=after, scores=scores, step=choice.step + 1), float(stepped.loss)


def best_stop(choice: StopChoice) -> int:
    """Return the stop with the best mean score among those whose students are all scored; the earliest on a tie."""
    means = choice.scores.mean(1).masked_fill((choice.scores < 0).any(1), -1.0)
    return int(means.argmax())


def _fresh_student(problem: Problem, seed: int, student: int) -> Teacher:
    return fresh_teacher(problem.network(derive_seed(seed, "student", student)))


def _accuracy(problem: Problem, weights: Teacher, validation: Tensor, seed: int, student: int) -> float:
    network = problem.network(derive_seed(seed, "student", student))
    correct = 0
    for part in torch.split(validation, 500):
        predicted = soft_labels(network, weights, require_tensor(RealData.of(problem).batch(part).x)).argmax(1).cpu()
        correct += int((predicted == problem.train.labels[part]).sum())
    return correct / len(validation)
