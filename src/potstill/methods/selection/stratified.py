"""Stratified: random real samples, as many of each class as its part of the data.

Neyman, J. R. Stat. Soc. 97, 1934: proportional allocation. What a random draw from all the data gives in the mean, with
no class left to chance. ``random`` keeps the budget of every class equal instead.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Generator

from potstill.core import MethodInfo, Metrics, Problem
from potstill.data.iterate import iterate_samples
from potstill.functional.duplicates import Digests
from potstill.functional.sampling import proportional_allocation, random_per_class
from potstill.methods.engine import require_tensor
from potstill.methods.selection._features import CHUNK
from potstill.methods.selection._greedy import ChosenState, ClassByClass, check_enough, following

__all__ = ["Stratified", "StratifiedState"]


@dataclass(frozen=True, kw_only=True)
class StratifiedState(ChosenState):
    """Among ``chosen`` of a class that is not done yet there may still be repeats."""

    repeats: int = 0
    """Samples so far that equal an earlier one of their class."""


@dataclass(frozen=True, kw_only=True)
class Stratified(ClassByClass[StratifiedState]):
    """Random real samples in proportion to the sizes of the classes."""

    info: ClassVar[MethodInfo] = MethodInfo(
        title="Stratified random samples", paper="Neyman, J. R. Stat. Soc. 97(4), 1934", year=1934, family="selection",
        is_selection=True, balanced=False, kinds=("*",),
    )  # fmt: skip
    state_type: ClassVar[type] = StratifiedState

    shares: Literal["proportional", "equal"] = "proportional"
    """Items of a class: in proportion to its samples, one at least; or as many of each as the budget says."""

    def init(self, problem: Problem, rng: Generator) -> StratifiedState:
        if self.shares == "equal":
            check_enough(problem)
            counts = problem.counts
        else:
            counts = proportional_allocation(tuple(len(i) for i in problem.class_indices), sum(problem.counts))
        return StratifiedState(chosen=random_per_class(problem.class_indices, counts, rng))

    def step(self, problem: Problem, state: StratifiedState, rng: Generator) -> tuple[StratifiedState, Metrics]:
        c = state.classes_done
        index = problem.class_indices[c]
        found = Digests(len(index))
        for positions, batch in iterate_samples(problem.train, index, CHUNK):
            found.add(positions, require_tensor(batch.x))
        first = found.first_positions()
        # a random order of all, distinct ones before repeats
        order = torch.randperm(len(index), generator=rng)
        seen = torch.full((len(index),), len(index)).scatter_reduce(0, first[order], torch.arange(len(order)), "amin")
        again = torch.arange(len(order)) > seen[first[order]]
        kept = index[order[again.int().argsort(stable=True)][: len(state.chosen[c])]]
        repeats = state.repeats + int((first != torch.arange(len(index))).sum())
        return following(state, kept, repeats=repeats), {"duplicates": float(repeats)}
