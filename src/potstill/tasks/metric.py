"""What a score is."""

import math
from dataclasses import dataclass
from typing import Literal

__all__ = ["Metric"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """What a score is: its name, which way is better, what it is counted in, and where it can lie."""

    name: str
    direction: Literal["higher", "lower"]
    unit: str
    """What one is: ``fraction``, ``squared deviations``, what a column is measured in."""
    low: float = 0.0
    high: float = math.inf

    def better(self, a: float, b: float) -> bool:
        """Whether ``a`` is a better score than ``b``."""
        return a > b if self.direction == "higher" else a < b

    def shown(self, value: float) -> str:
        """A score for people: per cent of a fraction, else four digits."""
        return f"{100 * value:.1f}%" if self.unit == "fraction" else f"{value:.4g}"
