"""How often intervals hold what they say, by simulation: new test samples and new students for every interval.

A sample is right where its difficulty, the student's skill and chance say so, which is as students of one small set
behave: most of what one gets wrong the others get wrong, too. ``benchmarks/coverage.py`` counts the same on real data.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from scipy import stats

from potstill.evaluation.samples import SampleScores
from potstill.evaluation.statistics import difference, summary

TIMES = 800


def students(rng: np.random.Generator, ease: np.ndarray, n: int, skill: float) -> np.ndarray:
    """Right (1) or wrong (0), students × samples."""
    found: np.ndarray = ease + rng.normal(0, 0.07, (n, 1)) + rng.normal(0, 0.6, (n, len(ease))) > -skill
    return found.astype(float)


def truth(skill: float) -> float:
    return float(stats.norm.cdf(skill / math.sqrt(1 + 0.07**2 + 0.6**2)))


def old_interval(values: Sequence[float], answers: int) -> tuple[float, float]:
    """Student's t over students and no narrower than Wilson's of all their answers: what was said before."""
    n, mean = len(values), float(np.mean(values))
    half = float(stats.t.ppf(0.975, n - 1) * np.std(values, ddof=1) / math.sqrt(n))
    wilson = stats.binomtest(round(n * mean * answers), n * answers).proportion_ci(method="wilson")
    return min(mean - half, wilson.low), max(mean + half, wilson.high)


def misses(m: int, n: int, interval: Callable[[np.ndarray], Sequence[float]], seed: int) -> float:
    """In per cent, of a score."""
    rng, skill = np.random.default_rng(seed), 1.2
    wrong = 0
    for _ in range(TIMES):
        low, high = interval(students(rng, rng.normal(0, 1, m), n, skill))
        wrong += not low <= truth(skill) <= high
    return 100 * wrong / TIMES


def new_interval(matrix: np.ndarray) -> Sequence[float]:
    found: list[float] = summary(matrix.mean(1).tolist(), matrix.shape[1], samples=SampleScores.from_matrix(matrix))[
        "ci95"
    ]
    return found


@pytest.mark.parametrize(("m", "n"), [(40, 2), (40, 5), (100, 10), (300, 2), (300, 5), (1000, 3)])
def test_the_interval_of_a_score_holds_for_new_samples_and_students(m: int, n: int) -> None:
    # 800 draws: a rate of 5 is seen between 3.4 and 6.6 in 95 of 100; the bounds leave room for both ends of 3 to 7
    assert 2 <= misses(m, n, new_interval, seed=m + n) <= 8


@pytest.mark.parametrize(("m", "n"), [(40, 5), (300, 10)])
def test_the_interval_over_students_alone_did_not(m: int, n: int) -> None:
    assert misses(m, n, lambda x: old_interval(x.mean(1).tolist(), x.shape[1]), seed=m + n) > 15


def differences(m: int, n: int, gap: float, seed: int) -> list[dict[str, Any]]:
    """Of two sets whose students find the same samples hard."""
    rng, found = np.random.default_rng(seed), []
    for _ in range(TIMES):
        ease = rng.normal(0, 1, m)
        own = rng.normal(0, 0.3, (2, m))  # what either set teaches otherwise
        a, b = (students(rng, ease + of, n, 1.2 + by) for of, by in zip(own, (0.0, -gap), strict=True))
        pair = SampleScores.from_matrix(a), SampleScores.from_matrix(b)
        found.append(difference(a.mean(1).tolist(), b.mean(1).tolist(), m, samples=pair))
    return found


@pytest.mark.slow
@pytest.mark.parametrize(("m", "n"), [(40, 2), (100, 5), (300, 10), (1000, 2)])
def test_the_interval_of_a_difference_holds_and_equal_methods_are_not_told_apart(m: int, n: int) -> None:
    level = differences(m, n, 0.0, seed=m + n)
    called = 100 * np.mean([found["p"] <= 0.05 for found in level])
    assert called <= 8
    assert called == 100 * np.mean([not found["ci95"][0] <= 0 <= found["ci95"][1] for found in level])
    wide = math.sqrt(1 + 0.3**2 + 0.07**2 + 0.6**2)
    true = float(stats.norm.cdf(1.2 / wide) - stats.norm.cdf(1.0 / wide))
    found = differences(m, n, 0.2, seed=m + n)
    missed = 100 * np.mean([not one["ci95"][0] <= true <= one["ci95"][1] for one in found])
    assert 1.5 <= missed <= 8
    claims = [one for one in found if one["p"] <= 0.05]
    assert sum(one["mean"] < 0 for one in claims) <= 0.05 * len(claims) + 1, "the wrong sign"


def test_students_add_no_certainty_about_the_samples() -> None:
    rng = np.random.default_rng(3)
    widths = []
    for n in (5, 50):
        low, high = new_interval(students(rng, np.random.default_rng(4).normal(0, 1, 100), n, 1.2))
        widths.append(high - low)
    assert widths[1] > 0.7 * widths[0]
