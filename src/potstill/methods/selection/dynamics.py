r"""Scores of how a network's predictions change while it is trained; all samples are evaluated after each epoch.

Forgetting (Toneva et al., ICLR 2019, arXiv:1812.05159), :math:`a_t` = 1 if the network is right after epoch t:

.. math::
    s(x) = \sum_t \mathbb{1}[a_t(x) = 1, \; a_{t+1}(x) = 0], \qquad s(x) = \infty \text{ where } a_t(x) = 0 \; \forall t

The paper evaluates a sample when it is in the batch. Never learned counts as hardest, as published: with wrong labels
those are kept first, unless ``cut`` drops them (the released code gives them as many events as there are epochs, the
same order for one run). Most samples are never forgotten; ties are broken at random.

Dataset cartography (Swayamdipta et al., EMNLP 2020, arXiv:2009.10795, section 2):

.. math::
    \hat\mu(x) = \tfrac{1}{T} \sum_t p_y^{(t)}(x), \qquad
    \hat\sigma(x) = \sqrt{\tfrac{1}{T} \sum_t \big( p_y^{(t)}(x) - \hat\mu(x) \big)^2}

Ambiguous samples have a high spread, easy ones a high mean and hard ones a low mean. The paper trains on the ambiguous
third, with easy ones added for small sets.

Dyn-Unc (He et al., "Large-scale Dataset Pruning with Dynamic Uncertainty", CVPRW 2024, arXiv:2306.05175):

.. math::
    U_k(x) = \sqrt{\tfrac{1}{J-1} \sum_{j<J} \big( p_y^{(k+j)}(x) - \bar p_k(x) \big)^2}, \qquad
    U(x) = \tfrac{1}{T-J} \sum_{k=0}^{T-J-1} U_k(x)

It drops what is always easy and what is never learned. As released, the last window is left out (get_coreset.py:34).
The released code evaluates a sample before the update on it.

TDDS (Zhang et al., "Spanning Training Progress: Temporal Dual-Depth Scoring", CVPR 2024, arXiv:2311.13613):

.. math::
    \Delta_t = \sum_c \Big| p_c^{(t)} \log \frac{p_c^{(t)}}{p_c^{(t-1)}} \Big|, \qquad
    R_t = \Big( \sum_{s=t-J+2}^{t} (\Delta_s - \bar\Delta_t)^2 \Big)^{1/2}, \qquad
    S = \sum_{t=J}^{T} \beta (1-\beta)^{T-t} R_t

Where paper and released code differ, this follows the code (importance_evaluation.py:33-61): absolute terms, a root,
J − 1 differences in a window of J epochs, and the first T = 30 of 200 epochs, while the rate is still high. The code
records a batch as it is trained on. The paper searches the lengths for each pruning rate; they are options here.
"""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from potstill.core import Asset, MethodInfo, Problem
from potstill.errors import PotstillWarning
from potstill.functional.training_dynamics import cartography, check_window, dynamic_uncertainty, forgetting, tdds
from potstill.methods.selection._by_class import selection_info
from potstill.methods.selection._record import MIN_SAMPLES, RecordScore, check_epochs, check_swings, get_record

__all__ = ["TDDS", "Cartography", "DynUnc", "Forgetting"]


@dataclass(frozen=True, kw_only=True)
class Forgetting(RecordScore):
    """Real samples that a network forgets most often while it learns."""

    info: ClassVar[MethodInfo] = selection_info("Example forgetting", "arXiv:1812.05159", 2019)

    def assets(self, problem: Problem) -> tuple[Asset, ...]:
        if "scores" not in problem.assets:
            check_epochs(2, self.record_epochs, "forgetting")
        return super().assets(problem)

    def columns(self, problem: Problem) -> Mapping[str, Tensor]:
        correct = get_record(problem).series("correct")
        return {"forgetting": torch.stack([forgetting(run) for run in correct]).mean(0)}


@dataclass(frozen=True, kw_only=True)
class Cartography(RecordScore):
    """Real samples of a region of the data map: ambiguous, easy or hard."""

    info: ClassVar[MethodInfo] = selection_info("Dataset cartography", "arXiv:2009.10795", 2020)
    selection_fields: ClassVar[tuple[str, ...]] = (*RecordScore.selection_fields, "region")

    region: Literal["ambiguous", "easy", "hard"] = "ambiguous"
    """Samples that count as hard: high spread (ambiguous), low mean probability (hard), or high (easy)."""

    def assets(self, problem: Problem) -> tuple[Asset, ...]:
        if "scores" not in problem.assets and self.region == "ambiguous":
            check_epochs(2, self.record_epochs, "variability")
        return super().assets(problem)

    def columns(self, problem: Problem) -> Mapping[str, Tensor]:
        record = get_record(problem)
        probability, correct = record.series("probability"), record.series("correct")
        runs = [cartography(p, c) for p, c in zip(probability, correct, strict=True)]
        variability = torch.stack([run.variability for run in runs]).mean(0)
        confidence = torch.stack([run.confidence for run in runs]).mean(0)
        if self.region == "ambiguous":
            check_swings("variability", variability, confidence, record.epochs)
        correctness = torch.stack([run.correctness for run in runs]).mean(0)
        return {"variability": variability, "confidence": confidence, "correctness": correctness}

    def hardness(self, columns: Mapping[str, Tensor]) -> Tensor:
        if self.region == "ambiguous":
            return columns["variability"]
        return columns["confidence"] if self.region == "easy" else -columns["confidence"]


@dataclass(frozen=True, kw_only=True)
class DynUnc(RecordScore):
    """Real samples of which the network stays unsure while it is trained."""

    info: ClassVar[MethodInfo] = selection_info("Dynamic uncertainty", "arXiv:2306.05175", 2024)

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


@dataclass(frozen=True, kw_only=True)
class TDDS(RecordScore):
    """Real samples whose predictions move most unsteadily while the network is trained."""

    info: ClassVar[MethodInfo] = selection_info("Temporal dual-depth scoring", "arXiv:2311.13613", 2024)
    fractions: ClassVar[tuple[str, ...]] = (*RecordScore.fractions, "decay")

    record_epochs: int = 200
    """Epochs of the training's schedule, of which only ``trajectory`` are trained (train.py: 200)."""
    trajectory: int = 30
    """T: first epochs, which are scored (the released command: 30, for 10 % kept)."""
    window: int = 10
    """J: consecutive epochs of a window, at least 3 (the paper: 10)."""
    decay: float = 0.9
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
