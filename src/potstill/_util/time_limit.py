"""Wall-clock time limit."""

import time
from dataclasses import dataclass, field

__all__ = ["TimeLimit"]


@dataclass(frozen=True, slots=True)
class TimeLimit:
    """Time limit and its start, so that all parts of a command count."""

    seconds: float
    started: float = field(default_factory=time.monotonic)
    """Value of `time.monotonic` at the start."""

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.started

    @property
    def remaining(self) -> float:
        """Seconds left, at least 0."""
        return max(0.0, self.seconds - self.elapsed)

    @property
    def exceeded(self) -> bool:
        """True at more than 110 % of the limit."""
        return self.elapsed > 1.1 * self.seconds
