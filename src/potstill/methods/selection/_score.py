"""Selection by a score: the first step scores all samples, every further step selects from one pool.

A pool is a class, or all samples with ``pool="global"``. Scores come from the problem's assets: from a score file if
there is one, else from a record of training.
"""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import torch
from torch import Generator, Tensor

from potstill.core import Method, Metrics, Problem, Selection, StepCost, UnitFloat
from potstill.errors import PotstillError
from potstill.functional.pruning import Keep, choose_by_score, clamp_infinite, proportional_counts
from potstill.functional.sampling import random_per_class
from potstill.methods.selection._by_class import check_class_sizes
from potstill.rng import draw_seed, generator

__all__ = ["Pool", "ScoreSelection", "ScoreState"]

Pool = Literal["class", "global", "proportional"]


@dataclass(frozen=True, kw_only=True)
class ScoreState:
    hardness: Tensor
    """Hardness of all samples (n,), finite; zeros before the first step."""
    selected: tuple[Tensor, ...]
    """Indices by pool; random ones for pools that are not done yet."""
    steps: int
    seed: int
    """Seed of the draws of each pool."""


@dataclass(frozen=True, kw_only=True)
class ScoreSelection(Method[ScoreState]):
    """Abstract: ``columns`` returns scores; ``hardness`` orients them."""

    state_type: ClassVar[type] = ScoreState
    selection_fields: ClassVar[tuple[str, ...]] = ("pool", "keep", "cut", "bins")

    pool: Pool = "class"
    """``class``: a budget per class. ``proportional``: in proportion to class sizes, at least one sample per class.
    ``global``: the best of all samples (most papers); a class may then get none."""
    keep: Keep = "hardest"
    """Samples to keep: ``hardest``, ``easiest``, ``middle`` (nearest to the median), or ``stratified`` by score."""
    cut: UnitFloat = 0.0
    """β: fraction of each pool's hardest samples that is dropped first, since wrong labels are the hardest."""
    bins: int = 50
    """Strata of equal width for ``stratified``."""

    @abstractmethod
    def columns(self, problem: Problem) -> Mapping[str, Tensor]:
        """Return numbers of all samples (n,) by name, the score first; infinite values are allowed."""

    def hardness(self, columns: Mapping[str, Tensor]) -> Tensor:
        """Return values (n,) that are high for hard samples: by default the score itself."""
        return next(iter(columns.values()))

    def pools(self, problem: Problem) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
        """Return the indices of each pool and the number to select from it."""
        total = sum(problem.counts)
        if self.pool == "global":
            if total > len(problem.train):
                raise PotstillError(
                    f"{total} samples are requested, but the data have {len(problem.train)}; lower the budget"
                )
            return (torch.arange(len(problem.train)),), (total,)
        if self.pool == "proportional":
            return problem.class_indices, proportional_counts([len(index) for index in problem.class_indices], total)
        check_class_sizes(problem)
        return problem.class_indices, problem.counts

    def _pool_names(self, problem: Problem) -> tuple[str, ...]:
        return ("",) if self.pool == "global" else problem.class_names

    def init(self, problem: Problem, rng: Generator) -> ScoreState:
        pools, counts = self.pools(problem)
        selected = random_per_class(dict(zip(self._pool_names(problem), pools, strict=True)), counts, rng)
        return ScoreState(hardness=torch.zeros(len(problem.train)), selected=selected, steps=0, seed=draw_seed(rng))

    def step(self, problem: Problem, state: ScoreState, rng: Generator) -> tuple[ScoreState, Metrics]:
        if state.steps == 0:
            scores: Any = problem.assets.get("scores")
            scores = self.hardness(self.columns(problem) if scores is None else scores)
            hardness = clamp_infinite(scores.detach().cpu().float())
            return replace(state, hardness=hardness, steps=1), {"mean hardness": float(hardness.mean())}
        pools, counts = self.pools(problem)
        c = state.steps - 1
        rng, hardness = generator(state.seed, "pool", self._pool_names(problem)[c]), state.hardness[pools[c]]
        positions = choose_by_score(hardness, counts[c], rng, keep=self.keep, cut=self.cut, bins=self.bins)
        selected = (*state.selected[:c], pools[c][positions], *state.selected[c + 1 :])
        mean = float(hardness[positions].mean()) if len(positions) else 0.0
        return replace(state, selected=selected, steps=state.steps + 1), {"mean hardness": mean}

    def done(self, problem: Problem, state: ScoreState) -> bool:
        return state.steps > len(state.selected)

    def result(self, problem: Problem, state: ScoreState) -> Selection:
        index = torch.cat(state.selected)
        return Selection(index=index[torch.argsort(problem.train.labels[index], stable=True)])

    def num_steps(self, problem: Problem) -> int:
        return 2 if self.pool == "global" else problem.num_classes + 1

    def step_costs(self, problem: Problem, state: ScoreState) -> tuple[StepCost, ...]:
        n, first = len(problem.train), replace(state, steps=0)

        def step() -> object:
            return self.step(problem, first, generator(0, "plan"))

        return (StepCost(what="scores of all samples", real=True, samples=n, size=n, ready=lambda _: step),)
