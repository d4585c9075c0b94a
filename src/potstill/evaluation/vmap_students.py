"""Students side by side: alike jobs trained as one network with one more axis, for a device that one leaves idle.

A small network's step is a row of short kernels, and a GPU waits for each of them to be started. Here S students take
the same row of kernels together: their parameters are stacked, every convolution becomes one with S groups, and every
linear layer one batched product (`torch.func.vmap`). Each student keeps its own seed, order, augmentation and, where
sets differ, its own set, so it learns what it would learn alone, up to the rounding of its products.
"""

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import torch
from torch import Tensor
from torch.func import functional_call, stack_module_state, vmap

from potstill.augment.geometry import can_mix_targets, move_targets
from potstill.augment.siamese import SiameseParams, concat_params
from potstill.core import Augmentation, Batch, Network, Source
from potstill.core.nested import single_tensor
from potstill.data.iterate import map_samples
from potstill.evaluation.distilled_training import make_mix
from potstill.evaluation.estimators import LearnerFactory
from potstill.evaluation.protocol import Precision
from potstill.evaluation.student import (
    TEST_CHUNK,
    StudentJob,
    WeightAverage,
    assign_gradients,
    autocast_context,
    iterate_epochs,
    make_criterion,
    make_optimizer,
    train_and_predict,
    uses_scores,
    weight_labels,
)
from potstill.execution import Executor
from potstill.nn import is_stackable
from potstill.rng import derive_seed, generator
from potstill.tasks import MovableTargets, get_targets, get_task

__all__ = [
    "StackedStudents", "default_group_size", "fit_stacked", "group_jobs", "predict_all", "train_and_predict_stacked",
]  # fmt: skip

_MOST = 32
"""Default number of students trained side by side on a GPU: all of a usual protocol's."""


class StackedStudents:
    """S networks of one architecture as one function of S inputs.

    Raises:
        RuntimeError: they are not alike.
    """

    def __init__(self, networks: Sequence[Network], precision: Precision = "float32") -> None:
        self.parameters, self.buffers = stack_module_state(list(networks))
        self.precision = precision
        self.shell = copy.deepcopy(networks[0]).to("meta")

    @property
    def state(self) -> dict[str, Tensor]:
        """All parameters and buffers with S as first axis, as views."""
        return {n: t.detach() for n, t in {**self.parameters, **self.buffers}.items()}

    def __call__(self, x: Tensor, *, training: bool) -> Tensor:
        """Return outputs (S, n, …) of inputs (S, n, …), or of shared inputs (1, n, …)."""
        self.shell.train(training)

        def one(parameters: dict[str, Tensor], buffers: dict[str, Tensor], x: Tensor) -> Tensor:
            output: Tensor = functional_call(self.shell, (parameters, buffers), (x,))
            return output

        shared = len(x) == 1
        with autocast_context(self.precision, x.device):
            every = vmap(one, in_dims=(0, 0, None if shared else 0))
            logits: Tensor = every(self.parameters, self.buffers, x[0] if shared else x)
        return logits.to(x.dtype)


def default_group_size(device: torch.device | str) -> int:
    """Return the default number of students trained side by side: 32 on a GPU, 1 on a CPU.

    On a CPU one student's products fill the cores, and our own kernels are for single networks.
    """
    return _MOST if torch.device(device).type == "cuda" else 1


def predict_all(source: Source, jobs: Sequence[StudentJob], executor: Executor, most: int) -> Iterator[Tensor | None]:
    """Yield every job's predictions for ``source`` in order, as soon as its group is done; ``None`` if it diverged."""
    for found in executor.map(partial(train_and_predict_stacked, source), list(group_jobs(jobs, most))):
        yield from found


