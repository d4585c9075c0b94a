"""Estimate how long an evaluation takes, from a few timed updates of a student."""

import math
import statistics
import time
from collections.abc import Sequence

import torch
from torch import Tensor

from potstill.core import Augmentation, NetworkFactory, Source
from potstill.evaluation.adversarial_training import parse_adversary
from potstill.evaluation.augmentation import student_augmentation
from potstill.evaluation.byte_matched_baselines import HELD_OUT_FRACTION, MAX_HELD_OUT
from potstill.evaluation.candidate_trials import BATCH, narrow_network
from potstill.evaluation.estimators import LearnerFactory
from potstill.evaluation.full_data_reference import RECIPE
from potstill.evaluation.protocol import Protocol
from potstill.evaluation.training_sets import TEACHER_STEPS
from potstill.execution import Executor, parallelism
from potstill.functional.train import copy_parameters, train_step
from potstill.rng import generator
from potstill.tasks import get_targets, get_task

__all__ = ["estimate_learner_seconds", "estimate_seconds", "measure_step_seconds"]

ANSWER_SHARE = 1 / 3
"""Time of an answer as a share of a training sample's: one pass of three."""
ENOUGH, MOST = 1.0, 20
"""Seconds, and maximum number, of updates run to time one; two at least."""
SOFT_BATCH = 256
"""Batch size of random-soft's teacher (`teacher_step`)."""


def estimate_seconds(
    protocol: Protocol, make: NetworkFactory, train: Source, executor: Executor, *, students: int,
    items: Sequence[int], again: Sequence[int], trial_updates: int, full: bool, soft: bool, test_samples: int = 0,
    trials: int = 0,
) -> float:  # fmt: skip
    """Return the estimated wall-clock seconds on this machine, for the first network alone.

    Args:
        protocol: resolved for the data and the network.
        executor: runs the students.
        students: number of students per set.
        items: sizes of the sets for which the protocol selects rate and length.
        again: sizes of the sets that are trained once more with the selected values.
        trial_updates: updates of all small students that select the baselines' codec.
        full: the network is trained on the full data too.
        soft: random-soft's teacher is trained too, and once more for its trials.
        test_samples: number that every student answers.
        trials: number of the small students, each of which answers a held-out part.
    """
    workers, threads = parallelism(executor)
    updates: dict[int, int] = {}
    answers = 0  # samples that students answer
    held_out = min(protocol.selection.validation * len(train), protocol.selection.validation_most)
    augment = student_augmentation(protocol.recipe.augment, train)
    for size, chooses in [(n, True) for n in items] + [(n, False) for n in again]:
        p = protocol.for_set_size(size, max(1, len(train.classes)))
        passes = math.ceil(size / p.recipe.batch)
        lengths = sorted({max(s, p.recipe.least_epochs * passes) for s in p.recipe.steps}) or [
            (p.recipe.epochs or 0) * passes
        ]
        chosen = p.selection.validation_students * (
            len(p.recipe.lr) * (len(p.recipe.lr) > 1) * lengths[-1] + sum(lengths[:-1])
        )
        settings = len(p.recipe.lr) * (len(p.recipe.lr) > 1) + len(lengths) - 1
        answers += students * test_samples + chooses * p.selection.validation_students * settings * round(held_out)
        batch = min(p.recipe.batch, size)
        updates[batch] = updates.get(batch, 0) + chosen * chooses + students * lengths[-1]
    each = {batch: measure_step_seconds(make, train, batch, threads, augment) for batch in (min(updates), max(updates))}

    def seconds(batch: int) -> float:
        (few, short), (many, long) = min(each.items()), max(each.items())
        return short + (long - short) * (batch - few) / max(1, many - few)

    trained = sum(n * seconds(batch) for batch, n in updates.items())
    if (adversary := parse_adversary(protocol.recipe.adversary)) is not None:
        trained *= 1 + adversary.steps  # each step of the attack is a pass forwards and backwards
    most = max(updates)
    total = (trained + answers * ANSWER_SHARE * each[most] / most) / workers
    if trial_updates:
        small, batch = narrow_network(make, train), min(BATCH, len(train))
        step = measure_step_seconds(small, train, batch, threads, augment)
        trial_answers = trials * min(HELD_OUT_FRACTION * len(train), MAX_HELD_OUT)
        total += step * (trial_updates + trial_answers * ANSWER_SHARE / batch) / workers
    teaching = protocol.teaching
    if full or soft or teaching.labels == "teacher":
        on_real = measure_step_seconds(make, train, int(RECIPE["batch"]), threads) / int(RECIPE["batch"])  # a sample
        total += on_real * (
            full * int(RECIPE["steps"]) * int(RECIPE["batch"])
            + (1 + (trial_updates > 0)) * soft * TEACHER_STEPS * SOFT_BATCH
        )
        if teaching.labels == "teacher":  # trained once, then labels every batch
            teachers = teaching.teachers + len(teaching.committee)
            total += teachers * (teaching.teacher_epochs * len(train) * on_real + trained / workers / 3)
    return total


def estimate_learner_seconds(make: LearnerFactory, train: Source, test: Source, size: int, fits: int) -> float:
    """Return the estimated seconds of ``fits`` fits of a learner on ``size`` samples, from one timed fit."""
    x = train.fetch(some := torch.arange(min(size, len(train)))).x
    begun = time.perf_counter()
    make.fit_predict(test, x, get_targets(train)[some], None, 0, getattr(train, "texts", ())[: len(some)])
    return fits * (time.perf_counter() - begun)


def measure_step_seconds(
    make: NetworkFactory, train: Source, batch: int, threads: int | None = None, augment: Augmentation | None = None
) -> float:
    """Return the seconds of one update on ``batch`` samples: the median of several timings.

    On a machine with other work the minimum would promise too much.
    """
    net, size, before = make(0).train(), min(batch, len(train)), torch.get_num_threads()
    fetched = train.fetch(torch.arange(size))
    x, theta, buffers = fetched.x, copy_parameters(net), {n: b.detach().clone() for n, b in net.named_buffers()}
    if fetched.y is None:
        return 0.0
    task = get_task(train)
    if threads is not None:
        torch.set_num_threads(threads)  # as a worker process will have
    seconds: list[float] = []
    rng = generator(0, "forecast")
    try:
        while len(seconds) < 2 or (len(seconds) < MOST and sum(seconds) < ENOUGH):
            begun = time.perf_counter()
            views = x
            if augment is not None and isinstance(x, Tensor):
                views = augment.apply(x, augment.draw(len(x), tuple(x.shape[1:]), rng))
            train_step(net, theta, None, views, fetched.y, lr=0.0, buffers=buffers, criterion=task.loss)
            if make.device.type == "cuda":
                torch.cuda.synchronize(make.device)
            seconds.append(time.perf_counter() - begun)
    finally:
        torch.set_num_threads(before)
    return statistics.median(seconds)
