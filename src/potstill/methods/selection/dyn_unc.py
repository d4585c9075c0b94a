r"""Dyn-Unc: the samples whose true class's probability swings most in a sliding window of epochs.

He et al., "Large-scale Dataset Pruning with Dynamic Uncertainty", CVPRW 2024, arXiv:2306.05175.

.. math::
    U_k(x) = \sqrt{\tfrac{1}{J-1} \sum_{j<J} \big( p_y^{(k+j)}(x) - \bar p_k(x) \big)^2}, \qquad
    U(x) = \tfrac{1}{T-J} \sum_{k=0}^{T-J-1} U_k(x)

It leaves out what is always easy and what is never learned. As released, the last window is left out
(get_coreset.py:34). The released code looks at a sample before the update in which it is trained on; here all are
looked at after each epoch.
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
from potstill.methods.selection._record import FEW, ByRecord, check_swings, record_of

__all__ = ["DynUnc"]


@dataclass(frozen=True, kw_only=True)
class DynUnc(ByRecord):
    """Real samples of which the network stays unsure while it is trained."""

    info: ClassVar[MethodInfo] = MethodInfo(
        title="Dynamic uncertainty", paper="arXiv:2306.05175", year=2024, family="selection", is_selection=True,
        kinds=("*",),
    )  # fmt: skip

    window: int = 10
    """J, epochs in a row (the paper: 10)."""

    def assets(self, problem: Problem) -> tuple[Asset, ...]:
        if "scores" not in problem.assets:
            check_window(self.window, self.epochs_recorded)
            if 2 * self.window > self.epochs_recorded and len(problem.train) >= FEW:
                warnings.warn(
                    f"dyn_unc looks at windows of {self.window} epochs in a training of 200 as published, but only "
                    f"{self.epochs_recorded} are recorded: its windows are nearly one, and it is little else than "
                    f"cartography's variability; record {2 * self.window} or more (epochs_recorded), or shorten window",
                    PotstillWarning, stacklevel=2,
                )  # fmt: skip
        return super().assets(problem)

    def columns(self, problem: Problem) -> Mapping[str, Tensor]:
        record = record_of(problem)
        series = record.series("probability")
        found = torch.stack([dynamic_uncertainty(run, self.window) for run in series]).mean(0)
        check_swings("dyn_unc", found, series.mean((0, 1)), record.epochs)
        return {"dyn_unc": found}
