"""Means with intervals, and differences that are claimed only when their interval excludes zero.

A score is a mean over m test samples and n students, and both were drawn. Its variance has a part of the samples,
σ_s²/m, which more students do not lessen, a part of the students, σ_n²/n, which more samples do not lessen, and one of
their interaction, σ_e²/(mn). An interval that holds for new data of this kind (``ci95``) counts all three. From the
scores of single test samples (`SampleScores`) they are estimated as in an analysis of variance with two crossed random
factors:

    R = var(means of samples)/m,  C = var(means of students)/n,  E = residual mean square/(mn),
    S = max(0, C − E),            V = R + S                      (R counts the interaction once)

The half width is √V times a quantile. Satterthwaite's t (Biometrics Bulletin 2, 1946) takes all degrees of freedom from
V and is a little too narrow where S and R are alike and n is 2; Banerjee's sum of squared quantiles (Sankhyā 22, 1960)
is never too narrow, and too wide there. The geometric mean of the two misses 3 to 7 in 100 on real data
(``benchmarks/coverage.py``). S weighs by how much of C it is, as S is nothing but noise where E is all of C.

An accuracy is a proportion, so its interval has Wilson's shape (JASA 22, 1927), which stays in [0, 1] and has a width
where all answers are right: that of as many independent answers as have the variance V. For this variance one test
sample (z²/4) of a proportion of ½ that all students answer alike counts besides, so that without any error the interval
is that of m answers and not of n·m.

A difference of two methods on the same test samples has R of the differences sample by sample; students are
independent, so that S is the sum of both sides. Interval and p are of one function: p is the level at which the
interval ends at 0. Values that belong together (`paired`: sets of one seed) have a column for each pair.

What is known of the test samples may be less:

- their number alone (``answers``, of scores that are the part of them that is right): then R = p(1−p)/m, the most that
  it can be, and S = C; two sides are independent;
- nothing: then intervals are Student's t over the values and hold *on these test samples*.

``ci95_same_test`` is the narrower interval on these test samples, other students or sets, wherever ``ci95`` is not. One
student shows no spread of students: its ``ci95`` is of this one student, and a difference is not tested.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.special import ndtri, stdtr, stdtrit  # type: ignore[import-untyped]  # scipy.stats takes ten times as long

from potstill.core import Metric
from potstill.evaluation.samples import SampleScores

__all__ = [
    "INTERVAL", "ONE_INTERVAL", "PLAIN_INTERVAL", "count_answers", "difference", "holm_correction", "paired_difference",
    "summary",
]  # fmt: skip

INTERVAL = (
    "for new test samples and new students of this set (crossed random effects; of fractions in Wilson's shape), "
    "two-sided 95%; ci95_same_test: Student's t over students, on these test samples alone"
)
ONE_INTERVAL = "for new test samples and this one student, two-sided 95%: one student shows no spread of students"
PLAIN_INTERVAL = "on these test samples: Student's t over students of this one set, two-sided 95%"
_Z = float(ndtri(0.975))
_ALIKE = _Z**2 / 4
"""Added to the sum of squares of test samples: one sample's worth of doubt, as in Wilson's interval."""
_OF_SCORE, _OF_PAIRS = 0.125, 1.0
_FLIP = 0.25
"""For differences, in squared answers: a quarter of one answer may always flip. Ours, by ``coverage.py``."""


def count_answers(metric: Metric, samples: int) -> int | None:
    """Return the number of test samples if the metric is a fraction of them in [0, 1], else ``None``."""
    return samples if (metric.unit, metric.low, metric.high) == ("fraction", 0.0, 1.0) else None


def summary(
    values: Sequence[float], answers: int | None = None, low: float = -math.inf, *, samples: SampleScores | None = None
) -> dict[str, Any]:
    """Return ``mean``, ``std`` (n − 1), ``ci95``, ``n`` and the ``values``; unknown numbers are ``None``.

    Args:
        values: one for each student (or set).
        answers: number of test samples of which each value is the fraction that is right (or a mean of such
            fractions). Then ``ci95`` lies in [0, 1] and has a width.
        low: lower bound of all values.
        samples: scores of the single test samples behind the values.
    """
    x = np.asarray(values, dtype=np.float64)
    n, mean = len(x), float(x.mean())
    std = float(x.std(ddof=1)) if n > 1 else None
    result: dict[str, Any] = {"mean": mean, "std": std, "ci95": None, "n": n, "values": [float(v) for v in x]}
    columns = [_columns(x, samples)] if n > 1 else []
    same = _same_test(mean, columns)["ci95"]
    if same is not None:
        same = [max(low, same[0]), same[1]] if answers is None else [max(0.0, same[0]), min(1.0, same[1])]
    if answers is None and samples is None:
        return result | {"ci95": same}
    result["ci95"] = _of_score(columns, mean, answers, low, samples)
    return result | {"ci95_same_test": _within(same, result["ci95"])}


def difference(
    a: Sequence[float],
    b: Sequence[float],
    answers: int | None = None,
    *,
    fixed: bool = False,
    samples: tuple[SampleScores | None, SampleScores | None] = (None, None),
) -> dict[str, Any]:
    """Return ``mean(a) − mean(b)``, its 95% interval and a two-sided p, for sides with independent students.

    Interval and p are ``None`` below two students each, and where there is no spread of any kind.

    Args:
        a, b: one value for each student.
        answers: as for `summary`; of either side.
        fixed: students are deterministic, so one value is a side's only value; all spread comes from the test samples
            and from sides with several values (draws of the set).
        samples: of either side, the scores of the same single test samples.
    """
    x, y = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    gap = float(x.mean() - y.mean())
    both = _pair(samples)
    alone = [len(side) < 2 for side in (x, y)]
    if any(alone) and not (fixed and alone[0] and (both is not None or not alone[1])):
        return {"mean": gap, "ci95": None, "p": None}
    columns = [_columns(v, s) for v, s in zip((x, y), both or (None, None), strict=True) if len(v) > 1]
    spread = None if answers is None else _unseen(x, y, answers, columns)
    if both is not None:
        rows = both[0].rows - both[1].rows
        spread = _Spread(*_of_rows(rows, gap, answers, math.sqrt(len(x) * len(y))), columns)
    return _tested(gap, columns, spread, answers)


def paired_difference(
    a: Sequence[float], b: Sequence[float], answers: int | None = None, *, samples: SampleScores | None = None,
    students: int = 1,
) -> dict[str, Any]:  # fmt: skip
    """Return ``mean(a − b)`` of paired values, its 95% interval and a two-sided p.

    Interval and p are ``None`` below two pairs, and where there is no spread of any kind.

    Args:
        a, b: one value for each pair, such as the means of two methods' sets of one seed.
        answers: as for `summary`: the test samples behind one value.
        samples: differences of the single test samples, a column for each pair.
        students: behind each value.

    Raises:
        ValueError: ``a`` and ``b`` differ in length.
    """
    x, y = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if len(x) != len(y):
        raise ValueError(f"pairs need as many values on both sides, not {len(x)} and {len(y)}")
    n, gap = len(x), float((x - y).mean()) if len(x) else math.nan
    if n < 2:
        return {"mean": gap, "ci95": None, "p": None}
    columns = [_columns(x - y, samples)]
    spread = None if answers is None else _unseen(x, y, answers, columns)
    if samples is not None:
        spread = _Spread(*_of_rows(samples.rows, gap, answers, n * students), columns, _OF_PAIRS)
    return _tested(gap, columns, spread, answers)


def holm_correction(p: Sequence[float | None]) -> list[float | None]:
    """Return the p-values of one family corrected by Holm's step-down rule, which bounds the chance of one false claim
    (Scandinavian Journal of Statistics 6, 1979). ``None``, a test that could not be made, is skipped.
    """
    known = sorted((value, at) for at, value in enumerate(p) if value is not None)
    corrected: list[float | None] = [None] * len(p)
    least = 0.0
    for rank, (value, at) in enumerate(known):
        least = max(least, min(1.0, (len(known) - rank) * value))
        corrected[at] = least
    return corrected


class _Columns(NamedTuple):
    """Variance of a mean over students (or sets) of one side."""

    all: float
    """C: of the students' means over n."""
    noise: float
    """E: the part of C that is the test samples' chance within each student."""
    df: int

    @property
    def excess(self) -> float:
        """Variance of the students alone, S."""
        return max(0.0, self.all - self.noise)


