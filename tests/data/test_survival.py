"""Tables with a time until an event: how they are read, what is refused, and sets of them from end to end."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import potstill
from potstill.evaluation.survival_learners import Cox, XGBoostCox
from potstill.tasks import Survival

TASK = "survival:time=days,event=died"


def patients(n: int = 200, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    age, marker = rng.normal(60, 10, n), rng.normal(size=n)
    lasts = rng.exponential(np.exp(-0.08 * (age - 60) - marker))
    leaves = rng.exponential(1.5, n)
    ward = np.array(["north", "south"])[(marker > 0).astype(int)]
    days = np.ceil(1000 * np.minimum(lasts, leaves))
    return pd.DataFrame({"age": age, "ward": ward, "days": days, "died": (lasts <= leaves).astype(int)})


@pytest.mark.parametrize("events", ["numbers", "truth values"])
def test_a_table_is_read(events: str, tmp_path: Path) -> None:
    frame = patients()
    if events == "truth values":
        frame["died"] = frame["died"] == 1
    splits = potstill.load_data(frame, task=TASK)
    assert splits.train.task == Survival(time="days", event="died")
    assert not {"days", "died"} & set(splits.train.input.columns)
    assert splits.train.targets.shape == (160, 2)
    rows = {(d, float(e)) for d, e in zip(frame["days"], frame["died"], strict=True)}
    assert {tuple(row) for row in splits.train.targets.tolist()} <= rows
    assert any("of 160 rows have the event, the others are censored" in note for note in splits.notes) or any(
        "of 200 rows have the event" in note for note in splits.notes
    )


def test_targets_stay_with_their_rows() -> None:
    frame = patients()
    frame["age"] = frame["days"]  # an input that is the time
    splits = potstill.load_data(frame, task=TASK)
    at = splits.train.input.columns.index("age")
    raw = splits.train.raw(torch.arange(len(splits.train)))
    torch.testing.assert_close(raw[:, at], splits.train.targets[:, 0])


def test_arrays_and_missing_rows() -> None:
    frame = patients()
    x, y = frame[["age"]].to_numpy(), frame[["days", "died"]].to_numpy(dtype=float)
    assert potstill.load_data((x, y), task="survival").train.targets.shape == (160, 2)
    holed = frame.assign(days=frame["days"].where(frame.index != 7))
    with pytest.raises(
        potstill.PotstillError, match='row 8 has no time or no event; remove it, or say `missing="drop"`'
    ):
        potstill.load_data(holed, task=TASK)
    splits = potstill.load_data(holed, task=TASK, missing="drop")
    assert len(splits.train) + len(splits.test) == 199


@pytest.mark.parametrize(("changes", "task", "message"), [
    ({}, "survival", 'say which columns hold times and events, such as `task="survival:time=days,event=died"`'),
    ({}, "survival:time=day,event=died", "did you mean days"),
    ({"died": 2}, TASK, "events must be 1 where one happened and 0 .* column 'died' has 2 in row 1"),
    ({"died": 0}, TASK, "no row has an event, so there is nothing to learn"),
    ({"died": "yes"}, TASK, "column 'died' must hold numbers"),
    ({"days": -1.0}, TASK, "times must be finite and at least 0, but column 'days' has -1 in row 1"),
])  # fmt: skip
def test_what_is_refused(changes: dict[str, Any], task: str, message: str) -> None:
    with pytest.raises(potstill.PotstillError, match=message) as caught:
        potstill.load_data(patients().assign(**changes), task=task)
    assert "\n" not in str(caught.value)


def test_options_methods_and_learners_that_do_not_fit() -> None:
    with pytest.raises(potstill.PotstillError, match="leave `label=` out"):
        potstill.load_data(patients(), label="days", task=TASK)
    splits = potstill.load_data(patients(), task=TASK)
    with pytest.raises(potstill.PotstillError, match=r"method kip does .* is survival"):
        potstill.distill(splits, "kip", items=10, steps=1, progress=None)
    small = potstill.distill(splits, "random", items=10, progress=None)
    with pytest.raises(potstill.PotstillError, match="forest learns classification"):
        potstill.evaluate(small, splits, networks="forest", progress=None)
    with pytest.raises(potstill.PotstillError, match="cox: penalty must be at least 0"):
        Cox(penalty=-1)


@pytest.mark.parametrize("method", ["random", "k-means", "dm", "dc", "real"])
def test_sets_are_made_saved_and_measured(method: str, tmp_path: Path) -> None:
    splits = potstill.load_data(patients(), task=TASK)
    steps = {"steps": 5} if method in ("dm", "dc") else {}
    small = potstill.distill(splits, method, items=40, progress=None, **steps)
    small.save(tmp_path / "small.safetensors")
    again = potstill.load(tmp_path / "small.safetensors")
    assert again.task == splits.train.task
    assert set(again.labels[:, 1].tolist()) == {0.0, 1.0}
    card = potstill.evaluate(
        again, splits, networks=["cox", "linear"], seeds=1, quick=True, baselines=False, full=False, progress=None
    ).to_dict()
    assert card["score"]["metric"] == "concordance"
    assert card["score"]["mean"] > 0.5


def test_both_learners_put_patients_in_order() -> None:
    splits = potstill.load_data(patients(600), task=TASK)
    every = splits.train.fetch(torch.arange(len(splits.train)))
    test = splits.test.fetch(torch.arange(len(splits.test)))
    for learner in (Cox(), XGBoostCox(rounds=20)):
        risks = learner.fit(every.x, every.y, None, splits.train.task, 0)(test.x)
        assert risks.shape == (120, 1)
        assert splits.train.task.score(risks, test.y) > 0.65


def test_no_event_in_a_set_gives_equal_risks() -> None:
    y = torch.tensor([[1.0, 0.0], [2.0, 0.0]])
    risks = Cox().fit(torch.randn(2, 3), y, None, Survival(), 0)(torch.randn(5, 3))
    assert risks.unique().tolist() == [0.0]
