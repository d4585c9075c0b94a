import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from potstill.evaluation.scores import ars, hlr, ior, lrs
from potstill.evaluation.statistics import difference, summary


def test_summary_is_students_t() -> None:
    values = [0.71, 0.74, 0.69, 0.75, 0.72]
    found = summary(values)
    low, high = stats.t.interval(0.95, 4, loc=np.mean(values), scale=stats.sem(values))
    assert found["mean"] == pytest.approx(0.722)
    assert found["std"] == pytest.approx(np.std(values, ddof=1))
    assert found["ci95"] == pytest.approx([low, high])
    assert (found["n"], found["values"]) == (5, values)


def test_one_value_has_no_interval() -> None:
    assert summary([0.5]) == {"mean": 0.5, "std": None, "ci95": None, "n": 1, "values": [0.5]}
    gap = difference([0.5], [0.25, 0.35])
    assert gap["mean"] == pytest.approx(0.2)
    assert (gap["ci95"], gap["p"]) == (None, None)


@pytest.mark.parametrize("sizes", [(5, 5), (20, 5), (2, 7)])
def test_difference_is_welch(sizes: tuple[int, int]) -> None:
    rng = np.random.default_rng(4)
    a, b = rng.normal(0.7, 0.02, sizes[0]).tolist(), rng.normal(0.68, 0.05, sizes[1]).tolist()
    found, theirs = difference(a, b), stats.ttest_ind(a, b, equal_var=False)
    interval = theirs.confidence_interval(0.95)
    assert found["mean"] == pytest.approx(np.mean(a) - np.mean(b))
    assert found["p"] == pytest.approx(theirs.pvalue)
    assert found["ci95"] == pytest.approx([interval.low, interval.high])


def test_numbers_without_spread_have_no_interval() -> None:
    assert difference([0.5, 0.5], [0.5, 0.5]) == {"mean": 0.0, "ci95": None, "p": None}
    assert difference([0.75, 0.75], [0.5, 0.5]) == {"mean": 0.25, "ci95": None, "p": None}
    assert summary([3.0, 3.0]) == {"mean": 3.0, "std": 0.0, "ci95": None, "n": 2, "values": [3.0, 3.0]}


def test_two_students_that_agree_leave_the_doubt_of_their_answers() -> None:
    for part, answers in ((1.0, 50), (0.9, 500)):
        both = stats.binomtest(round(2 * part * answers), 2 * answers).proportion_ci(method="wilson")
        assert summary([part, part], answers)["ci95"] == pytest.approx(list(both))
    found = difference([0.75, 0.75], [0.5, 0.5], 10)
    assert found["ci95"][0] < 0.25 < found["ci95"][1]
    assert found["p"] == pytest.approx(2 * stats.norm.sf(0.25 / math.sqrt(0.625 * 0.375 * (1 / 20 + 1 / 20))))


def test_a_difference_of_proportions_is_newcombes_where_there_is_no_spread() -> None:
    # Newcombe 1998, Statistics in Medicine 17, table II, method 10: 10/10 − 0/10
    assert difference([1.0, 1.0], [0.0, 0.0], 5)["ci95"] == pytest.approx([0.6075, 1.0], abs=1e-4)


accuracies = st.integers(1, 400).flatmap(
    lambda answers: st.tuples(
        st.lists(st.integers(0, answers).map(lambda k: k / answers), min_size=2, max_size=6),
        st.lists(st.integers(0, answers).map(lambda k: k / answers), min_size=2, max_size=6), st.just(answers),
    )
)  # fmt: skip


@given(accuracies)
def test_intervals_of_proportions_have_a_width_and_stay_among_proportions(
    given: tuple[list[float], list[float], int],
) -> None:
    a, b, answers = given
    for values in (a, b):
        found = summary(values, answers)
        low, high = found["ci95"]
        assert 0 <= low <= found["mean"] + 1e-12
        assert found["mean"] - 1e-12 <= high <= 1
        assert low < high
        if (plain := summary(values)["ci95"]) is not None:
            assert low <= max(0.0, plain[0])
            assert high >= min(1.0, plain[1])
    found, other = difference(a, b, answers), difference(b, a, answers)
    low, high = found["ci95"]
    assert -1 <= low <= found["mean"] + 1e-12
    assert found["mean"] - 1e-12 <= high <= 1
    assert low < high
    assert [-v for v in reversed(other["ci95"])] == pytest.approx(found["ci95"])
    assert 0 <= found["p"] <= 1


@pytest.mark.parametrize("spread", [0.0, 0.02])
@pytest.mark.parametrize(("part", "answers", "runs"), [(0.98, 100, 2), (0.9, 359, 3), (0.999, 1000, 2), (0.5, 50, 5)])
def test_intervals_hold_the_true_accuracy_as_often_as_they_say(
    part: float, answers: int, runs: int, spread: float
) -> None:
    rng = np.random.default_rng(0)
    students = np.clip(part + spread * min(part, 1 - part) * rng.standard_normal((2000, runs)), 0, 1)
    seen = rng.binomial(answers, students) / answers
    held = [low <= part <= high for low, high in (summary(row, answers)["ci95"] for row in seen.tolist())]
    assert np.mean(held) > 0.945


def test_a_few_digits_more_than_another_are_not_a_difference() -> None:
    low, high = difference([0.70, 0.74, 0.69], [0.71, 0.69, 0.70])["ci95"]
    assert low < 0 < high


def test_robust_scores_are_on_fractions() -> None:
    assert (hlr(0.9, 0.7), ior(0.7, 0.6)) == (pytest.approx(0.2), pytest.approx(0.1))
    assert lrs(0.0, 0.0) == pytest.approx(0.2689, abs=1e-4)
    assert lrs(hlr=0.20, ior=0.10) == pytest.approx(0.248, abs=1e-3)
    assert (lrs(hlr=-1.0, ior=1.0), lrs(hlr=1.0, ior=-1.0)) == (pytest.approx(1.0), pytest.approx(0.0))
    assert lrs(hlr=0.5, ior=0.1, w=1.0) == pytest.approx((math.exp(0.1) - math.exp(-1)) / (math.e - math.exp(-1)))
    assert ars(0.0, 0.0) == pytest.approx(0.2689, abs=1e-4)
    assert ars(0.2, 0.1) == pytest.approx((math.exp(0.15) - math.exp(-1)) / (math.e - math.exp(-1)))
    assert ars(0.2, 0.1, gamma=1.0) == ars(0.2, 0.9, gamma=1.0)