def group_jobs(jobs: Sequence[StudentJob], most: int) -> Iterator[list[StudentJob]]:
    """Yield groups of neighbouring jobs that can be trained side by side, at most ``most`` at a time.

    They have the same network, protocol, rate, length, augmentation and size, and use the set's own labels.
    """
    group: list[StudentJob] = []
    for job in jobs:
        if group and (len(group) >= most or not _alike(group[-1], job)):
            yield group
            group = []
        group.append(job)
    if group:
        yield group


def _group_key(job: StudentJob) -> tuple[object, ...]:
    x = _one(job)
    return (
        job.make, job.protocol, job.lr, job.steps, job.augment, x.shape, x.device, job.y.shape, job.y.dtype,
        job.weights is None, job.task,
    )  # fmt: skip


def _alike(one: StudentJob, other: StudentJob) -> bool:
    if isinstance(one.make, LearnerFactory):
        return False
    own = all(job.teachers is None and job.stored_labels is None and isinstance(job.x, Tensor) for job in (one, other))
    own = own and one.protocol.recipe.adversary == "none"
    own = own and not (uses_scores(one) and one.weights is not None)  # a squared error is not linear in its targets
    return own and _group_key(one) == _group_key(other) and is_stackable(one.make)


def _one(job: StudentJob) -> Tensor:
    return single_tensor(job.x, "a student beside others")


def _set_key(job: StudentJob) -> tuple[int, ...]:
    return id(job.x), id(job.y), id(job.weights)


