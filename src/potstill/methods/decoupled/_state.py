"""State of a recovery, batches of items, and an iteration as its parts see it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Literal, TypeAlias

import torch
from torch import Generator, Tensor

from potstill.core import Payload, Problem
from potstill.functional.optim import adaptive_step, zeros
from potstill.methods.decoupled._teachers import TeacherNetwork

__all__ = [
    "Batches", "Composition", "IterationContext", "RecoverState", "TeacherSchedule", "WeightedTeacher", "adam_step",
    "all_teachers", "next_teacher", "pixel_bounds", "plan_batches",
]  # fmt: skip

Composition: TypeAlias = Literal["slots", "classes", "class"]
"""Items of a batch: one of each class (``slots``), items in class order (``classes``), or of one class (``class``)."""


@dataclass(frozen=True, kw_only=True)
class RecoverState:
    """Batches are recovered one after the other; only the current one has moments."""

    payload: Payload
    """Stored tensors of all items, finished or initial."""
    batch: int = 0
    """Number of finished batches."""
    iteration: int = 0
    """Steps of the current batch."""
    work: Payload = field(default_factory=dict)
    """Tensors of the current batch (b, …), perhaps resized; empty before its first step."""
    exp_avg: Payload = field(default_factory=dict)
    exp_avg_sq: Payload = field(default_factory=dict)
    steps: Tensor
    """Adam steps of each row (b,)."""
    memory: Mapping[str, Tensor] = field(default_factory=dict)
    """Further tensors of the current batch."""
    real: Mapping[str, Tensor] = field(default_factory=dict)
    """Statistics of the real data."""
    seed: int
    """Seed of all draws after the initial state, with the numbers of batch and iteration, so that batches are
    independent."""

    @classmethod
    def between_batches(cls, payload: Payload, real: Mapping[str, Tensor], seed: int, batch: int = 0) -> "RecoverState":
        """Return a state without a current batch."""
        return cls(payload=payload, steps=torch.zeros(0, dtype=torch.int64), real=real, seed=seed, batch=batch)

    def skip_iteration(self, iterations: int) -> "RecoverState":
        """Return the state after an iteration of a batch that another shard recovers."""
        last = self.iteration + 1 == iterations
        return replace(self, batch=self.batch + last, iteration=0 if last else self.iteration + 1)

    def with_work(self, work: Payload, memory: Mapping[str, Tensor]) -> "RecoverState":
        """Return the state with new work, zero moments and ``memory``."""
        steps = torch.zeros(len(next(iter(work.values()))), dtype=torch.int64)
        return replace(self, work=work, exp_avg=zeros(work), exp_avg_sq=zeros(work), steps=steps, memory=memory)


@dataclass(frozen=True, kw_only=True)
class IterationContext:
    """Values of one iteration."""

    problem: Problem
    members: Sequence[TeacherNetwork]
    """All teachers."""
    state: RecoverState
    items: Tensor
    """Items of the batch that move."""
    y: Tensor
    """Class of each decoded image."""
    rng: Generator


@dataclass(frozen=True)
class WeightedTeacher:
    """A teacher of an iteration and its weight in the loss."""

    number: int
    member: TeacherNetwork
    weight: float


TeacherSchedule: TypeAlias = Callable[[IterationContext], list[WeightedTeacher]]
"""Function that returns the teachers of an iteration."""


def all_teachers(context: IterationContext) -> list[WeightedTeacher]:
    """Return all teachers with equal weights."""
    return [WeightedTeacher(n, member, 1 / len(context.members)) for n, member in enumerate(context.members)]


def next_teacher(context: IterationContext) -> list[WeightedTeacher]:
    """Return one teacher after the other."""
    number = context.state.iteration % len(context.members)
    return [WeightedTeacher(number, context.members[number], 1.0)]


@dataclass(frozen=True, kw_only=True)
class Batches:
    """Division of items into batches that share statistics, crop and flip."""

    size: int
    composition: Composition

    def __call__(self, problem: Problem) -> tuple[Tensor, ...]:
        return plan_batches(tuple(problem.sizes), self.size, self.composition)


@lru_cache(maxsize=8)  # called in every iteration, and slow for 50,000 items
def plan_batches(sizes: tuple[int, ...], batch: int, composition: Composition) -> tuple[Tensor, ...]:
    """Return the items of each batch, as positions in label order; every item is in exactly one."""
    starts = [sum(sizes[:c]) for c in range(len(sizes))]
    groups: list[list[int]]
    if composition == "slots":
        groups = [[s + j for s, n in zip(starts, sizes, strict=True) if j < n] for j in range(max(sizes))]
    elif composition == "class":
        groups = [list(range(s, s + n)) for s, n in zip(starts, sizes, strict=True)]
    else:
        groups = [list(range(sum(sizes)))]
    return tuple(part for g in groups for part in torch.split(torch.tensor(g), batch))


def pixel_bounds(problem: Problem) -> tuple[Tensor, Tensor] | None:
    """Return the normalised values of pixels 0 and 1, each (1, c, 1, 1); ``None`` for whitened inputs."""
    normal = problem.train.normalization
    if normal.whitening is not None:
        return None  # a mix of pixels has no range of its own
    zero = torch.zeros(1, problem.train.input.shape[0], 1, 1, device=problem.train.device)
    return normal.apply(zero), normal.apply(zero + 1)


def adam_step(state: RecoverState, active: Tensor, grads: Payload, lr: float) -> RecoverState:
    """Return the state after an Adam step (β 0.5, 0.9) of the ``active`` rows, each with its own step count."""
    before, steps = (state.work, state.exp_avg, state.exp_avg_sq), state.steps.clone()
    parts = [{n: t.clone() for n, t in part.items()} for part in before]
    for step in sorted(set(state.steps[active].tolist())):
        rows = active & (state.steps == step)
        masks = {n: rows.to(t.device) for n, t in grads.items()}
        work, exp_avg, exp_avg_sq = ({n: t[masks[n]] for n, t in part.items()} for part in before)
        row_grads = {n: g[rows[active].to(g.device)] for n, g in grads.items()}
        after = adaptive_step("adamw", work, row_grads, exp_avg, exp_avg_sq, int(step), lr=lr, betas=(0.5, 0.9))
        for part, changed in zip(parts, after, strict=True):
            for n, t in changed.items():
                part[n][masks[n]] = t
        steps[rows] += 1
    work, exp_avg, exp_avg_sq = parts
    return replace(state, work=work, exp_avg=exp_avg, exp_avg_sq=exp_avg_sq, steps=steps, iteration=state.iteration + 1)
