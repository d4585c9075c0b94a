r"""Random: distinct real samples of every class, drawn uniformly; the baseline of all other methods.

As the baseline in dataset distillation (Wang et al., arXiv:1811.10959), m samples of each class c:

.. math::
    S_c \sim \mathrm{Uniform} \big\{ S \subseteq \{ i : y_i = c \} : |S| = m \big\}
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Tensor

from potstill.core import Method, MethodInfo, Metrics, Problem, Selection, StepCost
from potstill.data.real_data import RealData
from potstill.methods.selection._by_class import (
    check_class_sizes,
    selection_info,
)

__all__ = ["Random", "RandomState"]


@dataclass(frozen=True, kw_only=True)
class RandomState:
    index: Tensor


@dataclass(frozen=True, kw_only=True)
class Random(Method[RandomState]):
    """Random real samples of every class."""

    info: ClassVar[MethodInfo] = selection_info(
        "Random real samples",
        "arXiv:1811.10959 (as a baseline)",
        2018,
        draws_by_class=True,
        tasks=("*",),
        multi_input=True,
        class_independence="separate",
        use_when="Take it first and always: it costs nothing, and every other method has to beat it at the same bytes.",
        avoid_when="Do not stop here where bytes are very few: covering and distilling methods were well above it "
        "here.",
        related=("k-means", "stratified", "random-soft"),
    )
    state_type: ClassVar[type] = RandomState

    def init(self, problem: Problem, rng: Generator) -> RandomState:
        check_class_sizes(problem)
        return RandomState(index=torch.cat(RealData.of(problem).draw_exactly(problem.counts, rng)))

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
