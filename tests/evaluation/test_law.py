"""The data–knowledge law: planted coefficients come back, and its interval holds the truth as often as it says."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from potstill.errors import PotstillError
from potstill.evaluation.law import Measured, fit, misfit, worth
from potstill.rng import generator

IPC, STOPS = (1, 2, 5, 10, 20, 50), (2, 5, 10, 20)


def planted(
    hard: tuple[float, float], soft: tuple[float, ...], stops: tuple[int, ...] = STOPS
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """ln e of the law as it is written down, term by term."""
    terms = soft if len(soft) == 5 else (soft[0], soft[1], 0, 0, 0) if len(soft) == 2 else (*soft[:3], 0, soft[3])
    c0, c1, c2, c3, c4 = terms
    plain = np.array([hard[0] + hard[1] * math.log(n) for n in IPC])
    taught = np.array([
        [
            c0 + c1 * math.log(n) + c2 * math.log(s) + c3 * math.log(s) ** 2 + c4 * math.log(n) * math.log(s)
            for s in stops
        ]
        for n in IPC
    ])  # fmt: skip
    return plain, taught


TRUTH = (-0.6, -0.45), (-0.9, -0.15, -0.18, 0.09, -0.06)


def measured(seed: int, sets: int, noise: float, of: tuple[tuple[float, ...], ...] = TRUTH) -> Measured:
    """Sets that differ as a whole, and students that differ besides."""
    rng = np.random.default_rng(seed)
    plain, taught = planted(of[0], of[1])  # type: ignore[arg-type]
    common = rng.normal(0, noise, (sets, 1))
    hard = plain + common + rng.normal(0, noise, (sets, len(IPC)))
    soft = taught + common[..., None] + rng.normal(0, noise, (sets, len(IPC), len(STOPS)))
    return Measured(ipc=IPC, stops=STOPS, hard=np.exp(hard), soft=np.exp(soft))


small = st.floats(-0.1, 0.1)


@settings(deadline=None, max_examples=60)
@given(
    hard=st.tuples(st.floats(-3, -1), st.floats(-0.2, 0.2)),
    soft=st.sampled_from([2, 4, 5]).flatmap(lambda n: st.tuples(st.floats(-3, -2), *[small] * (n - 1))),
)
def test_planted_coefficients_come_back(hard: tuple[float, float], soft: tuple[float, ...]) -> None:
    stops = {2: (7,), 4: (3, 11), 5: STOPS}[len(soft)]
    plain, taught = planted(hard, soft, stops)
    found = Measured(ipc=IPC, stops=stops, hard=np.exp([plain] * 3), soft=np.exp([taught] * 3))
    law = fit(found)
    assert law.hard == pytest.approx(hard, abs=1e-9)
    assert law.soft == pytest.approx(soft, abs=1e-9)
    assert misfit(found, law) < 1e-9
    for n, row in zip(IPC, taught, strict=True):
        assert [law.soft_error(n, s) for s in stops] == pytest.approx(np.exp(row))
        assert law.soft_error(n, law.best_stop(n)) == pytest.approx(math.exp(min(row)))


def test_the_fit_is_least_squares_of_all_students_at_once() -> None:
    found = measured(4, 3, 0.1)
    rows, ys = [], []
    for one in found.soft:
        for n, line in zip(IPC, one, strict=True):
            for s, error in zip(STOPS, line, strict=True):
                a, b = math.log(n), math.log(s)
                rows.append([1, a, b, b * b, a * b])
                ys.append(math.log(error))
    expected = np.linalg.lstsq(np.array(rows), np.array(ys), rcond=None)[0]
    assert fit(found).soft == pytest.approx(expected, abs=1e-9)


def test_what_soft_labels_are_worth_is_where_the_hard_line_has_their_error() -> None:
    exact = measured(0, 3, 0.0)
    stop, found = worth(exact, exact, 10, generator(0))
    _, taught = planted(*TRUTH)
    row = taught[IPC.index(10)]
    assert stop == STOPS[int(row.argmin())]
    assert found is not None
    assert found.value == pytest.approx(math.exp((row.min() - TRUTH[0][0]) / TRUTH[0][1]))
    assert found.ci95 == pytest.approx((found.value, found.value))
    # and by hand: hard labels of that many samples have that error
    assert fit(exact).hard_error(found.value) == pytest.approx(math.exp(row.min()))


def test_the_best_stop_moves_with_the_budget() -> None:
    law = fit(measured(0, 1, 0.0))
    chosen = [law.best_stop(n) for n in IPC]
    assert chosen == sorted(chosen)
    assert chosen[0] < chosen[-1]


@pytest.mark.parametrize("sets", [3, 5, 10])
def test_the_interval_covers(sets: int) -> None:
    """95 % of 300 experiments, within what 300 can tell (three standard errors: 91.2 to 98.8) and a little."""
    _, taught = planted(*TRUTH)
    best = STOPS[int(taught[IPC.index(10)].argmin())]
    truth = math.exp((taught[IPC.index(10)].min() - TRUTH[0][0]) / TRUTH[0][1])
    hits = 0
    for trial in range(300):
        # noise small enough that the stop is not in doubt: what is counted is the interval
        score, choice = measured(2 * trial, sets, 0.03), measured(2 * trial + 1, sets, 0.001)
        stop, found = worth(score, choice, 10, generator(trial), draws=200)
        assert stop == best
        assert found is not None
        assert found.ci95 is not None
        hits += found.ci95[0] <= truth <= found.ci95[1]
    assert 0.90 <= hits / 300 <= 0.99


def test_the_stop_is_chosen_by_other_predictions_than_it_is_judged_by() -> None:
    """Where stops do not differ, the best of them by the noise of its own score would look better than it is."""
    equal = (-0.6, -0.45), (-0.9, -0.3, 0.0, 0.0, 0.0)
    truth = (equal[1][0] + equal[1][1] * math.log(10) - equal[0][0]) / equal[0][1]
    apart, together = [], []
    for trial in range(200):
        score, choice = measured(2 * trial, 5, 0.1, equal), measured(2 * trial + 1, 5, 0.1, equal)
        for found, by in ((apart, choice), (together, score)):
            _, one = worth(score, by, 10, generator(0), draws=2)
            assert one is not None
            found.append(math.log(one.value) - truth)
    error = np.std(apart) / math.sqrt(len(apart))
    assert abs(np.mean(apart)) < 3 * error
    assert np.mean(together) > 3 * error


def test_without_a_gain_of_data_or_with_one_set_nothing_is_claimed() -> None:
    flat = measured(0, 4, 0.0, ((-0.6, 0.1), TRUTH[1]))
    assert worth(flat, flat, 10, generator(0))[1] is None
    lone = measured(0, 1, 0.05)
    found = worth(lone, lone, 10, generator(0))[1]
    assert found is not None
    assert found.ci95 is None
    # data help on the mean of the sets and not in some draws of them: then nothing bounds the worth
    slopes = (-0.2, -0.2, 0.1)
    hard = np.exp([planted((-1.5, slope), TRUTH[1])[0] for slope in slopes])
    unsure = Measured(ipc=IPC, stops=STOPS, hard=hard, soft=measured(0, 3, 0.0).soft)
    assert fit(unsure).hard[1] == pytest.approx(-0.1)
    unbounded = worth(unsure, unsure, 10, generator(0))[1]
    assert unbounded is not None
    assert unbounded.ci95 is None


def test_what_is_no_measurement_is_refused() -> None:
    good = measured(0, 2, 0.0)
    for changes, said in (
        ({"ipc": (1,), "hard": good.hard[:, :1], "soft": good.soft[:, :1]}, "two or more different budgets"),
        ({"stops": (0, 5, 10, 20)}, "stops must be different epochs from 1 on"),
        ({"stops": (5, 5, 10, 20)}, "stops must be different epochs from 1 on"),
        ({"hard": good.hard * 0}, r"hard errors must be \(2, 6\) in \(0, 1\)"),
        ({"soft": good.soft[:1]}, r"soft errors must be \(2, 6, 4\)"),
    ):
        fields = {"ipc": good.ipc, "stops": good.stops, "hard": good.hard, "soft": good.soft}
        with pytest.raises(PotstillError, match=said):
            Measured(**(fields | changes))
