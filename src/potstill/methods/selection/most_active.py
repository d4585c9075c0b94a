"""The users that met most items: what somebody lazy would keep of interactions."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Tensor

from potstill.core import Method, MethodInfo, Metrics, Problem, Selection, StepCost
from potstill.core.nested import single_tensor
from potstill.methods.selection._by_class import check_class_sizes

__all__ = ["MostActive"]

_AT_ONCE = 4096
"""Users that are counted at a time."""


@dataclass(frozen=True, kw_only=True)
class ActiveState:
    index: Tensor


@dataclass(frozen=True, kw_only=True)
class MostActive(Method[ActiveState]):
    """Real users with the most items; of equal ones the first."""

    info: ClassVar[MethodInfo] = MethodInfo(
        title="Most active users", paper="arXiv:2206.02626 (as a baseline)", year=2022, family="selection",
        is_selection=True, kinds=("ratings",), tasks=("recommendation",),
        use_when="Take it as a baseline of sets of users.",
        avoid_when="Do not rely on it: who met most items is like few others.", related=("random", "distill-cf"),
    )  # fmt: skip
    state_type: ClassVar[type] = ActiveState

    def init(self, problem: Problem, rng: Generator) -> ActiveState:
        check_class_sizes(problem)
        train = problem.train
        parts = torch.split(torch.arange(len(train)), _AT_ONCE)
        lengths = torch.cat([single_tensor(train.raw(at), "most-active").sum(1).cpu() for at in parts])
        index = lengths.argsort(descending=True, stable=True)[: problem.counts[0]]
        return ActiveState(index=index.sort().values)

    def step(self, problem: Problem, state: ActiveState, rng: Generator) -> tuple[ActiveState, Metrics]:
        return state, {}

    def done(self, problem: Problem, state: ActiveState) -> bool:
        return True

    def result(self, problem: Problem, state: ActiveState) -> Selection:
        return Selection(index=state.index)

    def num_steps(self, problem: Problem) -> int:
        return 0

    def step_costs(self, problem: Problem, state: ActiveState) -> tuple[StepCost, ...]:
        return ()
