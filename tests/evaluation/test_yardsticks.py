"""MAE and MASE of forecasts, and ARIMA and ETS fitted to the whole series."""

from typing import Any

import numpy as np
import pytest
import torch

import potstill
from potstill.evaluation.yardsticks import yardstick_scores
from potstill.functional.seasons import naive_scale
from potstill.tasks import Forecast, get_targets, get_task
from tests.series_data import seasonal, windows

SHORT: dict[str, Any] = {"networks": "ridge", "seeds": 1, "full": False, "progress": None}


def test_the_scale_is_the_naive_error_by_a_loop() -> None:
    series = torch.tensor(seasonal(30, 2), dtype=torch.float32)
    stretch, mask = torch.tensor([0] * 12 + [1] * 18), torch.ones(30, dtype=torch.bool)
    mask[25:] = False
    for season in (1, 3, 8):
        pairs = [(t, t - season) for t in range(season, 25) if stretch[t] == stretch[t - season]]
        by_loop = [sum(abs(float(series[a, v] - series[b, v])) for a, b in pairs) / len(pairs) for v in range(2)]
        assert naive_scale(series, season, stretch, mask).tolist() == pytest.approx(by_loop, rel=1e-5)
    assert naive_scale(series, 20, stretch, mask).tolist() == [0.0, 0.0]  # no pair lies in one stretch


def test_mae_and_mase_by_hand() -> None:
    task = Forecast(
        window=2, horizon=2, variables=("a", "b"), mean=(0.0, 0.0), std=(2.0, 10.0), scale=(0.5, 5.0)
    )  # fmt: skip
    answers, y = torch.tensor([[1.0, 2.0, 10.0, 0.0]]), torch.tensor([[0.0, 0.0, 0.0, 0.0]])
    assert task.further_scores(answers, y) == {
        "mae": pytest.approx((1.5 / 2 + 5 / 10) / 2), "mase": pytest.approx((1.5 / 0.5 + 5 / 5) / 2)
    }  # fmt: skip
    flat = Forecast(window=2, horizon=2, variables=("a", "b"), mean=(0, 0), std=(2.0, 10.0), scale=(0.5, 0.0))
    assert flat.further_scores(answers, y)["mase"] == pytest.approx(3.0)  # b never changes: it has no naive error
    assert list(Forecast(horizon=4, variables=("a",), mean=(0.0,), std=(1.0,)).further_scores(answers, y)) == ["mae"]


def test_the_seasonal_forecast_of_noise_around_a_season_has_a_mase_near_1() -> None:
    data = potstill.load_data(seasonal(2000), task="forecast:window=16,horizon=4,season=8")
    assert data.test is not None
    task = get_task(data.train)
    x, y = data.test.raw(torch.arange(len(data.test))), get_targets(data.test)
    assert task.further_scores(x[..., 8:12].flatten(1), y)["mase"] == pytest.approx(1.0, abs=0.05)


def test_ets_without_a_season_is_exponential_smoothing_by_a_loop() -> None:
    walk = np.cumsum(np.random.default_rng(0).normal(size=300)) + np.random.default_rng(1).normal(size=300) * 2
    data = potstill.load_data(walk, task="forecast:window=30,horizon=3")
    assert data.test is not None
    found = yardstick_scores(["ets"], get_task(data.train), data.train, data.test)["ets"]
    assert found["models"] == ["ETS(A,N,N)"]
    x, y = data.test.raw(torch.arange(len(data.test)))[:, 0].double(), get_targets(data.test).double()
    best = np.inf
    for alpha in np.linspace(0.05, 0.95, 91):
        share = torch.tensor([(1 - alpha) ** (29 - t) for t in range(30)], dtype=torch.float64)
        level = (x * share).sum(1) / share.sum()  # in the limit of a free first level
        best = min(best, float((level[:, None] - y).square().mean()) / get_task(data.train).std[0] ** 2)
    assert best * 0.99 < found["score"] < best * 1.1


def test_half_of_a_season_may_be_the_true_one() -> None:
    wave = np.sin(np.arange(300) / 6 * 2 * np.pi) + 0.3 * np.random.default_rng(0).normal(size=300)
    data = potstill.load_data(wave, task="forecast:window=14,horizon=4,season=12")  # which the window does not hold
    assert data.test is not None
    found = yardstick_scores(["ets"], get_task(data.train), data.train, data.test)["ets"]
    assert found["models"][0].endswith("A6)")


def test_arima_finds_an_autoregression() -> None:
    rng, values = np.random.default_rng(0), [0.0, 0.0]
    for _ in range(400):
        values.append(0.5 * values[-1] + 0.4 * values[-2] + rng.normal())
    data = potstill.load_data(np.array(values) + 100, task="forecast:window=12,horizon=1")
    assert data.test is not None
    task = get_task(data.train)
    found = yardstick_scores(["arima"], task, data.train, data.test)["arima"]
    x, y = data.test.raw(torch.arange(len(data.test)))[:, 0] - 100, get_targets(data.test)[:, 0] - 100
    exact = float((0.5 * x[:, -1] + 0.4 * x[:, -2] - y).square().mean()) / task.std[0] ** 2
    assert found["score"] == pytest.approx(exact, rel=0.05)
    assert found["mae"] < 1.0


def test_a_scorecard_and_its_page_have_them(tmp_path: Any) -> None:
    data = windows(window=10, horizon=4)
    small = potstill.distill(data, "random", items=3, seed=0, progress=None)
    card = potstill.evaluate(small, data, baselines="ets", **SHORT)
    found = card.to_dict()
    assert found["metrics"].keys() == {"mae", "mase"} == found["baselines"]["random"]["metrics"].keys()
    assert found["metrics"]["mase"]["metric"] == "mase"
    assert {"score", "mae", "mase", "units", "models"} == found["yardsticks"]["ets"].keys()
    assert found["naive"]["last value"]["mae"] > found["yardsticks"]["ets"]["mae"]
    printed = str(card)
    assert "fitted to the whole training series: ets " in printed
    assert f"MASE (naive errors): {found['metrics']['mase']['mean']:.4g} (random " in printed
    small.save(tmp_path / "s.safetensors")
    card.save(tmp_path / "s.scorecard.json")
    made = potstill.report(tmp_path, tmp_path / "page.html").read_text()
    assert "Errors of forecasts" in made
    assert "fitted to the whole series; ETS(" in made


@pytest.mark.parametrize(("data", "message"), [
    ("digits", "ets forecast series, but the task is classification; leave them out"),
    (windows(variables=17), "16 at most, but there are 17"),
])  # fmt: skip
def test_refusals(data: Any, message: str) -> None:
    splits = potstill.load_data(data)
    with pytest.raises(potstill.PotstillError, match=message):
        yardstick_scores(["ets"], get_task(splits.train), splits.train, splits.test)
    assert yardstick_scores([], get_task(splits.train), splits.train, splits.test) == {}
