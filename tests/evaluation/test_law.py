"""The data–knowledge law: planted coefficients come back, and its interval holds the truth as often as it says."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from potstill.errors import PotstillError
from potstill.evaluation.scaling_law import LabelWorth, MeasuredErrors, fit_law, label_worth, log_rmse
from potstill.rng import generator

IPC, STOPS = (1, 2, 5, 10, 20, 50), (1, 3, 10)
TEACHER = np.array([0.2, 0.07, 0.035])
HARD, SOFT = (0.03, 0.4, 0.8), (1.1, 0.22, 1.6, 0.2, -0.25)
"""f, A, b; κ, A', b', g, h."""


def hard_error(n: float, of: tuple[float, ...] = HARD) -> float:
    """The law as it is written down."""
    f, big_a, b = of
    return f + big_a * n**-b


def soft_error(n: float, s: int, of: tuple[float, ...] = SOFT, teacher: NDArray[np.float64] = TEACHER) -> float:
    kappa, big_a, b, g, h = of
    return kappa * float(teacher[STOPS.index(s)]) + big_a * s**g * n ** -(b + h * math.log(s))


def measured(
    seed: int = 0, sets: int = 3, noise: float = 0.0, hard: tuple[float, ...] = HARD, soft: tuple[float, ...] = SOFT
) -> MeasuredErrors:
    """Sets that differ as a whole, and students that differ besides."""
    rng = np.random.default_rng(seed)
    plain = np.log([hard_error(n, hard) for n in IPC])
    taught = np.log([[soft_error(n, s, soft) for s in STOPS] for n in IPC])
    common = rng.normal(0, noise, (sets, 1))
    return MeasuredErrors(
        ipc=IPC, stops=STOPS, teacher=TEACHER,
        hard=np.exp(plain + common + rng.normal(0, noise, (sets, len(IPC)))),
        soft=np.exp(taught + common[..., None] + rng.normal(0, noise, (sets, len(IPC), len(STOPS)))),
    )  # fmt: skip


def at_ten(score: MeasuredErrors, choice: MeasuredErrors, seed: int = 0, draws: int = 100) -> LabelWorth:
    (found,) = label_worth(score, choice, (10,), generator(seed), draws)
    return found


def truth(stop: int, n: int = 10) -> float:
    """How many hard-labelled samples have the error of n soft-labelled ones, solved by hand."""
    f, big_a, b = HARD
    return float(((soft_error(n, stop) - f) / big_a) ** (-1 / b))


@settings(deadline=None, max_examples=40)
@given(
    hard=st.tuples(st.floats(0.01, 0.05), st.floats(0.2, 0.5), st.floats(0.5, 1.5)),
    soft=st.tuples(
        st.floats(0.6, 1.3), st.floats(0.15, 0.25), st.floats(1.0, 1.8), st.floats(0, 0.3), st.floats(-0.2, 0.1)
    ),
)
def test_planted_coefficients_come_back(hard: tuple[float, ...], soft: tuple[float, ...]) -> None:
    found = measured(hard=hard, soft=soft)
    law = fit_law(found)
    f, big_a, b = law.hard[0]
    assert (math.exp(f), math.exp(big_a), b) == pytest.approx(hard, rel=1e-3)
    kappa, amplitude, power, g, h = law.soft[0]
    assert (math.exp(kappa), math.exp(amplitude), power) == pytest.approx(soft[:3], rel=1e-3)
    assert (g, h) == pytest.approx(soft[3:], abs=1e-3)
    assert log_rmse(found, law) < 1e-5
    for n in IPC:
        assert np.exp(law.soft_error(n)[0, 0]) == pytest.approx([soft_error(n, s, soft) for s in STOPS], rel=1e-4)
        assert STOPS[int(law.best_stop(n)[0])] == min(STOPS, key=lambda s, n=n: soft_error(n, s, soft))


def test_coefficients_come_back_from_noise_the_better_the_more_sets_there_are() -> None:
    gaps = []
    for sets in (4, 400):
        laws = [fit_law(measured(seed, sets, 0.1)) for seed in range(12)]
        gaps.append(np.mean([abs(law.hard[0, 2] - HARD[2]) + abs(law.soft[0, 2] - SOFT[2]) for law in laws]))
    assert gaps[1] < 0.25 * gaps[0]
    assert gaps[1] < 0.05


def test_no_other_coefficients_fit_better() -> None:
    """Against scipy from the truth, on noisy data of which the law is not exact."""
    from scipy.optimize import least_squares

    found = measured(4, 3, 0.1)
    hard, soft = np.log(found.hard).mean(0), np.log(found.soft).mean(0)
    x, z = np.log(IPC), np.log(STOPS)

    def plain(p: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.logaddexp(p[0], p[1] - p[2] * x) - hard

    def taught(p: NDArray[np.float64]) -> NDArray[np.float64]:
        power = p[1] + p[3] * z[None] - (p[2] + p[4] * z[None]) * x[:, None]
        return (np.logaddexp(p[0] + np.log(TEACHER)[None], power) - soft).ravel()

    law = fit_law(found)
    for ours, gap, start in ((law.hard[0], plain, HARD), (law.soft[0], taught, SOFT)):
        logs = np.array([math.log(start[0]), math.log(start[1]), *start[2:]])
        best = least_squares(gap, logs)
        assert (gap(ours) ** 2).sum() <= 2 * best.cost * (1 + 1e-6)


def test_what_soft_labels_are_worth_is_where_hard_ones_have_their_error() -> None:
    exact = measured()
    stop = min(STOPS, key=lambda s: soft_error(10, s))
    found = at_ten(exact, exact)
    assert (found.stop, found.side, found.known) == (stop, "inside", True)
    assert found.value == pytest.approx(truth(stop), rel=1e-3)
    assert (found.low, found.high) == pytest.approx((truth(stop),) * 2, rel=0.02)
    assert np.exp(fit_law(exact).hard_error(found.value or 0)[0, 0]) == pytest.approx(soft_error(10, stop), rel=1e-3)


def test_the_best_stop_moves_with_the_budget() -> None:
    law = fit_law(measured())
    chosen = [int(law.best_stop(n)[0]) for n in IPC]
    assert chosen == sorted(chosen)
    assert chosen[0] < chosen[-1]


@pytest.mark.parametrize(("sets", "trials"), [(4, 50), *(pytest.param(n, 150, marks=pytest.mark.slow) for n in (4, 8))])
def test_the_interval_covers(sets: int, trials: int) -> None:
    """95 % of the experiments, within what so many can tell (three standard errors) on the lower side."""
    stop = min(STOPS, key=lambda s: soft_error(10, s))
    hits, open_ends = 0, 0
    for trial in range(trials):
        # noise small enough that the stop is not in doubt: what is counted is the interval
        found = at_ten(measured(2 * trial, sets, 0.02), measured(2 * trial + 1, sets, 0.001), trial, draws=60)
        assert found.stop == stop
        hits += (found.low or 0) <= truth(stop) <= (found.high or math.inf)
        open_ends += found.low is None or found.high is None
    least = 0.95 - 3 * math.sqrt(0.95 * 0.05 / trials)
    # an interval that holds everything would not do, which few experiments cannot tell
    assert least <= hits / trials <= 1 - (trials >= 150) / trials
    assert open_ends < trials / 2


def test_the_stop_is_chosen_by_other_predictions_than_it_is_judged_by() -> None:
    """Where stops do not differ, the best of them by the noise of its own score would look better than it is."""
    alike = (*SOFT[:3], 0.0, 0.0)
    flat = np.full(3, 0.04)

    def noisy(seed: int) -> MeasuredErrors:
        rng = np.random.default_rng(seed)
        soft = np.log([[soft_error(n, s, alike, flat) for s in STOPS] for n in IPC])
        plain = np.log([hard_error(n) for n in IPC])
        return MeasuredErrors(
            ipc=IPC, stops=STOPS, teacher=flat, hard=np.exp([plain] * 4),
            soft=np.exp(soft + rng.normal(0, 0.05, (4, len(IPC), 3))),
        )  # fmt: skip

    middle = truth_of(alike, flat)
    apart, together = [], []
    for trial in range(60):
        score, choice = noisy(2 * trial), noisy(2 * trial + 1)
        for found, by in ((apart, choice), (together, score)):
            one = at_ten(score, by, draws=2).value
            assert one is not None
            found.append(math.log(one / middle))
    error = np.std(apart) / math.sqrt(len(apart))
    assert abs(np.mean(apart)) < 3 * error
    assert np.mean(together) > 3 * error


def truth_of(soft: tuple[float, ...], teacher: NDArray[np.float64]) -> float:
    f, big_a, b = HARD
    return float(((soft_error(10, 1, soft, teacher) - f) / big_a) ** (-1 / b))


def test_beyond_the_budgets_nothing_is_said_but_that() -> None:
    better, worse = measured(soft=(0.3, *SOFT[1:])), measured(soft=(2.0, 0.45, 0.02, 0.0, 0.0))
    assert at_ten(better, better) == LabelWorth(stop=3, value=None, low=50.0, high=None, side="more", known=True)
    found = at_ten(worse, worse)
    assert found == LabelWorth(stop=found.stop, value=None, low=None, high=1.0, side="fewer", known=True)
    rising = measured(hard=(0.001, 0.2, -0.2))
    assert at_ten(rising, rising) == LabelWorth(
        stop=at_ten(rising, rising).stop, value=None, low=None, high=None, side="unknown", known=False
    )
    lone = measured(0, 1, 0.05)
    found = at_ten(lone, lone)
    assert (found.low, found.high, found.known) == (None, None, False)


def test_one_stop_has_a_law_without_knowledge() -> None:
    exact = measured()
    one = MeasuredErrors(ipc=IPC, stops=(3,), hard=exact.hard, soft=exact.soft[..., 1:2], teacher=TEACHER[1:2])
    law = fit_law(one)
    assert law.soft.shape == (1, 3)
    assert log_rmse(one, law) < 1e-5


def test_what_is_no_measurement_is_refused() -> None:
    good = measured()
    for changes, said in (
        ({"ipc": (1, 2, 5), "hard": good.hard[:, :3], "soft": good.soft[:, :3]}, "needs 4 or more different budgets"),
        ({"ipc": (2, 1, 5, 10, 20, 50)}, "ascending"),
        ({"stops": (0, 3, 10)}, "needs 1 or more different stops from 1 on"),
        ({"stops": (3, 3, 10)}, "different stops"),
        ({"hard": good.hard * 0}, r"hard errors must be \(3, 6\) in \(0, 1\)"),
        ({"soft": good.soft[:1]}, r"soft errors must be \(3, 6, 3\)"),
        ({"teacher": TEACHER[:1]}, r"teacher errors must be \(3,\)"),
    ):
        fields = {
            "ipc": good.ipc, "stops": good.stops, "hard": good.hard, "soft": good.soft, "teacher": good.teacher,
        }  # fmt: skip
        with pytest.raises(PotstillError, match=said):
            MeasuredErrors(**(fields | changes))
