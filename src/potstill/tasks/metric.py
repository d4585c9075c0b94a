"""Metric of a task."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

__all__ = ["Metric"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """Metric: name, better direction, unit and range."""

    name: str
    direction: Literal["higher", "lower"]
    unit: str
    """``fraction``, ``squared deviations``, or the unit of a column."""
    low: float = 0.0
    high: float = math.inf

    @classmethod
    def from_scorecard(cls, scorecard: Mapping[str, Any] | None) -> "Metric":
        """Return the metric of a scorecard; accuracy where it names none."""
        found = (scorecard or {}).get("score")
        values = found if isinstance(found, Mapping) else {}
        name, unit = str(values.get("metric", "accuracy")), str(values.get("unit", "fraction"))
        return cls(
            name=name, direction="lower" if values.get("direction") == "lower" else "higher", unit=unit,
            high=1.0 if unit == "fraction" else math.inf,
        )  # fmt: skip

    @property
    def to_dict(self) -> dict[str, str]:
        """Metric as a scorecard has it."""
        return {"metric": self.name, "direction": self.direction, "unit": self.unit}

    @property
    def sign(self) -> int:
        """1 where higher is better, −1 where lower is."""
        return 1 if self.direction == "higher" else -1

    def better(self, a: float, b: float) -> bool:
        """Return True if score ``a`` is better than ``b``."""
        return a > b if self.direction == "higher" else a < b

    def format(self, value: float) -> str:
        """Return a score as text: per cent of a fraction, else four digits."""
        return f"{100 * value:.1f}%" if self.unit == "fraction" else f"{value:.4g}"

    def format_difference(self, value: float) -> str:
        """Return a signed difference as text: points of a fraction, else four digits."""
        return f"{100 * value:+.1f}" if self.unit == "fraction" else f"{value:+.4g}"

    @property
    def difference_unit(self) -> str:
        """Unit of a difference."""
        return "points" if self.unit == "fraction" else self.unit

    @property
    def column_title(self) -> str:
        """Column title: name and unit, with a note where lower is better."""
        unit = "" if self.unit == "fraction" or self.unit == self.name else f" ({self.unit})"
        return f"{self.name}{unit}" + (", less is better" if self.direction == "lower" else "")
