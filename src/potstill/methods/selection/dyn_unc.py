r"""Dyn-Unc: samples whose probability of their class varies most in a sliding window of epochs.

He et al., "Large-scale Dataset Pruning with Dynamic Uncertainty", CVPRW 2024, arXiv:2306.05175.

.. math::
    U_k(x) = \sqrt{\tfrac{1}{J-1} \sum_{j<J} \big( p_y^{(k+j)}(x) - \bar p_k(x) \big)^2}, \qquad
    U(x) = \tfrac{1}{T-J} \sum_{k=0}^{T-J-1} U_k(x)

It drops what is always easy and what is never learned. As released, the last window is left out (get_coreset.py:34).
The released code evaluates a sample before the update on it; here all are evaluated after each epoch.
"""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from potstill.core import Asset, MethodInfo, Problem
from potstill.errors import PotstillWarning
from potstill.functional.training_dynamics import check_window, dynamic_uncertainty
from potstill.methods.selection._by_class import selection_info
from potstill.methods.selection._record import MIN_SAMPLES, RecordScore, check_swings, get_record

__all__ = ["DynUnc"]


@dataclass(frozen=True, kw_only=True)
class DynUnc(RecordScore):
    """Real samples of which the network stays unsure while it is trained."""

    info: ClassVar[MethodInfo] = selection_info(
        "Dynamic uncertainty",
        "arXiv:2306.05175",
        2024,
        class_independence="deletion",
        use_when="Take it to leave a quarter or so out of large clean data after a full training: it drops both the "
        "easy and the never learned.",
        avoid_when="Avoid it for small sets, wrong labels and short records; with few epochs its window measures the "
        "speed of learning.",
        related=("cartography", "tdds", "forgetting"),
    )

    window: int = 10
    """J: consecutive epochs of a window (the paper: 10)."""

    def assets(self, problem: Problem) -> tuple[Asset, ...]:
        if "scores" not in problem.assets:
            check_window(self.window, self.record_epochs)
            if 2 * self.window > self.record_epochs and len(problem.train) >= MIN_SAMPLES:
                warnings.warn(
                    f"dyn_unc is published with windows of {self.window} epochs in a training of 200, but only "
                    f"{self.record_epochs} are recorded: all windows are nearly the same, and the score is little else "
                    f"than cartography's variability; record {2 * self.window} or more (record_epochs), or shorten "
                    "window",
                    PotstillWarning, stacklevel=2,
                )  # fmt: skip
        return super().assets(problem)

    def columns(self, problem: Problem) -> Mapping[str, Tensor]:
        record = get_record(problem)
        series = record.series("probability")
        uncertainty = torch.stack([dynamic_uncertainty(run, self.window) for run in series]).mean(0)
        check_swings("dyn_unc", uncertainty, series.mean((0, 1)), record.epochs)
        return {"dyn_unc": uncertainty}
