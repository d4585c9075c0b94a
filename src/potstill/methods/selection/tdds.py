r"""TDDS: the samples whose predictions move most unsteadily, late epochs weighing most.

Zhang et al., "Spanning Training Progress: Temporal Dual-Depth Scoring", CVPR 2024, arXiv:2311.13613.

.. math::
    \Delta_t = \sum_c \Big| p_c^{(t)} \log \frac{p_c^{(t)}}{p_c^{(t-1)}} \Big|, \qquad
    R_t = \Big( \sum_{s=t-J+2}^{t} (\Delta_s - \bar\Delta_t)^2 \Big)^{1/2}, \qquad
    S = \sum_{t=J}^{T} \beta (1-\beta)^{T-t} R_t

Paper and released code differ; followed is the code (importance_evaluation.py:33-61): absolute terms, a root, J − 1
differences in a window of J epochs, and a trajectory of the first T = 30 of 200 epochs, while the rate is still high.
The code records a batch as it is trained on; here all samples are looked at after each epoch. The lengths that suit
each rate of pruning, for which the paper searches, are options here.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from potstill.core import Asset, MethodInfo, Problem
from potstill.functional.training_dynamics import check_window, tdds
from potstill.methods.selection._record import ByRecord, record_of

__all__ = ["TDDS"]


@dataclass(frozen=True, kw_only=True)
class TDDS(ByRecord):
    """Real samples whose predictions move most unsteadily while the network is trained."""

    info: ClassVar[MethodInfo] = MethodInfo(
        title="Temporal dual-depth scoring", paper="arXiv:2311.13613", year=2024, family="selection", is_selection=True,
        kinds=("*",),
    )  # fmt: skip

    fractions: ClassVar[tuple[str, ...]] = (*ByRecord.fractions, "decay")

    epochs_recorded: int = 200
    """Epochs of the training's schedule, of which only ``trajectory`` are made (train.py: 200)."""
    trajectory: int = 30
    """T, the first epochs, which are looked at (the released command: 30, for 10 % kept)."""
    window: int = 10
    """J, epochs in a row, at least 3 (the paper: 10)."""
    decay: float = 0.9
    """β, the weight of the newest window (the paper: 0.9)."""

    def assets(self, problem: Problem) -> tuple[Asset, ...]:
        if "scores" in problem.assets:
            return ()
        spec = self.spec(until=self.trajectory)
        check_window(self.window, self.trajectory, 3)
        return (spec,)

    def columns(self, problem: Problem) -> Mapping[str, Tensor]:
        series = record_of(problem).series("movement")[:, 1 : self.trajectory]  # none comes before the first epoch
        return {"tdds": torch.stack([tdds(run, self.window, self.decay) for run in series]).mean(0)}
