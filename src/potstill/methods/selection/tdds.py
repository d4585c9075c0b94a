r"""TDDS, temporal dual-depth scoring: samples whose predictions move most unsteadily, late epochs weighing most.

Zhang et al., "Spanning Training Progress: Temporal Dual-Depth Scoring", CVPR 2024, arXiv:2311.13613.

.. math::
    \Delta_t = \sum_c \Big| p_c^{(t)} \log \frac{p_c^{(t)}}{p_c^{(t-1)}} \Big|, \qquad
    R_t = \Big( \sum_{s=t-J+2}^{t} (\Delta_s - \bar\Delta_t)^2 \Big)^{1/2}, \qquad
    S = \sum_{t=J}^{T} \beta (1-\beta)^{T-t} R_t

Where paper and released code differ, this follows the code (importance_evaluation.py:33-61): absolute terms, a root,
J − 1 differences in a window of J epochs, and the first T = 30 of 200 epochs, while the rate is still high. The code
records a batch as it is trained on; here all samples are evaluated after each epoch. The paper searches the lengths for
each pruning rate; they are options here.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from potstill.core import Asset, MethodInfo, Problem, UnitFloat
from potstill.functional.training_dynamics import check_window, tdds
from potstill.methods.selection._by_class import selection_info
from potstill.methods.selection._record import RecordScore, get_record

__all__ = ["TDDS"]


@dataclass(frozen=True, kw_only=True)
class TDDS(RecordScore):
    """Real samples whose predictions move most unsteadily while the network is trained."""

    info: ClassVar[MethodInfo] = selection_info(
        "Temporal dual-depth scoring",
        "arXiv:2311.13613",
        2024,
        class_independence="deletion",
        use_when="Take it to keep more than half of clean data where the early part of one training may be recorded.",
        avoid_when="Avoid it for small sets and noisy labels; both were far below random samples here.",
        related=("dyn-unc", "el2n", "forgetting"),
    )

    record_epochs: int = 200
    """Epochs of the training's schedule, of which only ``trajectory`` are trained (train.py: 200)."""
    trajectory: int = 30
    """T: first epochs, which are scored (the released command: 30, for 10 % kept)."""
    window: int = 10
    """J: consecutive epochs of a window, at least 3 (the paper: 10)."""
    decay: UnitFloat = 0.9
    """β: weight of the newest window (the paper: 0.9)."""

    def assets(self, problem: Problem) -> tuple[Asset, ...]:
        if "scores" in problem.assets:
            return ()
        record = self.record_asset(until=self.trajectory)
        check_window(self.window, self.trajectory, 3)
        return (record,)

    def columns(self, problem: Problem) -> Mapping[str, Tensor]:
        series = get_record(problem).series("movement")[:, 1 : self.trajectory]  # the first epoch has no predecessor
        return {"tdds": torch.stack([tdds(run, self.window, self.decay) for run in series]).mean(0)}
