"""What a score is."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

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

    @classmethod
    def from_scorecard(cls, scorecard: Mapping[str, Any] | None) -> "Metric":
        """What a scorecard's scores are; accuracy, in one of before there was anything else."""
        found = (scorecard or {}).get("score")
        said = found if isinstance(found, Mapping) else {}
        name, unit = str(said.get("metric", "accuracy")), str(said.get("unit", "fraction"))
        return cls(
            name=name, direction="lower" if said.get("direction") == "lower" else "higher", unit=unit,
            high=1.0 if unit == "fraction" else math.inf,
        )  # fmt: skip

    @property
    def to_dict(self) -> dict[str, str]:
        """As a scorecard has it."""
        return {"metric": self.name, "direction": self.direction, "unit": self.unit}

    @property
    def sign(self) -> int:
        """1 where a better score is higher, −1 where it is lower."""
        return 1 if self.direction == "higher" else -1

    def better(self, a: float, b: float) -> bool:
        """Whether ``a`` is a better score than ``b``."""
        return a > b if self.direction == "higher" else a < b

    def format(self, value: float) -> str:
        """A score for people: per cent of a fraction, else four digits."""
        return f"{100 * value:.1f}%" if self.unit == "fraction" else f"{value:.4g}"

    def format_difference(self, value: float) -> str:
        """A difference for people, with its sign: points of a fraction, else four digits."""
        return f"{100 * value:+.1f}" if self.unit == "fraction" else f"{value:+.4g}"

    @property
    def difference_unit(self) -> str:
        """What a difference is counted in."""
        return "points" if self.unit == "fraction" else self.unit

    @property
    def column_title(self) -> str:
        """Its name as a column has it: with its unit, and said where less is better."""
        unit = "" if self.unit == "fraction" or self.unit == self.name else f" ({self.unit})"
        return f"{self.name}{unit}" + (", less is better" if self.direction == "lower" else "")
