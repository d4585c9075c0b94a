"""Selecting by a score: numbers of all samples first, then one pool after the other.

A pool is a class; with ``pool="global"`` all samples are one. The numbers come from the problem's assets: from a
file of scores where there is one, else from a record of training.
"""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import torch
from torch import Generator, Tensor

from potstill.core import Method, Metrics, Problem, Selection, StepCost
from potstill.errors import PotstillError
from potstill.functional.pruning import Keep, choose_by_score, clamp_infinite, proportional_counts
from potstill.functional.sampling import random_per_class
from potstill.methods.selection._greedy import check_enough
from potstill.rng import generator

__all__ = ["ByScore", "Pool", "ScoreState"]

Pool = Literal["class", "global", "proportional"]


@dataclass(frozen=True, kw_only=True)
class ScoreState:
    hardness: Tensor
    """Of all samples (n,), finite; zeros before the first step."""
    chosen: tuple[Tensor, ...]
    """Indices by pool: random ones for the pools that are not done yet."""
    steps: int


@dataclass(frozen=True, kw_only=True)
class ByScore(Method[ScoreState]):
    """Abstract: ``columns`` gives the numbers; ``hardness`` says which of them is hard."""

    state_type: ClassVar[type] = ScoreState
    fractions: ClassVar[tuple[str, ...]] = ("cut",)
    selection_fields: ClassVar[tuple[str, ...]] = ("pool", "keep", "cut", "bins")

    pool: Pool = "class"
    """``class``: the budget of each class. ``proportional``: in proportion to the classes' sizes, at least one of each.
    ``global``: the best of all samples, whatever their class (most papers); a class may then end with none."""
    keep: Keep = "hardest"
    """Which to keep: ``hardest``, ``easiest``, ``middle`` (nearest to the median), or ``stratified`` over the score."""
    cut: float = 0.0
    """β: the part of each pool's hardest samples that is left out first, as wrong labels are the hardest."""
    bins: int = 50
    """Strata of equal width, where they are kept ``stratified``."""

    @abstractmethod
    def columns(self, problem: Problem) -> Mapping[str, Tensor]:
        """Numbers of all samples (n,) by name, the score first; infinite ones are allowed."""

    def hardness(self, columns: Mapping[str, Tensor]) -> Tensor:
        """What is high for hard samples (n,): the score itself, where a method says nothing else."""
        return next(iter(columns.values()))

    def pools(self, problem: Problem) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
        """Indices of each pool, and how many it gives."""
        total = sum(problem.counts)
        if self.pool == "global":
            if total > len(problem.train):
                raise PotstillError(
                    f"{total} samples are asked for, but the data have {len(problem.train)}; lower the budget"
                )
            return (torch.arange(len(problem.train)),), (total,)
        if self.pool == "proportional":
            return problem.class_indices, proportional_counts([len(index) for index in problem.class_indices], total)
        check_enough(problem)
        return problem.class_indices, problem.counts

    def init(self, problem: Problem, rng: Generator) -> ScoreState:
        pools, counts = self.pools(problem)
        chosen = random_per_class(pools, counts, rng)
        return ScoreState(hardness=torch.zeros(len(problem.train)), chosen=chosen, steps=0)

    def step(self, problem: Problem, state: ScoreState, rng: Generator) -> tuple[ScoreState, Metrics]:
        if state.steps == 0:
            known: Any = problem.assets.get("scores")
            hardness = clamp_infinite(
                self.hardness(self.columns(problem) if known is None else known).detach().cpu().float()
            )
            return replace(state, hardness=hardness, steps=1), {"mean hardness": float(hardness.mean())}
        pools, counts = self.pools(problem)
        c = state.steps - 1
        hardness = state.hardness[pools[c]]
        positions = choose_by_score(hardness, counts[c], rng, keep=self.keep, cut=self.cut, bins=self.bins)
        chosen = (*state.chosen[:c], pools[c][positions], *state.chosen[c + 1 :])
        kept = float(hardness[positions].mean()) if len(positions) else 0.0
        return replace(state, chosen=chosen, steps=state.steps + 1), {"mean hardness": kept}

    def done(self, problem: Problem, state: ScoreState) -> bool:
        return state.steps > len(state.chosen)

    def result(self, problem: Problem, state: ScoreState) -> Selection:
        index = torch.cat(state.chosen)
        return Selection(index=index[torch.argsort(problem.train.labels[index], stable=True)])

    def num_steps(self, problem: Problem) -> int:
        return 2 if self.pool == "global" else problem.num_classes + 1

    def step_costs(self, problem: Problem, state: ScoreState) -> tuple[StepCost, ...]:
        n = len(problem.train)
        first = replace(state, steps=0)
        return (
            StepCost(
                what="scores of all samples", real=True, samples=n, size=n,
                ready=lambda _: lambda: self.step(problem, first, generator(0, "plan")),
            ),
        )  # fmt: skip
