"""The settings that G-VBSM and EDC share: several teachers in turn, BatchNorms and convolutions, averages."""

from dataclasses import dataclass, replace
from typing import ClassVar

from potstill.methods.decoupled._recover import Recovery
from potstill.methods.decoupled._statistics import Broad
from potstill.methods.decoupled._turn import in_turn
from potstill.methods.engine import AUTO, Auto

__all__ = ["Broadly"]


@dataclass(frozen=True, kw_only=True)
class Broadly:
    """One teacher after the other, convolutions as well as BatchNorms, and averages over steps."""

    fractions: ClassVar[tuple[str, ...]] = ("crop", "milestone", "memory", "drop")
    positive: ClassVar[tuple[str, ...]] = ("temperature", "tau")

    memory: Auto[float] = AUTO
    """What the averages over steps keep in each."""
    cell: Auto[int] = AUTO
    """Pixels along the side of a cell of a convolution's input (recover/utils.py, ConvFeatureHook): by the data's size,
    4 for pictures as small as CIFAR's and Tiny-ImageNet's, 16 for ImageNet's."""
    drop: float = 0.0
    """The probability that a convolution is left out of a step (drop_rate there)."""
    densify: float = 0.0
    """ν: weight of data densification."""
    tau: float = 4.0
    """τ: its temperature."""

    def broadly(self, usual: Recovery, first: float, category: float | None = None) -> Recovery:
        """A recovery with these settings; for the other arguments see `Broad`."""
        match = Broad(first=first, memory=self.memory, cell=self.cell, drop=self.drop, category=category)
        prior = replace(usual.prior, densify=self.densify, tau=self.tau)
        return replace(usual, voices=in_turn, match=match, prior=prior)
