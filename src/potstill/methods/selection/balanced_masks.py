r"""Balanced masks: pictures whose masks together show all classes equally, by their pixels.

After the first stage of D3S2 (Zheng et al., arXiv:2605.25022), class-balanced mask selection. Its abstract says that a
greedy strategy prefers classes that are rare so far; the equation is ours, and the diffusion model of its second stage
is not here.

.. math::
    p_t = \arg\max_{i} \sum_{c} \sqrt{ s_{ic} + \sum_{j<t} s_{p_j c} }

with s_ic the share of picture i's pixels that are of class c. Pixels without a class count as none.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Tensor

from potstill.core import Method, MethodInfo, Metrics, Problem, Selection, StepCost
from potstill.functional.balanced_shares import balanced_shares
from potstill.methods.selection._by_class import check_class_sizes
from potstill.tasks import get_targets

__all__ = ["BalancedMasks"]

_AT_ONCE = 256
"""Masks that are counted at a time."""


@dataclass(frozen=True, kw_only=True)
class MaskState:
    index: Tensor


@dataclass(frozen=True, kw_only=True)
class BalancedMasks(Method[MaskState]):
    """Real pictures whose masks together show all classes equally."""

    info: ClassVar[MethodInfo] = MethodInfo(
        title="Class-balanced masks", paper="arXiv:2605.25022", year=2026, family="selection",
        is_selection=True, tasks=("segmentation",),
        use_when="Take it for pictures with masks of many classes, some of which random pictures would miss.",
        avoid_when="Avoid it for an object and its background: it keeps large objects alone, and was well below random "
        "pictures there.",
        related=("random", "k-center", "herding"),
    )  # fmt: skip
    state_type: ClassVar[type] = MaskState

    def init(self, problem: Problem, rng: Generator) -> MaskState:
        check_class_sizes(problem)
        shares = class_shares(get_targets(problem.train), problem.task.outputs)
        index = balanced_shares(shares, problem.counts[0])
        return MaskState(index=index.sort().values)

    def step(self, problem: Problem, state: MaskState, rng: Generator) -> tuple[MaskState, Metrics]:
        return state, {}

    def done(self, problem: Problem, state: MaskState) -> bool:
        return True

    def result(self, problem: Problem, state: MaskState) -> Selection:
        return Selection(index=state.index)

    def num_steps(self, problem: Problem) -> int:
        return 0

    def step_costs(self, problem: Problem, state: MaskState) -> tuple[StepCost, ...]:
        return ()


def class_shares(masks: Tensor, k: int) -> Tensor:
    """Return the share of each class's pixels in each mask (n, k), in float64."""
    parts = [
        torch.stack([(some == c).flatten(1).double().mean(1) for c in range(k)], 1)
        for some in torch.split(masks, _AT_ONCE)
    ]
    return torch.cat(parts)
