"""A limit of time as a value: how long, and since when it runs."""

import time
from dataclasses import dataclass, field

__all__ = ["TimeLimit"]


@dataclass(frozen=True, slots=True)
class TimeLimit:
    """A limit of wall-clock time that is handed on, so that everything that a command does counts."""

    seconds: float
    started: float = field(default_factory=time.monotonic)
    """By `time.monotonic`."""

    @property
    def elapsed(self) -> float:
        """Seconds since it began."""
        return time.monotonic() - self.started

    @property
    def remaining(self) -> float:
        """Seconds until it is reached, 0 at least."""
        return max(0.0, self.seconds - self.elapsed)

    @property
    def exceeded(self) -> bool:
        """Whether more than a tenth over it was taken."""
        return self.elapsed > 1.1 * self.seconds
