"""What is under way while a batch of pictures moves: rows of what is stored, or all of it."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from potstill.core import Payload, Problem
from potstill.functional.transforms import resize
from potstill.methods.decoupled._state import RecoverState, bounds
from potstill.methods.engine import hard_labels
from potstill.parametrize.pixels import Pixels

__all__ = ["Canvas", "Rows", "Whole", "canvas_of"]


@runtime_checkable
class Canvas(Protocol):
    """How the items of a batch stand in what is stored."""

    def taken(self, payload: Payload, items: Tensor) -> Payload:
        """What moves, as rows (b, …)."""
        ...

    def rows(self, active: Tensor) -> Tensor:
        """Which rows move where the ``active`` items do."""
        ...

    def seen(
        self, problem: Problem, payload: Payload, work: Payload, items: Tensor, iteration: int
    ) -> tuple[Tensor, Tensor]:
        """The pictures (n, …) of ``items`` in model space, by those rows of the work that move, and their classes."""
        ...

    def staged(self, state: RecoverState, first: Payload, size: tuple[int, int], alpha: float) -> Payload:
        """The work at a stage of pictures of ``size``: ``alpha`` of what it is, the rest of what it began as."""
        ...

    def within(self, problem: Problem, state: RecoverState) -> Payload:
        """The work, kept to values that pixels can have."""
        ...

    def put(self, payload: Payload, work: Payload, items: Tensor) -> Payload:
        """What is stored, with the work put back."""
        ...


@dataclass(frozen=True)
class Rows:
    """Pixels: every item has a row of its own, of the size that the stage has."""

    def taken(self, payload: Payload, items: Tensor) -> Payload:
        return {n: t[items.to(t.device)] for n, t in payload.items()}

    def rows(self, active: Tensor) -> Tensor:
        return active

    def seen(
        self, problem: Problem, payload: Payload, work: Payload, items: Tensor, iteration: int
    ) -> tuple[Tensor, Tensor]:
        return problem.decode(work), hard_labels(problem)[items]

    def staged(self, state: RecoverState, first: Payload, size: tuple[int, int], alpha: float) -> Payload:
        begun = {n: resize(t, size) for n, t in first.items()}
        if not state.work:
            return begun
        return {n: alpha * resize(t, size) + (1 - alpha) * begun[n] for n, t in state.work.items()}

    def within(self, problem: Problem, state: RecoverState) -> Payload:
        limits, work = bounds(problem), state.work
        return work if limits is None else {n: t.clamp(*limits) for n, t in work.items()}

    def put(self, payload: Payload, work: Payload, items: Tensor) -> Payload:
        made = {n: t.clone() for n, t in payload.items()}
        for n, t in made.items():
            t[items.to(t.device)] = resize(work[n], (t.shape[-2], t.shape[-1]))
        return made


@dataclass(frozen=True)
class Whole:
    """Any other parametrization: all that is stored is one row, and a batch moves that of it which it depends on.

    Adam leaves in place what has had no gradient since the batch began. What all items share (a decoder) goes on moving
    with each batch. A stage of smaller pictures is seen at its size; what it stores keeps its own.
    """

    def taken(self, payload: Payload, items: Tensor) -> Payload:
        return {n: t[None] for n, t in payload.items() if t.is_floating_point()}

    def rows(self, active: Tensor) -> Tensor:
        return torch.ones(1, dtype=torch.bool)

    def seen(
        self, problem: Problem, payload: Payload, work: Payload, items: Tensor, iteration: int
    ) -> tuple[Tensor, Tensor]:
        x = problem.decode(self.put(payload, work, items))
        return x[items.to(x.device)], hard_labels(problem)[items]

    def staged(self, state: RecoverState, first: Payload, size: tuple[int, int], alpha: float) -> Payload:
        if not state.work:
            return first
        return {
            n: torch.where(state.second[n] > 0, alpha * t + (1 - alpha) * first[n], t) for n, t in state.work.items()
        }

    def within(self, problem: Problem, state: RecoverState) -> Payload:
        limits, work, c = bounds(problem), state.work, problem.train.input.shape[0]
        if limits is None or not problem.parametrization.bounded:
            return work
        pictures = {n: t for n, t in work.items() if t.ndim > 3 and t.shape[-3] == c}  # the rest are a store's levels
        return {**work, **{n: torch.where(state.second[n] > 0, t.clamp(*limits), t) for n, t in pictures.items()}}

    def put(self, payload: Payload, work: Payload, items: Tensor) -> Payload:
        return {**payload, **{n: t[0] for n, t in work.items()}}


def canvas_of(problem: Problem) -> Canvas:
    """That of the problem's parametrization."""
    return Rows() if isinstance(problem.parametrization, Pixels) else Whole()
