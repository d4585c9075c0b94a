"""Workspace of a batch in recovery: the part of the stored payload that moves, as rows or as a whole."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from potstill.core import Payload, Problem
from potstill.functional.transforms import resize
from potstill.methods.decoupled._state import RecoverState, pixel_bounds
from potstill.methods.engine import hard_labels
from potstill.parametrize.pixels import Pixels

__all__ = ["ItemRows", "WholePayload", "Workspace", "make_workspace"]


@runtime_checkable
class Workspace(Protocol):
    """Maps the items of a batch to the tensors that move."""

    def extract(self, payload: Payload, items: Tensor) -> Payload:
        """Return the tensors that move, as rows (b, …)."""
        ...

    def active_rows(self, active: Tensor) -> Tensor:
        """Return the rows that move for the ``active`` items."""
        ...

    def decode(
        self, problem: Problem, payload: Payload, work: Payload, items: Tensor, iteration: int
    ) -> tuple[Tensor, Tensor]:
        """Return the images (n, …) of ``items`` in model space from the rows that move, and their classes."""
        ...

    def resize_stage(self, state: RecoverState, initial: Payload, size: tuple[int, int], alpha: float) -> Payload:
        """Return the work for images of ``size``: ``alpha`` times itself plus ``1 − alpha`` times ``initial``."""
        ...

    def clamp(self, problem: Problem, state: RecoverState) -> Payload:
        """Return the work clamped to valid pixel values."""
        ...

    def write_back(self, payload: Payload, work: Payload, items: Tensor) -> Payload:
        """Return the payload with the work written back."""
        ...


@dataclass(frozen=True)
class ItemRows:
    """Workspace of pixels: every item is a row of its own, resized to the stage."""

    def extract(self, payload: Payload, items: Tensor) -> Payload:
        return {n: t[items.to(t.device)] for n, t in payload.items()}

    def active_rows(self, active: Tensor) -> Tensor:
        return active

    def decode(
        self, problem: Problem, payload: Payload, work: Payload, items: Tensor, iteration: int
    ) -> tuple[Tensor, Tensor]:
        return problem.decode(work), hard_labels(problem)[items]

    def resize_stage(self, state: RecoverState, initial: Payload, size: tuple[int, int], alpha: float) -> Payload:
        initial = {n: resize(t, size) for n, t in initial.items()}
        if not state.work:
            return initial
        return {n: alpha * resize(t, size) + (1 - alpha) * initial[n] for n, t in state.work.items()}

    def clamp(self, problem: Problem, state: RecoverState) -> Payload:
        limits, work = pixel_bounds(problem), state.work
        return work if limits is None else {n: t.clamp(*limits) for n, t in work.items()}

    def write_back(self, payload: Payload, work: Payload, items: Tensor) -> Payload:
        after = {n: t.clone() for n, t in payload.items()}
        for n, t in after.items():
            t[items.to(t.device)] = resize(work[n], (t.shape[-2], t.shape[-1]))
        return after


@dataclass(frozen=True)
class WholePayload:
    """Workspace of any other parametrization: the whole payload is one row.

    Adam leaves values that have had no gradient since the batch began. Tensors shared by all items (a decoder) move
    with each batch. A stage of smaller images is decoded at its size; stored tensors keep theirs.
    """

    def extract(self, payload: Payload, items: Tensor) -> Payload:
        return {n: t[None] for n, t in payload.items() if t.is_floating_point()}

    def active_rows(self, active: Tensor) -> Tensor:
        return torch.ones(1, dtype=torch.bool)

    def decode(
        self, problem: Problem, payload: Payload, work: Payload, items: Tensor, iteration: int
    ) -> tuple[Tensor, Tensor]:
        x = problem.decode(self.write_back(payload, work, items))
        return x[items.to(x.device)], hard_labels(problem)[items]

    def resize_stage(self, state: RecoverState, initial: Payload, size: tuple[int, int], alpha: float) -> Payload:
        if not state.work:
            return initial
        return {
            n: torch.where(state.exp_avg_sq[n] > 0, alpha * t + (1 - alpha) * initial[n], t)
            for n, t in state.work.items()
        }

    def clamp(self, problem: Problem, state: RecoverState) -> Payload:
        limits, work, c = pixel_bounds(problem), state.work, problem.train.input.shape[0]
        if limits is None or not problem.parametrization.bounded:
            return work
        images = {n: t for n, t in work.items() if t.ndim > 3 and t.shape[-3] == c}  # the rest are codec levels
        return {**work, **{n: torch.where(state.exp_avg_sq[n] > 0, t.clamp(*limits), t) for n, t in images.items()}}

    def write_back(self, payload: Payload, work: Payload, items: Tensor) -> Payload:
        return {**payload, **{n: t[0] for n, t in work.items()}}


def make_workspace(problem: Problem) -> Workspace:
    """Return the workspace of the problem's parametrization."""
    return ItemRows() if isinstance(problem.parametrization, Pixels) else WholePayload()
