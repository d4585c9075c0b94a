"""Numbers from results JSON and their display. Fractions inside, percent only here."""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from potstill.errors import PotstillError
from potstill.tasks.metric import Metric

__all__ = [
    "ACCURACY",
    "Estimate",
    "format_count",
    "format_difference",
    "format_duration",
    "format_interval",
    "format_percent",
    "format_score",
    "format_size",
    "read_json",
    "shorten",
    "significant",
    "to_estimate",
    "to_number",
    "verdict",
]  # fmt: skip


ACCURACY = Metric.from_scorecard(None)


def shorten(text: str, most: int = 80) -> str:
    """Return the first clause of a message, cut between words if it is longer than ``most`` characters."""
    line = " ".join(text.split())
    found = re.split(r"(?<=[.;])\s", line, maxsplit=1)[0].rstrip(";")
    if len(found) <= most:
        return found
    cut = found[: most - 2]
    return f"{cut[: cut.rfind(' ')] if ' ' in cut[most // 2 :] else cut} …"


def read_json(path: Path, remedy: str) -> Any:
    """Return the JSON value in a file.

    Args:
        remedy: end of the message where it is none.

    Raises:
        PotstillError: the file cannot be read, or is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise PotstillError(f"{path}: cannot be read ({error.strerror or error}); check the path") from error
    except (ValueError, RecursionError) as error:
        line = " ".join(str(error).split())[:200]
        raise PotstillError(f"{path}: not valid JSON ({line}); {remedy}") from error


def to_number(value: object) -> float | None:
    """Return a finite number, else ``None`` (missing, null, NaN, a word)."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        exact = float(value)
    except OverflowError:
        return None
    return exact if math.isfinite(exact) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A mean over ``n`` runs with its spread and its 95% interval: of fractions or another score, or a difference.

    ``low`` and ``high`` are ``None`` where there is no interval (one run, or none written).
    """

    mean: float
    std: float | None = None
    low: float | None = None
    high: float | None = None
    n: int | None = None

    def __sub__(self, other: "Estimate") -> "Estimate":
        """Return the difference of two independent estimates with its 95% interval.

        The interval is combined from the two intervals (MOVER: Zou and Donner, Statistics in Medicine 27, 2008), so
        that it needs only the scorecard. For t intervals of equally many runs it is no narrower than Welch's.
        """
        mean = self.mean - other.mean
        if self.low is None or self.high is None or other.low is None or other.high is None:
            return Estimate(mean=mean)
        low = mean - math.hypot(self.mean - self.low, other.high - other.mean)
        high = mean + math.hypot(self.high - self.mean, other.mean - other.low)
        return Estimate(mean=mean, low=low, high=high)


def to_estimate(value: object, n: object = None) -> Estimate | None:
    """Return an estimate from ``{"mean", "std", "ci95", "n"}`` or from a bare number; ``None`` if there is no mean.

    Args:
        value: a JSON value.
        n: the number of runs if ``value`` does not give it.
    """
    if not isinstance(value, Mapping):
        mean = to_number(value)
        return None if mean is None else Estimate(mean=mean)
    if (mean := to_number(value.get("mean"))) is None:
        return None
    runs = to_number(value.get("n", n))
    ends = value.get("ci95")
    low, high = (
        (to_number(ends[0]), to_number(ends[1])) if isinstance(ends, list | tuple) and len(ends) == 2 else (None, None)
    )
    if low is None or high is None or low == high:
        low = high = None  # runs without spread say nothing of it: an interval of width zero would claim certainty
    return Estimate(
        mean=mean, std=to_number(value.get("std")), low=low, high=high, n=None if runs is None else int(runs)
    )


def _signed(value: float, digits: int, plus: bool) -> str:
    shown = f"{value:+.{digits}f}" if plus else f"{value:.{digits}f}"
    if float(shown) == 0:
        shown = shown.lstrip("+-")
    return shown.replace("-", "−")


def format_percent(value: float | None) -> str:
    """Format a fraction as percent with one decimal: 0.9124 is ``91.2%``."""
    return "—" if value is None else f"{_signed(100 * value, 1, False)}%"


def format_score(value: float | None, metric: Metric) -> str:
    """Format a score: percent of a fraction, else four digits."""
    if metric.unit == "fraction":
        return format_percent(value)
    return "—" if value is None else metric.format(value).replace("-", "−")


def format_difference(value: float | None, metric: Metric = ACCURACY) -> str:
    """Format a difference with its sign: fractions in points, 0.091 is ``+9.1``, with two decimals if one shows zero;
    other scores in their unit.
    """
    if value is None:
        return "—"
    if metric.unit != "fraction":
        return metric.format_difference(value).replace("-", "−")
    hundred = 100 * value
    return _signed(hundred, 1 if abs(hundred) >= 0.05 or hundred == 0 else 2, True)


def format_interval(value: Estimate, metric: Metric = ACCURACY, *, difference: bool = False) -> str:
    """Format the two ends of a 95% interval, ``90.8 to 91.6%`` or ``+8.0 to +10.2``; a dash if there is none."""
    if value.low is None or value.high is None:
        return "—"
    if difference:
        return f"{format_difference(value.low, metric)} to {format_difference(value.high, metric)}"
    if metric.unit != "fraction":
        return f"{format_score(value.low, metric)} to {format_score(value.high, metric)}"
    return f"{_signed(100 * value.low, 1, False)} to {format_percent(value.high)}"


def significant(difference: Estimate, metric: Metric = ACCURACY) -> int:
    """Return 1 if the whole interval is on the better side of zero, −1 if on the worse one, 0 if it includes zero or
    there is none.
    """
    if difference.low is None or difference.high is None:
        return 0
    return metric.sign * ((difference.low > 0) - (difference.high < 0))


def verdict(difference: Estimate, other: str, metric: Metric = ACCURACY) -> str:
    """Return the statement about ``difference`` that its interval allows."""
    if difference.low is None:
        return f"not tested against {other}: there is no interval"
    return {1: f"better than {other}", -1: f"worse than {other}", 0: f"not told apart from {other}"}[
        significant(difference, metric)
    ]


def format_count(value: float | None) -> str:
    """Format a whole number with commas."""
    return "—" if value is None else f"{round(value):,}"


def format_size(value: float | None) -> str:
    """Format bytes with a decimal unit: 313600 is ``313.6 kB``."""
    if value is None:
        return "—"
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if value >= scale:
            return f"{value / scale:.1f} {unit}"
    return f"{round(value)} bytes"


def format_duration(seconds: float | None) -> str:
    """Format seconds: ``4.2 s``, ``3 min 20 s``, ``2 h 5 min``."""
    if seconds is None:
        return "—"
    if 0 < seconds < 0.05:
        return "under 0.1 s"
    if seconds < 60:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600:,} h {whole % 3600 // 60} min"