class _Samples:
    """The sets of several jobs in one tensor; shared sets are in it once. Weights are in the labels."""

    def __init__(self, jobs: Sequence[StudentJob], classes: int) -> None:
        sets = {_set_key(job): job for job in jobs}
        self.x = torch.cat([_one(job) for job in sets.values()])
        self.y = torch.cat([
            job.y if job.weights is None else weight_labels(job.y, job.weights, classes, _one(job).dtype)
            for job in sets.values()
        ])  # fmt: skip
        place = {key: n for n, key in enumerate(sets)}
        self.first = torch.tensor([[place[_set_key(job)] * len(_one(job))] for job in jobs])

    def take(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Return inputs (S, m, …) and labels at ``index`` (S, m), counted in each job's own set."""
        flat = (index + self.first).to(self.x.device)
        return self.x[flat], self.y[flat]


def fit_stacked(jobs: Sequence[StudentJob], look: Callable[[StackedStudents], None] | None = None) -> StackedStudents:
    """Train the networks of ``jobs``, one group of `group_jobs`: `potstill.evaluation.student.fit`, S times.

    Args:
        look: called where the protocol tests; it must leave the weights as they are.
    """
    job, p = jobs[0], jobs[0].protocol
    stack = StackedStudents([one.make(derive_seed(one.seed, "network")) for one in jobs], p.recipe.precision)
    parameters = list(stack.parameters.values())
    orders = [generator(one.seed, "samples") for one in jobs]
    first = _one(job)
    n, shape = len(first), tuple(first.shape[1:])
    criterion = make_criterion(job)
    mix, classes = make_mix(p) if can_mix_targets(job.task) else None, 0
    if mix is not None or job.weights is not None:
        with torch.no_grad():
            classes = stack(first[:1].unsqueeze(0), training=False).shape[2]
    samples = _Samples(jobs, classes)
    average = WeightAverage(stack.state, p.recipe.ema)
    moves = make_optimizer(p, parameters, job.lr, axes=1)
    for epoch in iterate_epochs(job):
        if epoch.new_optimizer:
            moves = make_optimizer(p, parameters, job.lr, axes=1)
        order = torch.stack([torch.randperm(n, generator=rng) for rng in orders])
        for rate, batch in zip(epoch.lrs, torch.split(order, p.recipe.batch, 1), strict=False):
            for group in moves.param_groups:
                group["lr"] = rate
            x, y = samples.take(batch)
            # each student has a generator of its own, and draws in the order in which it would alone
            drawn = [job.augment.draw(batch.shape[1], shape, rng) for rng in orders]
            x = _augmented(job.augment, x, drawn)
            if isinstance(job.task, MovableTargets):
                moved = [move_targets(job.task, job.augment, a, d, shape) for a, d in zip(y, drawn, strict=True)]
                y = torch.stack(moved)
            if mix is not None:
                mixes = [mix.draw(batch.shape[1], shape, rng) for rng in orders]
                pairs = [mix.apply(a, b, m, classes) for a, b, m in zip(x, y, mixes, strict=True)]
                x, y = (torch.stack(part) for part in zip(*pairs, strict=True))
            losses = vmap(criterion)(stack(x, training=True), y)
            gradients = torch.autograd.grad(losses.sum(), parameters)
            assign_gradients(parameters, gradients)
            moves.step()
            average.update(stack.state)
        if look is not None and epoch.evaluate_after:
            average.swap(stack.state)
            look(stack)
            average.swap(stack.state)
    average.swap(stack.state)
    return stack


def _augmented(augment: Augmentation, x: Tensor, parameters: Sequence[object]) -> Tensor:
    """Augment every student's batch with its own parameters, at once for equal groups of operations."""
    known = [d for d in parameters if isinstance(d, SiameseParams)]
    if len(known) < len(parameters):
        return torch.stack([augment.apply(batch, d) for batch, d in zip(x, parameters, strict=True)])
    by_operations: dict[tuple[str, ...], list[int]] = {}
    for student, d in enumerate(known):
        by_operations.setdefault(d.groups, []).append(student)
    if set(by_operations) == {()}:
        return x
    made = torch.empty_like(x)
    for students in by_operations.values():
        at = torch.tensor(students, device=x.device)
        several = augment.apply(x[at].flatten(0, 1), concat_params([known[s] for s in students]))
        made[at] = several.view(len(students), *x.shape[1:])
    return made


def _predict(stack: StackedStudents, source: Source) -> Tensor:
    """Return the task's answer for every sample by every student, (S, n, …), on the CPU."""
    task = get_task(source)

    def answered(batch: Batch) -> Tensor:
        outputs = stack(single_tensor(batch.x, "a student beside others").unsqueeze(0), training=False)
        return torch.stack([task.predict(output) for output in outputs], 1).cpu()

    with torch.no_grad():
        return map_samples(source, torch.arange(len(source)), TEST_CHUNK, answered).transpose(0, 1)


def train_and_predict_stacked(source: Source, jobs: Sequence[StudentJob]) -> list[Tensor | None]:
    """Return `potstill.evaluation.student.train_and_predict` of each of ``jobs``, one group of `group_jobs`.

    If memory runs out, the halves are trained one after the other.
    """
    if len(jobs) == 1:
        return [train_and_predict(source, jobs[0])]
    try:
        return _together(source, jobs)
    except torch.OutOfMemoryError:
        half = len(jobs) // 2
    torch.cuda.empty_cache()  # not inside the clause: there the error still holds what was tried
    return [*train_and_predict_stacked(source, jobs[:half]), *train_and_predict_stacked(source, jobs[half:])]


def _together(source: Source, jobs: Sequence[StudentJob]) -> list[Tensor | None]:
    task, targets = get_task(source), get_targets(source)
    best: list[float] = [math.nan] * len(jobs)
    best_answers: list[Tensor | None] = [None] * len(jobs)

    def look(stack: StackedStudents) -> None:
        finite = torch.stack([torch.isfinite(p).flatten(1).all(1) for p in stack.parameters.values()]).all(0)
        for student, predicted in enumerate(_predict(stack, source)):
            if not finite[student]:
                continue
            score = task.score(predicted, targets)
            if best_answers[student] is None or task.metric.better(score, best[student]):  # the first of equals
                best[student], best_answers[student] = score, predicted

    best_on_test = jobs[0].protocol.selection.select == "best-on-test"
    stack = fit_stacked(jobs, look if best_on_test else None)
    if not best_on_test:
        look(stack)
    return best_answers
