import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from potstill.evaluation.samples import SampleScores
from potstill.evaluation.scores import ars, hlr, ior, lrs
from potstill.evaluation.statistics import difference, paired_difference, summary


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


def test_two_students_that_agree_leave_the_doubt_of_the_test_samples_and_not_of_twice_as_many() -> None:
    for part, answers in ((1.0, 50), (0.9, 500)):
        wilson = stats.binomtest(round(part * answers), answers).proportion_ci(method="wilson")
        found = summary([part, part], answers)
        assert found["ci95"] == pytest.approx(list(wilson))
        assert found["ci95_same_test"] is None, "on these test samples they agree, which is no interval"
    found = difference([0.75, 0.75], [0.5, 0.5], 10)
    assert found["ci95"][0] < 0 < 0.25 < found["ci95"][1]
    assert 0.2 < found["p"] < 0.4, "the exact conditional test (Fisher's) of 7.5 and 5 of 10 is about there"


def test_all_against_nothing_is_no_surer_than_the_test_samples() -> None:
    # exact, two-sided, of 5 samples that all say the same: 2/2^5
    found = difference([1.0, 1.0], [0.0, 0.0], 5)
    assert 0 < found["ci95"][0] < 0.6
    assert 0.01 < found["p"] < 0.0625


def crossed(matrix: np.ndarray) -> dict[str, float]:
    """R, C and E by their sums of squares, in plain loops."""
    n, m = matrix.shape
    mean = matrix.mean()
    rows, columns = matrix.mean(0), matrix.mean(1)
    left = sum((matrix[j, i] - rows[i] - columns[j] + mean) ** 2 for j in range(n) for i in range(m))
    return {
        "R": sum((v - mean) ** 2 for v in rows) / (m - 1) / m, "C": sum((v - mean) ** 2 for v in columns) / (n - 1) / n,
        "E": left / ((m - 1) * (n - 1)) / (m * n),
    }  # fmt: skip


def matrices(shape: tuple[int, int], seed: int, spread: float) -> np.ndarray:
    rng = np.random.default_rng(seed)
    n, m = shape
    return 5 + rng.normal(0, 1, m) + rng.normal(0, spread, (n, 1)) + rng.normal(0, 0.5, shape)  # type: ignore[no-any-return]


@pytest.mark.parametrize("spread", [0.0, 0.3, 3.0])
def test_a_score_of_any_metric_has_the_variance_of_two_crossed_factors(spread: float) -> None:
    matrix = matrices((4, 30), 1, spread)
    held, samples = crossed(matrix), SampleScores.from_matrix(matrix)
    assert samples is not None
    found = summary(matrix.mean(1).tolist(), samples=samples)
    low, high = found["ci95"]
    assert low + high == pytest.approx(2 * matrix.mean())
    v = held["R"] + max(0.0, held["C"] - held["E"])
    quantile = (high - low) / 2 / math.sqrt(v)
    assert stats.t.ppf(0.975, 29) - 1e-9 <= quantile <= stats.t.ppf(0.975, 3) + 1e-9, "between both factors' own"
    if spread < 1:  # else the students are all of it
        assert found["ci95_same_test"][0] > low
        assert found["ci95_same_test"][1] < high


