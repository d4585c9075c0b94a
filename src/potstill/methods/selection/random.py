"""Random: distinct real samples of every class, drawn uniformly. What every other method has to beat."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Tensor

from potstill.core import Method, MethodInfo, Metrics, Problem, Selection, StepCost
from potstill.functional.sampling import random_per_class
from potstill.methods.selection._greedy import check_enough

__all__ = ["Random", "RandomState"]


@dataclass(frozen=True, kw_only=True)
class RandomState:
    index: Tensor


@dataclass(frozen=True, kw_only=True)
class Random(Method[RandomState]):
    """Random real samples of every class."""

    info: ClassVar[MethodInfo] = MethodInfo(
        title="Random real samples",
        paper="arXiv:1811.10959 (as a baseline)",
        year=2018,
        family="selection",
        is_selection=True,
        kinds=("*",),
        tasks=("*",),
        multi_input=True,
    )
    state_type: ClassVar[type] = RandomState

    def init(self, problem: Problem, rng: Generator) -> RandomState:
        check_enough(problem)
        return RandomState(index=torch.cat(random_per_class(problem.class_indices, problem.counts, rng)))

    def step(self, problem: Problem, state: RandomState, rng: Generator) -> tuple[RandomState, Metrics]:
        return state, {}

    def done(self, problem: Problem, state: RandomState) -> bool:
        return True

    def result(self, problem: Problem, state: RandomState) -> Selection:
        return Selection(index=state.index)

    def num_steps(self, problem: Problem) -> int:
        return 0

    def step_costs(self, problem: Problem, state: RandomState) -> tuple[StepCost, ...]:
        return ()
