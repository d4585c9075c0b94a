"""Fields and parts that DATM and PAD share."""

from dataclasses import dataclass
from typing import ClassVar

from potstill.core import NonNegativeInt, Presets
from potstill.methods.engine import AUTO, Auto, Labels
from potstill.methods.trajectory._parts import StartEpochs, TrajectoryParts, gsam_training
from potstill.methods.trajectory._values import GOOD, QUICK, InitFrom

__all__ = ["AlignedFields"]


@dataclass(frozen=True, kw_only=True)
class AlignedFields:
    """Fields of DATM and PAD, which align the experts' epochs with the size of the set."""

    presets: ClassVar[Presets] = {
        "quick": {**QUICK, "expansion_end": 50, "init_from": "right", "label_experts": 0},
        "good": {**GOOD, "expansion_end": 300, "init_from": "right", "label_experts": 0},
    }  # fmt: skip

    iterations: int = 10_000
    """Steps (configs, Iteration)."""
    min_start_epoch: Auto[NonNegativeInt] = AUTO
    """First epoch of experts that students start from (configs, min_start_epoch)."""
    initial_start_epoch: Auto[int] = AUTO
    """Students start below this epoch at first (configs, current_max_start_epoch)."""
    max_start_epoch: Auto[int] = AUTO
    """Students start below this epoch in the end (configs, max_start_epoch)."""
    expansion_end: Auto[NonNegativeInt] = AUTO
    """Iterations over which that bound grows to ``max_start_epoch`` (configs, expansion_end_epoch); 0: no growth."""
    threshold: Auto[float] = AUTO
    """Steps with a larger loss are skipped (configs, threshold); 0: none."""
    labels: Labels = "learned"
    """Soft labels are learned."""
    label_experts: Auto[NonNegativeInt] = AUTO
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
