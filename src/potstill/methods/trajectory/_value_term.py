"""The plug-in of CondTSF: some steps move the targets of a learned series towards an expert's forecasts of them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, final

import torch
from torch import Generator, Tensor
from torch.func import functional_call

from potstill.core import Network, Problem, StepCost
from potstill.core.nested import single_tensor
from potstill.errors import PotstillError
from potstill.functional.blended_forecasts import blend_forecasts
from potstill.functional.param_groups import strip_prefix
from potstill.methods.engine import (
    TARGETS,
    JointObjective,
    LossAndGrads,
    MatchingState,
    NetworkSource,
    Objective,
    ObjectiveInputs,
    Update,
    decode_inputs,
)
from potstill.methods.trajectory._objective import get_experts
from potstill.parametrize.series import Series

__all__ = ["WithValueTerm"]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Forecaster:
    """A trained expert, whose forecasts a step takes."""

    net: Network
    parameters: Mapping[str, Tensor]
    buffers: Mapping[str, Tensor]

    def __call__(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            outputs: Tensor = functional_call(self.net, {**self.parameters, **self.buffers}, (x,))
        return outputs


@final
@dataclass(frozen=True, kw_only=True)
class WithValueTerm:
    """Any objective of a learned series, of which every ``gap``-th step is CondTSF's additive update in its place.

    Attributes:
        inner: objective of the other steps.
        gap: an update in every so many steps.
        share: β, of the expert's forecast.
        stride: points between the windows whose targets move.
    """

    inner: Objective[Any]
    gap: int
    share: float
    stride: int

    def prepare(
        self, problem: Problem, networks: NetworkSource, state: MatchingState, rng: Generator
    ) -> tuple[MatchingState, Any]:
        if (state.iteration + 1) % self.gap:
            return self.inner.prepare(problem, networks, state, rng)
        experts = get_experts(problem)
        expert = experts[int(torch.randint(len(experts), (1,), generator=rng))]
        trained = expert.trained(expert.epochs)
        net = problem.network(expert.seed).eval()
        return state, _Forecaster(net=net, parameters=trained.parameters, buffers=trained.buffers)

    def updates(self, problem: Problem, state: MatchingState, block: Any) -> Iterator[Update]:
        if not isinstance(block, _Forecaster):
            yield from self.inner.updates(problem, state, block)
            return

        def unchanged(classes: list[int], view: ObjectiveInputs) -> LossAndGrads:
            return state.loss, {}  # of the last step by gradients, which is what a curve shows

        yield Update(JointObjective.metric, unchanged, [list(range(problem.num_classes))])

    def init_memory(self, problem: Problem, rng: Generator) -> Mapping[str, Tensor]:
        return self.inner.init_memory(problem, rng)

    def finish_step(self, problem: Problem, state: MatchingState, block: Any) -> MatchingState:
        if not isinstance(block, _Forecaster):
            return self.inner.finish_step(problem, state, block)
        moved = self._moved(problem, state, block)
        params = replace(state.params, value={**state.params.value, **moved})
        return replace(state, params=params)

    def _moved(self, problem: Problem, state: MatchingState, forecaster: _Forecaster) -> dict[str, Tensor]:
        """Return the tensors that change, by name."""
        x = single_tensor(decode_inputs(problem, state.params, "model")[0], "CondTSF")
        if TARGETS in state.params.value:  # each window has targets of its own
            before = state.params.value[TARGETS]
            forecast = problem.task.predict(forecaster(x)).to(before)
            return {TARGETS: torch.lerp(before, forecast, self.share)}
        series = getattr(problem.parametrization, "inner", problem.parametrization)
        if not isinstance(series, Series):
            raise PotstillError(
                "CondTSF moves the points of a series, but the parametrization is another; say parametrization series"
            )
        payload = strip_prefix("payload/", state.params.value)
        points = series.points(payload)
        window, each = x.shape[-1], len(x) // len(points)
        firsts = list(range(0, each, self.stride))
        ahead = series.horizon
        rows = x.reshape(len(points), each, *x.shape[1:])[:, firsts]
        own = problem.context.forecast_variables or x.shape[1]
        forecasts = forecaster(rows.flatten(0, 1)).reshape(len(points), len(firsts), own, ahead)
        moved = blend_forecasts(points[..., :own], forecasts.to(points), [window + f for f in firsts], self.share)
        after = torch.cat([moved, points[..., own:]], 2)
        return {f"payload/{name}": t for name, t in series.with_points(payload, after).items()}

    def step_costs(self, problem: Problem, networks: NetworkSource, state: MatchingState) -> tuple[StepCost, ...]:
        return self.inner.step_costs(problem, networks, state)
