"""Series with covariates: columns that are inputs and not forecast, from the past or known beforehand."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import potstill
from potstill.core import Splits
from potstill.errors import PotstillError
from potstill.evaluation.naive import naive_scores
from potstill.methods.trajectory.condtsf import CondTSF
from potstill.tasks import get_task


def table(points: int = 120) -> pd.DataFrame:
    """Demand that follows a holiday of the same day, and the temperature of the day before."""
    rng, time = np.random.default_rng(0), np.arange(points)
    holiday = (rng.random(points) < 0.3).astype(float)
    warm = np.sin(time / 5) + 0.1 * rng.standard_normal(points)
    demand = 10 + 3 * holiday + np.concatenate([[0.0], warm[:-1]])
    return pd.DataFrame({"warm": warm, "demand": demand, "holiday": holiday})


def load(covariates: str, **options: Any) -> Splits:
    return potstill.load_data(
        table(), label="demand", task=f"forecast:window=6,horizon=3,covariates={covariates}", **options
    )


@pytest.mark.parametrize("covariates", ["past", "known"])
def test_windows_have_all_columns_and_targets_one(covariates: str) -> None:
    splits, frame = load(covariates), table()
    train = splits.train
    later = " (3 later)" if covariates == "known" else ""
    assert train.input.columns == ("demand", f"warm{later}", f"holiday{later}")
    assert (train.task.variables, train.task.inputs) == (("demand",), train.input.columns[1:])
    assert train.task.outputs == 3
    assert train.input.shape == (3, 6)
    batch = train.fetch(torch.arange(len(train)))
    raw = train.raw(torch.arange(len(train)))
    step = 3 if covariates == "known" else 0
    for n in (0, 7, len(train) - 1):
        first = int(train.starts[n])
        np.testing.assert_allclose(raw[n, 0], frame["demand"][first : first + 6], rtol=1e-5)
        np.testing.assert_allclose(raw[n, 2], frame["holiday"][first + step : first + 6 + step], rtol=1e-5)
        np.testing.assert_allclose(batch.y[n], frame["demand"][first + 6 : first + 9], rtol=1e-5)
    assert torch.equal(batch.y, train.targets)
    assert train.task.mean == pytest.approx([float(train.normalization.mean[0])])


def test_what_is_known_beforehand_is_worth_more_than_the_past() -> None:
    errors = {}
    for covariates in ("none", "past", "known"):
        splits = load(covariates)
        small = potstill.distill(splits, "random", items=40, codec="float32", progress=None)
        card = potstill.evaluate(
            small, splits, networks="ridge", seeds=1, baselines=False, full=False, robust_scores=False, progress=None
        )
        errors[covariates] = card.to_dict()["score"]["mean"]
    assert errors["known"] < 0.5 * errors["past"]
    assert errors["known"] < 0.5 * errors["none"]


def test_known_values_do_not_leave_their_stretch() -> None:
    frame = table(80).assign(time=pd.date_range("2024-01-01", periods=80))
    frame = frame.drop(index=[40])
    splits = potstill.load_data(frame, label="demand", task="forecast:window=6,horizon=3,covariates=known")
    gap = 40  # rows before the gap
    before = splits.train.series[gap - 3 : gap, 2]
    assert before.tolist() == [frame["holiday"].iloc[gap - 1]] * 3


def test_naive_forecasts_are_of_the_one_that_is_forecast() -> None:
    plain, more = load("none"), load("past")
    assert plain.test is not None
    assert more.test is not None
    found, expected = (naive_scores(get_task(s.train), s.train, s.test) for s in (more, plain) if s.test is not None)
    assert found.keys() == expected.keys()
    for name, scores in expected.items():
        assert found[name]["score"] == pytest.approx(scores["score"])
        assert found[name]["mase"] == pytest.approx(scores["mase"])


@pytest.mark.parametrize("method", ["kip", "dc", "condtsf"])
def test_a_learned_series_holds_covariates_and_comes_back_from_its_file(method: str, tmp_path: Path) -> None:
    splits = load("known")
    made: Any = method
    if method == "condtsf":
        made = CondTSF(network="linear", num_experts=1, train_epochs=4, iterations=6, expert_epochs=1)
    small = potstill.distill(
        splits, made, parametrization="series:length=20", items=4, steps=4, codec="float32", progress=None
    )
    assert small.inputs.shape[1:] == (3, 6)
    assert small.labels.shape == (12, 3)
    # the values after a window stand in the next windows of the same variable, and in no covariate
    torch.testing.assert_close(small.inputs[3:, 0, -3:], small.labels[:-3], rtol=1e-4, atol=1e-4)
    path = tmp_path / "small.safetensors"
    small.save(path)
    again = potstill.load(path)
    assert torch.equal(again.labels, small.labels)
    assert again.input.columns == ("demand", "warm (3 later)", "holiday (3 later)")
    card = potstill.evaluate(again, splits, networks="linear", seeds=1, quick=True, progress=None).to_dict()
    assert card["score"]["mean"] > 0
    assert list(card["units"]) == ["demand"]


def test_files_without_covariates_do_not_name_them() -> None:
    small = potstill.distill(load("none"), "random", items=4, progress=None)
    assert not {"covariates", "inputs"} & small.metadata["task"].keys()
    with_them = potstill.distill(load("past"), "random", items=4, progress=None)
    assert with_them.metadata["task"]["inputs"] == ["warm", "holiday"]


def test_what_is_refused() -> None:
    task = "forecast:window=6,horizon=3,covariates=past"
    with pytest.raises(PotstillError, match='beside the one to forecast; name that one with `label="warm"`'):
        potstill.load_data(table(), task=task)
    with pytest.raises(PotstillError, match="no column of numbers is left as a covariate"):
        potstill.load_data(table()[["demand"]], label="demand", task=task)
    with pytest.raises(PotstillError, match="unknown kind of covariates 'future'; known: known, none, past"):
        load("future")
    with pytest.raises(PotstillError, match="known covariates are of the 2 points that end with the horizon, which"):
        potstill.load_data(table(), label="demand", task="forecast:window=2,horizon=3,covariates=known")
    with pytest.raises(PotstillError, match="network dlinear forecasts each variable from itself"):
        potstill.distill(load("past"), "dc", network="dlinear", items=4, steps=1, progress=None)
