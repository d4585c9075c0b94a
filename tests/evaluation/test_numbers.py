import math

import numpy as np
import pytest
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


def test_values_without_spread_give_an_interval_of_one_point() -> None:
    assert difference([0.5, 0.5], [0.5, 0.5]) == {"mean": 0.0, "ci95": [0.0, 0.0], "p": 1.0}
    assert difference([0.75, 0.75], [0.5, 0.5]) == {"mean": 0.25, "ci95": [0.25, 0.25], "p": 0.0}


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