class _Spread(NamedTuple):
    """Variance of a score or a difference by source."""

    rows: float
    """R: from the test samples."""
    df: float
    columns: Sequence[_Columns]
    noise: float | None = None
    """Share of E that gets the wide quantile of the columns. ``None`` for two sides: S is weighed by its share of C. A
    single column of two or three is small by chance so often that it needs some of it. Ours, by ``coverage.py``.
    """

    @property
    def total(self) -> float:
        return self.rows + sum(c.excess for c in self.columns)

    @property
    def half(self) -> Callable[[float], float]:
        """Half width of the two-sided interval as a function of the level."""
        v, rows = self.total, self.df
        if v == 0:
            return lambda level: 0.0
        doubt = self.rows**2 / rows + sum(c.excess * c.all / c.df for c in self.columns)
        df = max(1.0, v**2 / doubt) if doubt > 0 else math.inf
        parts = [
            (c.df, c.excess**2 / c.all if self.noise is None else c.excess + self.noise * (c.all - c.excess))
            for c in self.columns if c.all > 0
        ]  # fmt: skip

        def half(level: float) -> float:
            of_rows = float(stdtrit(rows, level / 2)) ** 2
            banerjee = v * of_rows + sum(max(0.0, float(stdtrit(n, level / 2)) ** 2 - of_rows) * s for n, s in parts)
            return math.sqrt(-float(stdtrit(df, level / 2)) * math.sqrt(v * banerjee))

        return half


