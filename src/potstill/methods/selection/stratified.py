"""Stratified: random real samples, as many of each class as its part of the data.

Neyman, J. R. Stat. Soc. 97, 1934: proportional allocation. What a random draw from all the data gives in the mean, with
no class left to chance. ``random`` keeps the budget of every class equal instead.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Generator, Tensor

from potstill.core import Method, MethodInfo, Metrics, Part, Problem, Selection
from potstill.data.passes import in_order
from potstill.functional.duplicates import Digests
from potstill.functional.sampling import proportional, random_per_class
from potstill.methods._matching import image
from potstill.methods.selection._features import CHUNK
from potstill.methods.selection._greedy import check_enough, one_class
from potstill.rng import generator

__all__ = ["Stratified", "StratifiedState"]


@dataclass(frozen=True, kw_only=True)
class StratifiedState:
    chosen: tuple[Tensor, ...]
    """Indices by class: of those that are not done yet, repeats may still be among them."""
    classes_done: int
    repeats: int = 0
    """Samples so far that equal an earlier one of their class."""


@dataclass(frozen=True, kw_only=True)
class Stratified(Method[StratifiedState]):
    """Random real samples in proportion to the sizes of the classes."""

    info: ClassVar[MethodInfo] = MethodInfo(
        title="Stratified random samples", paper="Neyman, J. R. Stat. Soc. 97(4), 1934", year=1934, family="selection",
        selects=True, kinds=("*",),
    )  # fmt: skip
    state_type: ClassVar[type] = StratifiedState

    shares: Literal["proportional", "equal"] = "proportional"
    """Items of a class: in proportion to its samples, one at least; or as many of each as the budget says."""

    def init(self, problem: Problem, rng: Generator) -> StratifiedState:
        if self.shares == "equal":
            check_enough(problem)
            counts = problem.counts
        else:
            counts = proportional(tuple(len(i) for i in problem.by_class), sum(problem.counts))
        return StratifiedState(chosen=random_per_class(problem.by_class, counts, rng), classes_done=0)

    def step(self, problem: Problem, state: StratifiedState, rng: Generator) -> tuple[StratifiedState, Metrics]:
        c = state.classes_done
        index = problem.by_class[c]
        found = Digests(len(index))
        for positions, batch in in_order(problem.train, index, CHUNK):
            found.add(positions, image(batch.x))
        first = found.first()
        # a random order of all, distinct ones before repeats
        order = torch.randperm(len(index), generator=rng)
        seen = torch.full((len(index),), len(index)).scatter_reduce(0, first[order], torch.arange(len(order)), "amin")
        again = torch.arange(len(order)) > seen[first[order]]
        kept = index[order[again.int().argsort(stable=True)][: len(state.chosen[c])]]
        repeats = state.repeats + int((first != torch.arange(len(index))).sum())
        chosen = (*state.chosen[:c], kept, *state.chosen[c + 1 :])
        following = StratifiedState(chosen=chosen, classes_done=c + 1, repeats=repeats)
        return following, {"duplicates": float(repeats)}

    def done(self, problem: Problem, state: StratifiedState) -> bool:
        return state.classes_done == problem.num_classes

    def result(self, problem: Problem, state: StratifiedState) -> Selection:
        return Selection(index=torch.cat(state.chosen))

    def horizon(self, problem: Problem) -> int:
        return problem.num_classes

    def parts(self, problem: Problem, state: StratifiedState) -> tuple[Part, ...]:
        def step(c: int) -> object:
            return self.step(problem, StratifiedState(chosen=state.chosen, classes_done=c), generator(0, "plan"))

        return (one_class(problem, step),)