def test_a_difference_pairs_test_samples_and_its_p_is_the_level_at_which_it_ends_at_zero() -> None:
    rng = np.random.default_rng(5)
    a = matrices((3, 200), 2, 0.02)
    b = a + 0.1 + rng.normal(0, 0.3, a.shape)
    one, other = SampleScores.from_matrix(a), SampleScores.from_matrix(b)
    assert one is not None
    assert other is not None
    alone = difference(a.mean(1).tolist(), b.mean(1).tolist(), samples=(one, None))
    assert alone["ci95"][0] < 0 < alone["ci95"][1] or alone["p"] > 0, "on these test samples, where one side is unknown"
    found = difference(a.mean(1).tolist(), b.mean(1).tolist(), samples=(one, other))
    wide = math.sqrt(a.mean(0).var() / 200 + b.mean(0).var() / 200)
    assert found["ci95"][1] - found["ci95"][0] < 2 * 1.96 * wide, "narrower than of two independent test splits"
    for factor, sign in ((0.999, 1), (1.001, -1)):
        # moved until it nearly ends at 0, p is nearly 0.05
        by = -found["mean"] + factor * (found["ci95"][1] - found["mean"])
        moved = difference(
            (a + by).mean(1).tolist(), b.mean(1).tolist(), samples=(SampleScores.from_matrix(a + by), other)
        )
        assert (moved["p"] - 0.05) * sign > 0
        assert moved["p"] == pytest.approx(0.05, abs=1e-3)
    back = difference(b.mean(1).tolist(), a.mean(1).tolist(), samples=(other, one))
    assert [-v for v in reversed(back["ci95"])] == pytest.approx(found["ci95"])
    assert back["p"] == pytest.approx(found["p"])


def test_certainty_ends_somewhere() -> None:
    ones, zeros = np.ones((5, 1000)), np.zeros((5, 1000))
    both = SampleScores.from_matrix(ones), SampleScores.from_matrix(zeros)
    found = difference([1.0] * 5, [0.0] * 5, 1000, samples=both)
    assert 0.99 < found["ci95"][0] < 1
    assert 0 < found["p"] < 1e-50
    level = difference([1.0] * 5, [1.0] * 5, 1000, samples=(both[0], both[0]))
    assert level["ci95"][0] < 0 < level["ci95"][1]
    assert level["p"] == 1


def test_sets_in_pairs_are_columns_of_the_same_arithmetic() -> None:
    a, b = matrices((4, 60), 7, 0.2), matrices((4, 60), 7, 0.2) - 0.05
    gaps = SampleScores.from_matrix(a - b)
    found = paired_difference(a.mean(1).tolist(), b.mean(1).tolist(), samples=gaps)
    assert found["mean"] == pytest.approx(0.05)
    rng = np.random.default_rng(8)
    noisy = b + rng.normal(0, 0.4, b.shape)
    found = paired_difference(a.mean(1).tolist(), noisy.mean(1).tolist(), samples=SampleScores.from_matrix(a - noisy))
    of_score = summary((a - noisy).mean(1).tolist(), samples=SampleScores.from_matrix(a - noisy))["ci95"]
    assert sum(found["ci95"]) == pytest.approx(sum(of_score))
    assert found["ci95"][0] <= of_score[0], "a single column of pairs counts its noise, too"


def test_scores_of_samples_are_read_as_they_were_written_and_nothing_else_is() -> None:
    samples = SampleScores.from_matrix(matrices((3, 77), 3, 0.1))
    assert samples is not None
    said = samples.to_dict()
    read = SampleScores.from_dict(said)
    assert read is not None
    np.testing.assert_allclose(read.rows, samples.rows, rtol=1e-6)
    assert read.residual == samples.residual
    for damaged in (
        None, 3, [], {}, {"rows": 1, "residual": 0.0}, {**said, "rows": "?"}, {**said, "rows": said["rows"][:-9]},
        {**said, "residual": -1.0}, {**said, "residual": float("nan")}, {**said, "residual": True},
        SampleScores(rows=np.full(5, np.inf), residual=0.0).to_dict(),
        SampleScores(rows=np.zeros(9**6), residual=0.0).to_dict(),
    ):  # fmt: skip
        assert SampleScores.from_dict(damaged) is None


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
    found, other = difference(a, b, answers), difference(b, a, answers)
    low, high = found["ci95"]
    assert -1 <= low <= found["mean"] + 1e-12
    assert found["mean"] - 1e-12 <= high <= 1
    assert low < high
    assert [-v for v in reversed(other["ci95"])] == pytest.approx(found["ci95"])
    assert 0 <= found["p"] <= 1


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
