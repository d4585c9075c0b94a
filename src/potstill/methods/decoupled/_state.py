"""What evolves while pictures are recovered, and which items share a batch."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from potstill.core import Payload, Problem
from potstill.functional.optim import adamw, zeros

__all__ = ["Batches", "Composition", "RecoverState", "bounds", "moved", "plan"]

Composition: TypeAlias = Literal["slots", "classes", "class"]
"""Who shares a batch: one item of each class (``slots``), items in class order (``classes``), or those of one class."""


@dataclass(frozen=True, kw_only=True)
class RecoverState:
    """Batches are made one after the other; only the one under way has moments."""

    payload: Payload
    """What is stored of all items: finished, or as they begin."""
    batch: int = 0
    """Batches that are finished."""
    iteration: int = 0
    """Steps of the batch under way."""
    work: Payload = field(default_factory=dict)
    """What of it is under way (b, …), perhaps of another size; nothing before the batch's first step."""
    first: Payload = field(default_factory=dict)
    second: Payload = field(default_factory=dict)
    count: Tensor
    """Steps that each row of it has moved (b,)."""
    memory: Mapping[str, Tensor] = field(default_factory=dict)
    """What else belongs to the batch under way."""
    real: Mapping[str, Tensor] = field(default_factory=dict)
    """Statistics of the real data."""
    seed: int
    """Of all draws after the first state: those of an iteration follow from it and from the numbers of the batch and of
    the iteration, so that a batch needs none of the others."""

    @classmethod
    def of(cls, payload: Payload, real: Mapping[str, Tensor], seed: int, batch: int = 0) -> "RecoverState":
        """Between two batches."""
        return cls(payload=payload, count=torch.zeros(0, dtype=torch.int64), real=real, seed=seed, batch=batch)

    def waited(self, iterations: int) -> "RecoverState":
        """After an iteration of a batch that another shard makes."""
        last = self.iteration + 1 == iterations
        return replace(self, batch=self.batch + last, iteration=0 if last else self.iteration + 1)

    def begun(self, work: Payload, memory: Mapping[str, Tensor]) -> "RecoverState":
        """With this under way, which has not moved."""
        count = torch.zeros(len(next(iter(work.values()))), dtype=torch.int64)
        return replace(self, work=work, first=zeros(work), second=zeros(work), count=count, memory=memory)


@dataclass(frozen=True, kw_only=True)
class Batches:
    """Which items share statistics, crop and flip."""

    size: int
    composition: Composition

    def __call__(self, problem: Problem) -> tuple[Tensor, ...]:
        return plan(tuple(problem.sizes), self.size, self.composition)


@lru_cache(maxsize=8)  # asked for in every iteration, and of 50,000 items as slow as one
def plan(sizes: tuple[int, ...], batch: int, how: Composition) -> tuple[Tensor, ...]:
    """The items of each batch, by their positions in label order; every item is in exactly one."""
    starts = [sum(sizes[:c]) for c in range(len(sizes))]
    groups: list[list[int]]
    if how == "slots":
        groups = [[s + j for s, n in zip(starts, sizes, strict=True) if j < n] for j in range(max(sizes))]
    elif how == "class":
        groups = [list(range(s, s + n)) for s, n in zip(starts, sizes, strict=True)]
    else:
        groups = [list(range(sum(sizes)))]
    return tuple(part for g in groups for part in torch.split(torch.tensor(g), batch))


def bounds(problem: Problem) -> tuple[Tensor, Tensor] | None:
    """The least and greatest normalised values of pixels in [0, 1], each (1, c, 1, 1); none of whitened inputs."""
    normal = problem.train.normalization
    if normal.whitening is not None:
        return None  # a mix of pixels has no range of its own
    zero = torch.zeros(1, problem.train.input.shape[0], 1, 1, device=problem.train.device)
    return normal.apply(zero), normal.apply(zero + 1)


def moved(state: RecoverState, active: Tensor, grads: Payload, lr: float) -> RecoverState:
    """After one step of Adam (β 0.5, 0.9) of the ``active`` rows; each corrects its moments by its own count."""
    before, count = (state.work, state.first, state.second), state.count.clone()
    parts = [{n: t.clone() for n, t in part.items()} for part in before]
    for made in sorted(set(state.count[active].tolist())):
        own = active & (state.count == made)
        here = {n: own.to(t.device) for n, t in grads.items()}
        work, first, second = ({n: t[here[n]] for n, t in part.items()} for part in before)
        slopes = {n: g[own[active].to(g.device)] for n, g in grads.items()}
        after = adamw(work, slopes, first, second, int(made), lr=lr, betas=(0.5, 0.9))
        for part, changed in zip(parts, after, strict=True):
            for n, t in changed.items():
                part[n][here[n]] = t
        count[own] += 1
    work, first, second = parts
    return replace(state, work=work, first=first, second=second, count=count, iteration=state.iteration + 1)
