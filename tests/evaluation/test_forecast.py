"""The forecast of an evaluation counts all that is done: answers, selection, trials, and a learner's fits."""

from types import SimpleNamespace
from typing import Any

import pytest

import potstill
from potstill.core import Splits
from potstill.evaluation import forecast
from potstill.evaluation.byte_matched_baselines import HELD_OUT_FRACTION
from potstill.evaluation.forecast import ANSWER_SHARE, estimate_seconds
from potstill.evaluation.protocols import POTSTILL
from potstill.execution import Serial
from potstill.nn import factory


@pytest.fixture
def digits() -> Splits:
    return potstill.load_data("digits")


def test_a_forecast_is_the_sum_by_hand(digits: Splits, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a second for each step, whatever its batch."""
    monkeypatch.setattr(forecast, "measure_step_seconds", lambda *of: 1.0)
    train, make = digits.train, factory("linear", digits.train.input, 10)
    protocol = POTSTILL.resolve("digits", make.name, train.input)

    def seconds(**changes: Any) -> float:
        settings = {"students": 2, "items": [100], "again": [], "trial_updates": 0, "full": False, "soft": False}
        return estimate_seconds(protocol, make, train, Serial(), **(settings | changes))

    recipe, choice = protocol.recipe, protocol.selection
    lengths = sorted({max(s, recipe.least_epochs * -(-100 // recipe.batch)) for s in recipe.steps})
    steps = choice.validation_students * (len(recipe.lr) * lengths[-1] + sum(lengths[:-1])) + 2 * lengths[-1]
    held_out = round(min(choice.validation * len(train), choice.validation_most))
    answers = choice.validation_students * (len(recipe.lr) + len(lengths) - 1) * held_out
    batch = min(recipe.batch, 100)
    assert seconds() == pytest.approx(steps + answers * ANSWER_SHARE / batch)
    assert seconds(test_samples=360) - seconds() == pytest.approx(2 * 360 * ANSWER_SHARE / batch)
    small = min(forecast.BATCH, len(train))
    trials = 40 + 4 * HELD_OUT_FRACTION * len(train) * ANSWER_SHARE / small
    assert seconds(trials=4, trial_updates=40) - seconds() == pytest.approx(trials)
    teacher = seconds(soft=True) - seconds()
    both = seconds(soft=True, trials=4, trial_updates=40) - seconds(trials=4, trial_updates=40)
    assert both == pytest.approx(2 * teacher)  # once more for its trials


def test_how_long_a_learner_takes_is_foreseen_too(digits: Splits, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(100))
    monkeypatch.setattr(forecast, "time", SimpleNamespace(perf_counter=lambda: next(clock) * 0.5))
    small = potstill.distill(digits, "random", ipc=1, progress=None)
    from potstill.evaluation.evaluate import evaluate

    said: list[float] = []
    evaluate(small, digits, protocol=POTSTILL, networks=["linear-model"], seeds=2, baselines=False, full=False,
             robust_scores=False, expect=said.append)  # fmt: skip
    assert said == [2 * 0.5]
