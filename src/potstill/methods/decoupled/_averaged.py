"""Fields and parts that G-VBSM and EDC share."""

from dataclasses import dataclass, replace

from potstill.core import PositiveFloat, UnitFloat
from potstill.methods.decoupled._recover import Recovery
from potstill.methods.decoupled._state import next_teacher
from potstill.methods.decoupled._statistics import AveragedStatistics
from potstill.methods.engine import AUTO, Auto

__all__ = ["AveragedMatching"]


@dataclass(frozen=True, kw_only=True)
class AveragedMatching:
    """Fields that G-VBSM and EDC share: alternating teachers, BatchNorms and convolutions, averages over steps."""

    ema_decay: Auto[float] = AUTO
    """Decay of the moving averages over steps."""
    cell_size: Auto[int] = AUTO
    """Side of a cell of a convolution's input in pixels (recover/utils.py, ConvFeatureHook), by data size: 4 as for
    CIFAR and Tiny-ImageNet, 16 as for ImageNet."""
    drop_rate: UnitFloat = 0.0
    """Probability that a convolution is dropped in a step (drop_rate there)."""
    densify: float = 0.0
    """ν: weight of data densification."""
    tau: PositiveFloat = 4.0
    """τ: temperature of data densification."""

    def averaged_recovery(self, base: Recovery, first: float, category: float | None = None) -> Recovery:
        """Return ``base`` with these settings; for the other arguments see `AveragedStatistics`."""
        match = AveragedStatistics(
            first=first, ema_decay=self.ema_decay, cell_size=self.cell_size, drop_rate=self.drop_rate,
            category=category,
        )  # fmt: skip
        prior = replace(base.prior, densify=self.densify, tau=self.tau)
        return replace(base, teacher_schedule=next_teacher, match=match, prior=prior)
