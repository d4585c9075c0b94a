r"""Stratified: random real samples in proportion to the sizes of the classes.

Proportional allocation (Neyman, J. R. Stat. Soc. 97, 1934), of m samples to classes of n_c among n samples:

.. math::
    m_c \approx m \, n_c / n

These are the class counts that a draw from all data has on average. Samples that equal an earlier one of their class
are taken last.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Generator

from potstill.core import MethodInfo, Metrics, Problem
from potstill.data.real_data import RealData
from potstill.functional.duplicates import Digests
from potstill.functional.sampling import proportional_allocation
from potstill.methods.engine import require_tensor
from potstill.methods.selection._by_class import (
    ClassByClass,
    SelectionState,
    advance,
    check_class_sizes,
    class_generator,
    selection_info,
)
from potstill.methods.selection._features import CHUNK
from potstill.rng import draw_seed

__all__ = ["Stratified", "StratifiedState"]


@dataclass(frozen=True, kw_only=True)
class StratifiedState(SelectionState):
    """``selected`` of a class that is not done yet may hold repeats."""

    repeats: int = 0
    """Samples so far that equal an earlier one of their class."""


@dataclass(frozen=True, kw_only=True)
class Stratified(ClassByClass[StratifiedState]):
    """Random real samples in proportion to the sizes of the classes."""

    info: ClassVar[MethodInfo] = selection_info(
        "Stratified random samples",
        "Neyman, J. R. Stat. Soc. 97(4), 1934",
        1934,
        balanced=False,
        use_when="Take it where class sizes must keep their proportions, as in a draw from all data.",
        avoid_when="Avoid it where every class needs the same number of items, which random gives; accuracy did not "
        "tell the two apart here.",
        related=("random", "dq", "ccs"),
    )
    state_type: ClassVar[type] = StratifiedState

    shares: Literal["proportional", "equal"] = "proportional"
    """Items per class: in proportion to its samples, at least one; or the same for every class."""

    def init(self, problem: Problem, rng: Generator) -> StratifiedState:
        if self.shares == "equal":
            check_class_sizes(problem)
            counts = problem.counts
        else:
            counts = proportional_allocation(tuple(len(i) for i in problem.class_indices), sum(problem.counts))
        selected = RealData.of(problem).draw_exactly(counts, rng)
        return StratifiedState(selected=selected, seed=draw_seed(rng))

    def step(self, problem: Problem, state: StratifiedState, rng: Generator) -> tuple[StratifiedState, Metrics]:
        c = state.classes_done
        index = problem.class_indices[c]
        digests = Digests(len(index))
        for positions, batch in RealData.of(problem).iterate(index, CHUNK):
            digests.add(positions, require_tensor(batch.x))
        first = digests.first_positions()
        # a random order of all samples, distinct ones before repeats
        order = torch.randperm(len(index), generator=class_generator(problem, state))
        rank = torch.full((len(index),), len(index)).scatter_reduce(0, first[order], torch.arange(len(order)), "amin")
        is_repeat = torch.arange(len(order)) > rank[first[order]]
        selected = index[order[is_repeat.int().argsort(stable=True)][: len(state.selected[c])]]
        repeats = state.repeats + int((first != torch.arange(len(index))).sum())
        return advance(state, selected, repeats=repeats), {"duplicates": float(repeats)}