def _columns(values: Float[np.ndarray, " n"], samples: SampleScores | None) -> _Columns:
    n = len(values)
    noise = 0.0 if samples is None else samples.residual / (samples.rows.size * n)
    alike = values.min() == values.max()  # the variance of equal numbers is not 0 but rounding
    return _Columns(0.0 if alike else float(values.var(ddof=1)) / n, noise, n - 1)


def _unseen(x: Float[np.ndarray, " n"], y: Float[np.ndarray, " k"], answers: int, columns: list[_Columns]) -> _Spread:
    """Spread of a difference of fractions when single test scores are not available."""
    return _Spread(sum(_most(float(v.mean()), answers) for v in (x, y)), max(1.0, answers - 1), columns)


def _of_score(
    columns: list[_Columns], mean: float, answers: int | None, low: float, samples: SampleScores | None
) -> list[float] | None:
    if samples is None:
        assert answers is not None
        rows, df = mean * (1 - mean) / answers, math.inf
    else:
        rows, df = float(samples.rows.var(ddof=1)) / samples.rows.size, samples.rows.size - 1.0
        # a proportion's variance is known with it, which is what Wilson's interval makes use of
        df = math.inf if answers == samples.rows.size else df
    spread = _Spread(rows, max(1.0, df), columns, _OF_SCORE)
    v = spread.total
    quantile = spread.half(0.05) / math.sqrt(v) if v > 0 else -float(stdtrit(max(1.0, df), 0.025))
    if answers is None:
        return [max(low, mean - quantile * math.sqrt(v)), mean + quantile * math.sqrt(v)] if v > 0 else None
    part = min(1.0, max(0.0, mean))
    one = part * (1 - part)
    of_samples = (answers**2 * rows + _ALIKE) / (answers * one + _ALIKE) / answers
    return list(_wilson(part, 1 / (of_samples + (v - rows) / (one + _ALIKE / answers)), quantile))


