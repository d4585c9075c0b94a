r"""TDDS: the samples whose predictions move most unsteadily, late epochs weighing most.

Zhang et al., "Spanning Training Progress: Temporal Dual-Depth Scoring", CVPR 2024, arXiv:2311.13613.

.. math::
    \Delta_t = \sum_c p_c^{(t)} \log \frac{p_c^{(t)}}{p_c^{(t-1)}}, \qquad
    R_t = \sum_{s=t-J+1}^{t} (\Delta_s - \bar\Delta_t)^2, \qquad S_t = \beta R_t + (1-\beta) S_{t-1}

From the formulas of the paper; the length of training and the window that suit each rate of pruning, which it searches
for, are options here.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from potstill.core import MethodInfo, Problem
from potstill.functional.dynamics import tdds
from potstill.methods.selection._record import ByRecord, record_of

__all__ = ["TDDS"]


@dataclass(frozen=True, kw_only=True)
class TDDS(ByRecord):
    """Real samples whose predictions move most unsteadily while the network is trained."""

    info: ClassVar[MethodInfo] = MethodInfo(
        title="Temporal dual-depth scoring", paper="arXiv:2311.13613", year=2024, family="selection", selects=True,
        kinds=("*",),
    )  # fmt: skip

    fractions: ClassVar[tuple[str, ...]] = (*ByRecord.fractions, "decay")

    window: int = 10
    """J, epochs in a row (the paper: 10)."""
    decay: float = 0.9
    """β, the weight of the newest window (the paper: 0.9)."""

    def columns(self, problem: Problem) -> Mapping[str, Tensor]:
        series = record_of(problem).series("movement")[:, 1:]  # none comes before the first epoch
        return {"tdds": torch.stack([tdds(run, self.window, self.decay) for run in series]).mean(0)}
