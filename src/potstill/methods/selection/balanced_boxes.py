r"""Balanced boxes: pictures that together hold equally many boxes of all classes.

The selection of `balanced-masks` (after the first stage of D3S2, Zheng et al., arXiv:2605.25022) for boxes:

.. math::
    p_t = \arg\max_{i} \sum_{c} \sqrt{ n_{ic} + \sum_{j<t} n_{p_j c} }

with n_ic the boxes of class c in picture i. Of pictures with equal gains one is taken at random.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Tensor

from potstill.core import Method, MethodInfo, Metrics, Problem, Selection, StepCost
from potstill.functional.balanced_shares import balanced_shares
from potstill.methods.selection._by_class import check_class_sizes
from potstill.tasks import count_boxes, get_targets

__all__ = ["BalancedBoxes"]


@dataclass(frozen=True, kw_only=True)
class BoxState:
    index: Tensor


@dataclass(frozen=True, kw_only=True)
class BalancedBoxes(Method[BoxState]):
    """Real pictures that together hold equally many boxes of all classes."""

    info: ClassVar[MethodInfo] = MethodInfo(
        title="Class-balanced boxes", paper="arXiv:2605.25022", year=2026, family="selection",
        is_selection=True, tasks=("detection",),
        use_when="Take it for pictures with boxes of many classes, some of which random pictures would miss.",
        avoid_when="Avoid it where boxes of all classes are equally many: it prefers crowded pictures.",
        related=("random", "canvas-packing", "balanced-masks"),
    )  # fmt: skip
    state_type: ClassVar[type] = BoxState

    def init(self, problem: Problem, rng: Generator) -> BoxState:
        check_class_sizes(problem)
        counts = count_boxes(get_targets(problem.train), len(problem.task.labels))  # type: ignore[attr-defined]
        order = torch.randperm(len(counts), generator=rng)
        index = order[balanced_shares(counts[order], problem.counts[0])]
        return BoxState(index=index.sort().values)

    def step(self, problem: Problem, state: BoxState, rng: Generator) -> tuple[BoxState, Metrics]:
        return state, {}

    def done(self, problem: Problem, state: BoxState) -> bool:
        return True

    def result(self, problem: Problem, state: BoxState) -> Selection:
        return Selection(index=state.index)

    def num_steps(self, problem: Problem) -> int:
        return 0

    def step_costs(self, problem: Problem, state: BoxState) -> tuple[StepCost, ...]:
        return ()
