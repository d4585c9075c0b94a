r"""DATM: Difficulty-Aligned Trajectory Matching (Guo et al., ICLR 2024): later trajectories for larger sets.

.. math:: t \sim U\{t_{\min}, \dots, u_k - 1\}, \qquad u_k = u_0 + (u_{\text{end}} - u_0)\, k / K, \qquad
    y = \mathrm{softmax}\Big(\tfrac{1}{|E_x|} \sum_{e \in E_x} f_e(x)\Big) \text{ at first, then learned}

A student's stretch begins at an epoch from a range that depends on the size of the set and whose end grows over K
steps. Sets begin as real samples that experts classify rightly, with labels from E_x, the experts that do (from all,
where none does: there the released program divides 0 by 0); at 50 per class of CIFAR-100 they begin as random real
ones, with the labels of one expert. A step whose loss is above a threshold is skipped. Experts
are FTD's, of 100 epochs. Data are whitened (``--zca mtt``).
"""

from dataclasses import dataclass
from typing import ClassVar

from potstill.core import MethodInfo, Presets, Problem
from potstill.methods.engine import AUTO, Auto, EngineMethod, Labels, MatchingEngine, MatchingState
from potstill.methods.trajectory._parts import StartEpochs, TrajectoryParts
from potstill.methods.trajectory._published import DATM as RUNS
from potstill.methods.trajectory._values import (
    GOOD,
    QUICK,
    InitFrom,
    Published,
    TrajectoryFields,
    build_trajectory_engine,
)
from potstill.methods.trajectory.ftd import gsam_training

__all__ = ["DATM", "RUNS", "AlignedFields"]


@dataclass(frozen=True, kw_only=True)
class AlignedFields:
    """Fields of DATM and PAD, which align the experts' epochs with the size of the set."""

    presets: ClassVar[Presets] = {
        "quick": {**QUICK, "expansion_end": 50, "init_from": "right", "label_experts": 0},
        "good": {**GOOD, "expansion_end": 300, "init_from": "right", "label_experts": 0},
    }  # fmt: skip
    may_be_zero: ClassVar[tuple[str, ...]] = (
        *TrajectoryFields.may_be_zero, "min_start_epoch", "expansion_end", "label_experts",
    )  # fmt: skip

    iterations: int = 10_000
    """Steps (configs, Iteration)."""
    min_start_epoch: Auto[int] = AUTO
    """First epoch of experts that students start from (configs, min_start_epoch)."""
    initial_start_epoch: Auto[int] = AUTO
    """Students start below this epoch at first (configs, current_max_start_epoch)."""
    max_start_epoch: Auto[int] = AUTO
    """Students start below this epoch in the end (configs, max_start_epoch)."""
    expansion_end: Auto[int] = AUTO
    """Iterations over which that bound grows to ``max_start_epoch`` (configs, expansion_end_epoch); 0: no growth."""
    threshold: Auto[float] = AUTO
    """Steps with a larger loss are skipped (configs, threshold); 0: none."""
    labels: Labels = "learned"
    """Soft labels are learned."""
    label_experts: Auto[int] = AUTO
    """Experts whose mean logits labels begin as; 0: for each sample, all that classify it correctly."""
    init_from: Auto[InitFrom] = AUTO
    """Initial samples: those that experts classify correctly, or random real ones (configs, pix_init)."""
    gsam: bool = True
    """Train experts towards flat minima, by GSAM with ρ = 0.01; otherwise by SGD."""
    gsam_alpha: Auto[float] = 0.3
    """α of GSAM: weight of the gradient's orthogonal part (buffer_FTD.py, --alpha)."""
    train_epochs: int = 100
    """Epochs of each expert."""

    def aligned_parts(self) -> TrajectoryParts:
        """Return DATM's parts."""
        return TrajectoryParts(
            start_epochs=StartEpochs(
                low=self.min_start_epoch, initial_high=self.initial_start_epoch, high=self.max_start_epoch,
                expansion_end=self.expansion_end,
            ),
            max_loss=self.threshold, label_experts=self.label_experts,
            expert_training=gsam_training(self.gsam_alpha) if self.gsam else {},
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class DATM(AlignedFields, TrajectoryFields, EngineMethod[MatchingState]):
    """Train students along segments that are as hard as the set is large, with learned labels."""

    info: ClassVar[MethodInfo] = MethodInfo(
        title="Towards Lossless Dataset Distillation via Difficulty-Aligned Trajectory Matching",
        paper="arXiv:2310.05773",
        year=2024,
        family="trajectory",
        kinds=("*",),
        training={"lr": 0.01, "augmentation": "dsa", "epochs": 1000},
    )
    published: ClassVar[Published] = RUNS

    def build_engine(self, problem: Problem) -> MatchingEngine:
        return build_trajectory_engine(self, problem, self.aligned_parts())
