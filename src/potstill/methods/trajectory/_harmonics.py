"""A term of any objective of forecasts: amplitudes of a learned series beside those of real stretches (HDT)."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, final

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from potstill.core import Network, Problem, SeriesData, StepCost
from potstill.core.nested import single_tensor
from potstill.data.real_data import RealData
from potstill.functional.harmonics import harmonic_loss
from potstill.methods.engine import (
    TARGETS,
    LossAndGrads,
    MatchingState,
    NetworkSource,
    Objective,
    ObjectiveInputs,
    Update,
)
from potstill.parametrize.series import Series, stretches_at

__all__ = ["WithHarmonicLoss"]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Block:
    """Block of the inner objective, and the real stretches of a step."""

    inner: Any
    real: Float[Tensor, "count length v"]

    @property
    def net(self) -> Network:
        net: Network = self.inner.net
        return net


@final
@dataclass(frozen=True, kw_only=True)
class WithHarmonicLoss:
    """Any objective of a learned series plus `potstill.functional.harmonic_loss`, for its forecast variables.

    Where windows are stored apart, each with what follows it is a series of its own.

    Attributes:
        inner: the objective.
        weight: λ of the harmonic loss.
        harmonics: k, frequencies that count.
        order: p of the norm.
    """

    inner: Objective[Any]
    weight: float
    harmonics: int
    order: float = 2.0

    def prepare(
        self, problem: Problem, networks: NetworkSource, state: MatchingState, rng: Generator
    ) -> tuple[MatchingState, _Block]:
        state, block = self.inner.prepare(problem, networks, state, rng)
        return state, _Block(inner=block, real=self._draw_real(problem, rng))

    def updates(self, problem: Problem, state: MatchingState, block: _Block) -> Iterator[Update]:
        for number, update in enumerate(self.inner.updates(problem, state, block.inner)):
            added = partial(self.loss_and_grads, problem, block, update)
            yield update if number else update._replace(loss_and_grads=added)

    def loss_and_grads(
        self, problem: Problem, block: _Block, update: Update, classes: list[int], view: ObjectiveInputs
    ) -> LossAndGrads:
        """Return the loss of ``update`` with the term, and its gradients."""
        loss, grads = update.loss_and_grads(classes, view)
        if not grads:  # the objective makes no step
            return loss, grads
        targets = "labels" if "labels" in view else TARGETS
        leaves = {n: view[n].detach().requires_grad_() for n in ("inputs", targets)}
        with torch.enable_grad():
            points = series_of_windows(problem, leaves["inputs"], leaves[targets])
            term = self.weight * harmonic_loss(points, block.real, self.harmonics, self.order)
            slopes = dict(zip(leaves, torch.autograd.grad(term, tuple(leaves.values())), strict=True))
        slopes = {n: slope for n, slope in slopes.items() if n != TARGETS}  # those of real samples stay
        added = {n: slope if n not in grads else grads[n] + slope for n, slope in slopes.items()}
        return loss + float(term.detach()), {**grads, **added}

    def init_memory(self, problem: Problem, rng: Generator) -> Mapping[str, Tensor]:
        return self.inner.init_memory(problem, rng)

    def finish_step(self, problem: Problem, state: MatchingState, block: _Block) -> MatchingState:
        return self.inner.finish_step(problem, state, block.inner)

    def step_costs(self, problem: Problem, networks: NetworkSource, state: MatchingState) -> tuple[StepCost, ...]:
        return self.inner.step_costs(problem, networks, state)

    def _draw_real(self, problem: Problem, rng: Generator) -> Float[Tensor, "count length v"]:
        """Draw a real stretch, in model space, for each of the set's; for windows that are stored apart, real ones."""
        train, windows = problem.train, sum(problem.sizes)
        count, context = _count_stretches(problem, windows), problem.context
        if not isinstance(train, SeriesData) or count == windows:
            batch = RealData.of(problem).batch(torch.randint(len(train), (count,), generator=rng))
            assert batch.y is not None  # forecasts have targets
            return series_of_windows(problem, single_tensor(batch.x, "a harmonic loss"), batch.y)
        length = windows // count + context.shape[-1] + context.horizon - 1
        starts = train.stretches(length)
        drawn = starts[torch.randint(len(starts), (count,), generator=rng)]
        return stretches_at(train, drawn, length, train.normalization)[..., : context.forecast_variables or None]


def series_of_windows(
    problem: Problem, x: Float[Tensor, "n v w"], y: Float[Tensor, "n t"]
) -> Float[Tensor, "count length v"]:
    """Return the points of the forecast variables, in model space, out of the windows and targets that they are cut to.

    Args:
        x: windows in model space, stretch by stretch.
        y: what follows each, in the task's units.
    """
    norm, own = problem.train.normalization, problem.context.forecast_variables or x.shape[1]
    count, ahead = _count_stretches(problem, len(x)), problem.context.horizon
    rows = x[:, :own].reshape(count, -1, own, x.shape[-1])
    last = y.reshape(count, -1, own, ahead)[:, -1]
    mean, std = (t.to(y)[:own, None] for t in (norm.mean, norm.std))
    parts = [rows[:, 0], rows[:, 1:, :, -1].transpose(1, 2), ((last - mean) / std).to(x.dtype)]
    return torch.cat(parts, 2).transpose(1, 2)


def _count_stretches(problem: Problem, windows: int) -> int:
    """Return the stretches that so many windows are cut out of."""
    series = getattr(problem.parametrization, "inner", problem.parametrization)
    return series.count if isinstance(series, Series) else windows