def _of_rows(rows: Float[np.ndarray, " m"], gap: float, answers: int | None, students: float) -> tuple[float, float]:
    """R of differences of samples (or groups of them), each of so many students, and its degrees of freedom.

    Of fractions no difference is sure to the last answer: `_FLIP` counts besides, and as much as two samples
    where one side has all and the other nothing.
    """
    m = rows.size
    squares = float(np.square(rows - rows.mean()).sum())
    if answers is not None:
        squares += (_FLIP / students**2 + 2 * _ALIKE * gap**2) * (m / answers) ** 2
    return squares / (m - 1) / m, float(m - 1)


def _most(part: float, answers: int) -> float:
    """Maximum variance of a proportion from the chance of test samples; two right and two wrong answers count besides
    (Agresti and Caffo, The American Statistician 54, 2000).
    """
    part = (min(1.0, max(0.0, part)) * answers + 2) / (answers + 4)
    return part * (1 - part) / answers


def _claim(gap: float, spread: _Spread, answers: int | None) -> dict[str, Any]:
    if spread.total == 0:
        return {"ci95": None, "p": None}
    half = spread.half(0.05)
    ci = [gap - half, gap + half]
    if answers is not None:
        ci = [max(-1.0, ci[0]), min(1.0, ci[1])]
    return {"ci95": ci, "p": _level(abs(gap), spread)}


def _tested(gap: float, columns: list[_Columns], spread: _Spread | None, answers: int | None) -> dict[str, Any]:
    """Return a difference with both intervals and p; without a spread for new test samples, those on these."""
    same = _same_test(gap, columns)
    if spread is None:
        return {"mean": gap, **same}
    found = _claim(gap, spread, answers)
    return {"mean": gap, **found, "ci95_same_test": _within(same["ci95"], found["ci95"])}


def _same_test(gap: float, columns: list[_Columns]) -> dict[str, Any]:
    """Return interval and p on these test samples: E counts as C does, and is known better than C. Without scores of
    single samples Welch's, and of one column Student's t.
    """
    v = sum(c.all for c in columns)
    if v == 0:
        return {"ci95": None, "p": None}
    if any(c.noise > 0 for c in columns):
        return _claim(gap, _Spread(sum(c.noise for c in columns), math.inf, columns), None)
    df, error = v**2 / sum(c.all**2 / c.df for c in columns), math.sqrt(v)
    half = float(stdtrit(df, 0.975)) * error
    return {"ci95": [gap - half, gap + half], "p": float(2 * stdtr(df, -abs(gap) / error))}


def _within(same: list[float] | None, new: list[float] | None) -> list[float] | None:
    """Clip an interval on these test samples to that for new ones, which is nowhere narrower."""
    return same if same is None or new is None else [max(same[0], new[0]), min(same[1], new[1])]


def _level(gap: float, spread: _Spread) -> float:
    """Return the level at which an interval of a difference ends at 0: its p."""
    if gap == 0:
        return 1.0
    half, low, high = spread.half, -230.0, 0.0  # of its logarithm
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if half(math.exp(middle)) > gap else (low, middle)
    return math.exp(high)


def _pair(samples: tuple[SampleScores | None, SampleScores | None]) -> tuple[SampleScores, SampleScores] | None:
    """Return both, if they have the same test samples."""
    one, other = samples
    return None if one is None or other is None or one.rows.size != other.rows.size else (one, other)


def _wilson(part: float, answers: float, z: float) -> tuple[float, float]:
    """Return Wilson's score interval of a proportion, in [0, 1]."""
    square = z**2 / answers
    centre = (part + square / 2) / (1 + square)
    half = z / (1 + square) * math.sqrt(part * (1 - part) / answers + square / (4 * answers))
    return max(0.0, min(part, centre - half)), min(1.0, max(part, centre + half))
