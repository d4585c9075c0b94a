"""Means with intervals, and differences that are claimed only when their interval excludes zero.

An accuracy is a proportion: the part of ``answers`` test samples that a student gets right. Student's t knows nothing
of that. It leaves [0, 1], and for two students that agree it has no width, as if there were no doubt. So an interval of
accuracies here is the wider of two, end by end:

- Student's t over the runs, cut off at 0 and 1. Accuracies cannot lie beyond, so cutting costs no coverage
  (Mandelkern, Statistical Science 17, 2002).
- Wilson's score interval of all answers of all runs, n · ``answers`` of them (Wilson, JASA 22, 1927; as recommended by
  Brown, Cai and DasGupta, Statistical Science 16, 2001). It lies in [0, 1] and always has a width. Answers of students
  of one set are not drawn anew for each, so it is no exact interval of their spread: it is a floor, about as wide as
  the spread of students whose answers are independent, and it decides only where t is narrower than that.

For a difference of accuracies likewise: Welch's interval, cut off at −1 and 1, and Newcombe's of two Wilson intervals
(Statistics in Medicine 17, 1998, method 10). Without ``answers`` values are any numbers: t, cut off where a score ends
(an error cannot be below 0), and no interval where all values are equal, which says as little of their spread as a
single one.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.special import ndtri, stdtr, stdtrit  # type: ignore[import-untyped]  # scipy.stats takes ten times as long

from potstill.core import Metric

__all__ = ["INTERVAL", "PLAIN_INTERVAL", "answers_of", "difference", "holm", "paired", "summary"]

INTERVAL = (
    "Student's t over students of this one set, and no narrower than Wilson's of all their answers, two-sided 95%"
)
PLAIN_INTERVAL = "Student's t over students of this one set, two-sided 95%"
_Z = float(ndtri(0.975))


def answers_of(metric: Metric, samples: int) -> int | None:
    """How many answers a score is the part of: the test samples, of a fraction in [0, 1]; of other scores ``None``."""
    return samples if (metric.unit, metric.low, metric.high) == ("fraction", 0.0, 1.0) else None


def summary(values: Sequence[float], answers: int | None = None, low: float = -math.inf) -> dict[str, Any]:
    """``mean``, ``std`` (n − 1), ``ci95``, both ``None`` for one value, ``n`` and the ``values``.

    Args:
        values: one for each run.
        answers: where each value is the part that is right of so many test samples (or a mean of such parts): their
            number. Then ``ci95`` lies in [0, 1] and has a width; else it is Student's t, and ``None`` without spread.
        low: no value can be lower.
    """
    x = np.asarray(values, dtype=np.float64)
    n, mean = len(x), float(x.mean())
    std = float(x.std(ddof=1)) if n > 1 else None
    ci: list[float] | None = None
    if std is not None and (std > 0 or answers is not None):
        half = float(stdtrit(n - 1, 0.975)) * std / math.sqrt(n)
        ci = [max(low, mean - half), mean + half]
        if answers is not None:
            least, most = _wilson(mean, n * answers)
            ci = [max(0.0, min(ci[0], least)), min(1.0, max(ci[1], most))]
    return {"mean": mean, "std": std, "ci95": ci, "n": n, "values": [float(v) for v in x]}


def difference(
    a: Sequence[float], b: Sequence[float], answers: int | None = None, *, fixed: bool = False
) -> dict[str, Any]:
    """``mean(a) − mean(b)``, its 95% interval and a two-sided p.

    Interval and p are ``None`` below two values each; without ``answers`` also where neither side has any spread.

    Args:
        a, b: one value for each run.
        answers: as for `summary`; of either side.
        fixed: ``a`` is one value that no other run could change, so that all spread is that of ``b``.
    """
    x, y = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    gap = float(x.mean() - y.mean())
    fixed = fixed and len(x) == 1
    if len(y) < 2 or (len(x) < 2 and not fixed):
        return {"mean": gap, "ci95": None, "p": None}
    vx, vy = 0.0 if fixed else float(x.var(ddof=1)) / len(x), float(y.var(ddof=1)) / len(y)
    if vx + vy == 0 and answers is None:
        return {"mean": gap, "ci95": None, "p": None}
    ci, p = [gap, gap], 0.0
    if vx + vy > 0:
        df = (vx + vy) ** 2 / (vx**2 / max(1, len(x) - 1) + vy**2 / (len(y) - 1))
        error = math.sqrt(vx + vy)
        half = float(stdtrit(df, 0.975)) * error
        ci, p = [gap - half, gap + half], float(2 * stdtr(df, -abs(gap) / error))
    return {"mean": gap, **_no_narrower(ci, p, float(x.mean()), float(y.mean()), len(x), len(y), answers)}


def paired(a: Sequence[float], b: Sequence[float], answers: int | None = None) -> dict[str, Any]:
    """``mean(a − b)`` of values that belong together in pairs, its 95% interval and a two-sided p, by Student's t.

    Interval and p are ``None`` below two pairs; without ``answers`` also where all differences are equal.

    Args:
        a, b: one value for each pair, such as the means of two methods' sets of one seed.
        answers: as for `summary`, of all students behind one value. Their test samples are the same, which a t-test of
            few pairs does not see: p is no smaller and the interval no narrower than of all answers.

    Raises:
        ValueError: ``a`` and ``b`` are not of one length.
    """
    x, y = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if len(x) != len(y):
        raise ValueError(f"pairs need as many values on both sides, not {len(x)} and {len(y)}")
    n, gap = len(x), float((x - y).mean()) if len(x) else math.nan
    std = float((x - y).std(ddof=1)) if n > 1 else 0.0
    if n < 2 or (std == 0 and answers is None):
        return {"mean": gap, "ci95": None, "p": None}
    half = float(stdtrit(n - 1, 0.975)) * std / math.sqrt(n)
    ci, p = [gap - half, gap + half], 0.0 if std == 0 else float(2 * stdtr(n - 1, -abs(gap) / (std / math.sqrt(n))))
    return {"mean": gap, **_no_narrower(ci, p, float(x.mean()), float(y.mean()), n, n, answers)}


def holm(p: Sequence[float | None]) -> list[float | None]:
    """p-values of one family corrected by Holm's step-down rule: the chance of one false claim among all stays below
    the level (Scandinavian Journal of Statistics 6, 1979). ``None``, a test that could not be made, is left out."""
    known = sorted((value, at) for at, value in enumerate(p) if value is not None)
    found: list[float | None] = [None] * len(p)
    least = 0.0
    for rank, (value, at) in enumerate(known):
        least = max(least, min(1.0, (len(known) - rank) * value))
        found[at] = least
    return found


def _no_narrower(
    ci: list[float], p: float, mx: float, my: float, n: int, m: int, answers: int | None
) -> dict[str, Any]:
    """Interval and p of a difference of means of ``n`` and ``m`` values, no surer than their answers allow."""
    if answers is not None:
        (lx, ux), (ly, uy), gap = _wilson(mx, n * answers), _wilson(my, m * answers), mx - my
        low, high = gap - math.hypot(mx - lx, uy - my), gap + math.hypot(ux - mx, my - ly)
        ci = [max(-1.0, min(ci[0], low)), min(1.0, max(ci[1], high))]
        p = max(p, _p_of_two(mx, my, n * answers, m * answers))
    return {"ci95": ci, "p": p}


def _wilson(part: float, answers: int) -> tuple[float, float]:
    """Wilson's score interval of a proportion, in [0, 1]."""
    part = min(1.0, max(0.0, part))
    square = _Z**2 / answers
    centre = (part + square / 2) / (1 + square)
    half = _Z / (1 + square) * math.sqrt(part * (1 - part) / answers + square / (4 * answers))
    return max(0.0, min(part, centre - half)), min(1.0, max(part, centre + half))


def _p_of_two(a: float, b: float, m: int, k: int) -> float:
    """Two-sided p of the score test of two proportions of ``m`` and ``k`` answers."""
    both = (m * a + k * b) / (m + k)
    error = math.sqrt(both * (1 - both) * (1 / m + 1 / k))
    return 1.0 if error == 0 or a == b else math.erfc(abs(a - b) / error / math.sqrt(2))
