"""Forecasts that learn nothing stand beside every set, and errors are told in the variables' own units."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import potstill
from potstill.cli.main import main
from potstill.evaluation.naive import naive_forecasts, naive_scores, unit_errors
from potstill.functional.seasons import find_season
from potstill.tasks import get_targets, get_task

SHORT: dict[str, Any] = {"networks": "linear", "seeds": 2, "steps": 4, "lr": 0.01, "progress": None}


def waves(points: int = 400, season: int = 12, noise: float = 0.05) -> np.ndarray:
    """Degrees around 15 and a pressure around 1,013, both with one season."""
    t = np.arange(points)
    draw = np.random.default_rng(0).normal(size=(points, 2)) * noise
    return np.stack([15 + 8 * np.sin(2 * np.pi * t / season), 1013 + 20 * np.cos(2 * np.pi * t / season)], 1) + draw


def test_each_by_hand() -> None:
    x = torch.tensor([[[1.0, 2.0, 4.0, 7.0]]])
    found = naive_forecasts(x, 3, 2)
    assert {name: v.flatten().tolist() for name, v in found.items()} == {
        "last value": [7, 7, 7], "seasonal (2)": [4, 7, 4], "mean": [3.5] * 3, "drift": [9, 11, 13],
    }  # fmt: skip
    assert list(naive_forecasts(x, 1, 5)) == ["last value", "mean", "drift"]  # the window holds no season of 5
    assert list(naive_forecasts(x[..., :1], 1, None)) == ["last value", "mean"]


@pytest.mark.parametrize("season", [2, 7, 12, 24])
@pytest.mark.parametrize("trend", [0.0, 0.3])
def test_the_season_is_found(season: int, trend: float) -> None:
    t = torch.arange(300, dtype=torch.float64)
    draw = torch.randn(300, 2, generator=torch.Generator().manual_seed(season), dtype=torch.float64)
    series = torch.stack([torch.sin(2 * torch.pi * t / season + 1), (t % season == 0).double() * 3], 1)
    found = find_season(series + 0.1 * draw + trend * t[:, None], 48)
    assert found is not None
    assert found % season == 0  # two seasons are a season, too


def test_the_season_is_that_of_the_training_part() -> None:
    values = waves(season=12)
    values[320:] = waves(season=7)[320:] * 50  # the test part has another, and is loud
    data = potstill.load_data(values, task="forecast:window=24,horizon=6")
    assert data.test is not None
    assert "seasonal (12)" in naive_scores(get_task(data.train), data.train, data.test)


@given(seed=st.integers(0, 2**31))
@settings(max_examples=25, deadline=None)
def test_noise_and_walks_have_no_season(seed: int) -> None:
    noise = torch.randn(400, 3, generator=torch.Generator().manual_seed(seed))
    assert find_season(noise.cumsum(0), 48) is None
    assert find_season(torch.zeros(50, 1), 24) is None
    assert find_season(torch.zeros(3, 1), 24) is None


def test_scores_are_those_of_the_task_by_a_loop() -> None:
    data = potstill.load_data(waves(), task="forecast:window=24,horizon=6")
    task, test = get_task(data.train), data.test
    assert test is not None
    found = naive_scores(task, data.train, test)
    assert list(found) == ["last value", "seasonal (12)", "mean", "drift"]
    x, y = test.raw(torch.arange(len(test))), get_targets(test).reshape(len(test), 2, 6)
    std = torch.tensor(task.std)
    loop = [
        (((x[n, v, -1] - y[n, v, h]) / std[v]) ** 2).item()
        for n in range(len(test)) for v in range(2) for h in range(6)
    ]  # fmt: skip
    assert found["last value"]["score"] == pytest.approx(sum(loop) / len(loop), rel=1e-5)
    degrees = [(x[n, 0, -1] - y[n, 0, h]).item() for n in range(len(test)) for h in range(6)]
    assert found["last value"]["units"]["variable 1"]["rmse"] == pytest.approx(np.sqrt(np.mean(np.square(degrees))))
    assert found["last value"]["units"]["variable 1"]["mae"] == pytest.approx(np.mean(np.abs(degrees)))
    assert found["seasonal (12)"]["score"] < 0.01 < found["mean"]["score"]


def test_units_leave_out_who_diverged_and_are_of_forecasts_alone() -> None:
    data = potstill.load_data(waves(), task="forecast:window=24,horizon=6")
    task, y = get_task(data.train), get_targets(data.train)
    assert unit_errors(task, [None, y + 2.0], y)["variable 2"] == {
        "rmse": pytest.approx(2.0, rel=1e-4), "mae": pytest.approx(2.0, rel=1e-4)
    }  # fmt: skip
    assert unit_errors(task, [None], y) == {}
    digits = potstill.load_data("digits")
    assert digits.test is not None
    task = get_task(digits.train)
    largest = int(torch.bincount(digits.train.labels).argmax())
    rate = (digits.test.labels == largest).sum() / len(digits.test)
    found = naive_scores(task, digits.train, digits.test)
    assert found == {"largest class": {"score": pytest.approx(float(rate)), "class": str(largest)}}


def test_unequal_classes_stand_in_the_printed_scorecard_and_in_its_json() -> None:
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1, 2], [150, 40, 7])
    data = potstill.load_data((rng.random((197, 1, 8, 8), dtype=np.float32), y))
    assert data.test is not None
    small = potstill.distill(data, "random", ipc=1, progress=None)
    score = potstill.evaluate(small, data, full=False, baselines=False, **SHORT)
    assert [row["n"] for row in score.content["per_class"]] == [30, 8, 1]
    assert score.content["naive"]["largest class"] == {"score": pytest.approx(30 / 39), "class": "0"}
    printed = str(score)
    assert "\nalways the largest class (0): 76.9%\n" in printed
    assert "\nwarning: 2 classes have fewer than 10 test samples (2 1, 1 8): " in printed
    assert "\nwarning: classes are unequal (0 30 test samples, 2 1): " in printed


def test_a_scorecard_says_that_a_naive_forecast_is_better(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.savez(tmp_path / "w.npz", x=waves())
    small = str(tmp_path / "s.safetensors")
    task = ["--task", "forecast:window=24,horizon=6"]
    words = ["distill", str(tmp_path / "w.npz"), *task, "--method", "random", "--items", "4", "--out", small, "--quiet"]
    assert main(words) == 0
    card = tmp_path / "c.json"
    line = ["evaluate", small, "--data", str(tmp_path / "w.npz"), *task, "--network", "linear", "--seeds", "2"]
    assert main([*line, "--steps", "2", "--lr", "0.001", "--no-full", "--quiet", "--out", str(card)]) == 0
    printed = capsys.readouterr().out
    found = json.loads(card.read_text())
    assert f"forecasts that learn nothing: last value {found['naive']['last value']['score']:.4g}, seasonal (12)" in (
        printed
    )
    assert "warning: seasonal (12) is a better forecast than this set trains: " in printed
    assert "variable 1, in its own units: off by " in printed
    assert 0 < found["naive"]["seasonal (12)"]["units"]["variable 2"]["mae"] < 0.1 < found["units"]["variable 2"]["mae"]
    assert found["baselines"]["random"]["units"].keys() == {"variable 1", "variable 2"}


def test_the_season_may_be_given() -> None:
    data = potstill.load_data(waves(), task="forecast:window=24,horizon=6,season=8")
    assert data.test is not None
    assert "seasonal (8)" in naive_scores(get_task(data.train), data.train, data.test)
    small = potstill.distill(data, "random", items=3, progress=None)
    assert small.metadata["task"]["season"] == 8
    score = potstill.evaluate(small, data, full=False, baselines=False, **SHORT)
    assert "seasonal (8)" in str(score)
    assert potstill.load_data(waves(), task="forecast:window=24,horizon=6").train.task.season == 0
