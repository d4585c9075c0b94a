"""A set of forecasts asked about another horizon or other windows: the set, its data, scorecard and page."""

import json
import re
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch

import potstill
from potstill.cli.main import main
from potstill.data.series import windows_within
from potstill.dataset_file.series_io import recut_set
from potstill.errors import PotstillError
from potstill.evaluation.learners import Ridge
from tests.series_data import seasonal, windows

FAST = {"networks": "ridge", "seeds": 1, "baselines": False, "full": False, "robust_scores": False, "progress": None}


@pytest.fixture(scope="module")
def data():
    return windows()


def make(data, method="kip", **options):
    known = {"items": 5, "seed": 0, "progress": None, "codec": "float32"}
    known |= {} if method != "kip" else {"parametrization": "series", "steps": 2, "preset": "quick"}
    return potstill.distill(data, method, **(known | options))


@pytest.fixture(scope="module")
def small(data):
    return make(data)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A csv and a set of it."""
    folder = tmp_path_factory.mktemp("asked")
    table, at = folder / "s.csv", folder / "small.safetensors"
    table.write_text("x\n" + "".join(f"{v:.6f}\n" for v in seasonal()[:, 0]))
    make(potstill.load_data(table, task="forecast:window=8,horizon=4")).save(at)
    return table, at


def test_a_shorter_horizon_keeps_the_learned_windows_and_cuts_their_targets(small):
    asked = recut_set(small, 8, 1)
    assert torch.equal(asked.inputs, small.inputs)
    assert torch.equal(asked.labels, small.labels[:, :1])
    assert asked.metadata["bytes"] == small.metadata["bytes"]
    assert (asked.task.window, asked.task.horizon) == (8, 1)


def test_ridge_forecasts_each_value_to_come_by_itself(small, data):
    """Why a series that is learned in closed form for a horizon serves shorter ones."""
    asked, x = recut_set(small, 8, 2), data.test.fetch(torch.arange(9)).x
    far, near = (Ridge().fit(s.model_space(), s.labels, None, s.task, 0)(x) for s in (small, asked))
    torch.testing.assert_close(near, far[:, :2])


@pytest.mark.parametrize(("window", "horizon"), [(8, 9), (5, 4), (12, 2)])
def test_other_windows_are_all_that_fit_into_the_stored_series(small, window, horizon):
    asked = recut_set(small, window, horizon)
    points = small.normalization.invert(small.payload["points"][0].T[None])[0, 0]
    cut = points.unfold(0, window + horizon, 1)
    torch.testing.assert_close(asked.inputs[:, 0], cut[:, :window])
    torch.testing.assert_close(asked.labels, cut[:, window:])
    assert asked.input.shape == (1, window)


def test_no_window_lies_on_two_stretches(data):
    two = make(data, parametrization="series:length=20,count=2", items=5)
    asked = recut_set(two, 8, 8)
    assert len(asked) == 2 * 5
    stretch = two.normalization.invert(two.payload["points"][1].T[None])[0, 0]
    torch.testing.assert_close(asked.inputs[5, 0], stretch[:8])


@pytest.mark.parametrize("method", ["random", "real"])
def test_other_windows_of_real_ones_are_real(data, method):
    asked = recut_set(make(data, method, items=6), 7, 3)
    cut = data.train.series[:, 0].unfold(0, 10, 1)
    whole = torch.cat([asked.inputs[:, 0], asked.labels], 1)
    nearest = torch.cdist(whole.double(), cut.double()).min(1).values
    assert float(nearest.max()) < 1e-5
    assert len(asked) >= 6 + 2


def test_windows_that_only_touch_are_of_two_stretches():
    starts, longest = windows_within(torch.tensor([9, 0, 4]), 5, 6)
    assert (starts.tolist(), longest) == ([0, 1, 2, 3], 9)  # 0 to 8 overlap in point 4; 9 to 13 only follow
    assert windows_within(torch.tensor([0, 5]), 5, 5)[0].tolist() == [0, 5]
    assert windows_within(torch.tensor([0, 5]), 5, 6)[0].tolist() == []


@pytest.mark.parametrize(("window", "horizon"), [(8, 1), (8, 9), (5, 4)])
@pytest.mark.parametrize("several", [False, True])
def test_data_are_cut_as_if_read_for_the_other_horizon(window, horizon, several):
    frame = {"x": np.concatenate([seasonal(80)[:, 0], seasonal(90, seed=1)[:, 0]]), "of": ["a"] * 80 + ["b"] * 90}
    import pandas as pd

    table = pd.DataFrame(frame) if several else pd.DataFrame(frame)[["x"]]
    series = "of" if several else None
    made, read = (
        potstill.load_data(table, task=f"forecast:window={w},horizon={h}", series=series)
        for w, h in ((8, 4), (window, horizon))
    )
    for part in ("train", "test"):
        cut, direct = getattr(made, part).recut(window, horizon), getattr(read, part)
        assert torch.equal(cut.starts, direct.starts)
        assert torch.equal(cut.targets, direct.targets)
        assert cut.groups is None if direct.groups is None else torch.equal(cut.groups, direct.groups)
        assert cut.content_hash == direct.content_hash


def test_the_scorecard_and_the_page_name_both_horizons(files, tmp_path, capsys):
    table, small = files
    card = tmp_path / "h2.scorecard.json"
    options = ["--data", str(table), "--network", "ridge", "--seeds", "1", "--no-full", "--quiet"]
    assert main(["evaluate", str(small), *options, "--task", "forecast:horizon=2", "--out", str(card)]) == 0
    assert "measured for 2 values to come from windows of 8; the set was made for 4 from windows of 8" in (
        capsys.readouterr().out
    )
    held = json.loads(card.read_text())
    assert held["forecast"] == {"window": 8, "horizon": 2, "made_for": {"window": 8, "horizon": 4}}
    assert held["data"]["made_of_train"] is True
    assert {"random", "random-items"} <= held["baselines"].keys()
    assert held["baselines"]["random-items"]["items"] == held["set"]["items"]
    own = tmp_path / "own.scorecard.json"
    assert main(["evaluate", str(small), *options, "--no-baselines", "--out", str(own)]) == 0
    assert json.loads(own.read_text())["forecast"] == {"window": 8, "horizon": 4}
    page = tmp_path / "page.html"
    assert main(["report", str(small), str(card), str(own), "--out", str(page), "--quiet"]) == 0
    html = re.sub(r"<[^>]+>", "", page.read_text())
    assert "All rows are of 2 to come from windows of 8. The set was made for 4 to come from windows of 8." in html
    assert html.count("Leaderboard: s.csv") == 2  # scores of two horizons are not ranked
    assert "potstill audit small.safetensors" in html


def test_data_read_for_another_horizon_ask_for_it(small, data):
    other = windows(horizon=2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # made of these data, though their windows are others
        card = potstill.evaluate(small, other, **FAST).to_dict()
    again = potstill.evaluate(small, data, task="forecast:horizon=2", **FAST).to_dict()
    of_task = potstill.evaluate(small, data, task=replace(data.train.task, horizon=2), **FAST).to_dict()
    assert card["score"]["mean"] == again["score"]["mean"] == of_task["score"]["mean"]
    assert card["data"]["made_of_train"] is True


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ("forecast:horizon=90", "take 98 points in time, but the set's longest stretch has 40; ask for less"),
        ("forecast:window=0", "window and horizon must be at least 1, but they are 0 and 4"),
        ("forecast:covariates=past", "only window and horizon may differ from the set's, but covariates is past, not"),
        ("regression", "this set forecasts, but the task is regression; write `task=\"forecast:horizon=H\"`"),
    ],
)  # fmt: skip
def test_a_question_that_the_set_cannot_answer_is_refused(small, data, task, message):
    with pytest.raises(PotstillError, match=re.escape(message)) as caught:
        potstill.evaluate(small, data, task=task, **FAST)
    assert "\n" not in str(caught.value)


def test_a_test_part_without_such_a_window_is_refused(data):
    with pytest.raises(PotstillError, match="take 38 points in time, but no more than 32 follow each other"):
        potstill.evaluate(make(data), data, task="forecast:horizon=30", **FAST)


def test_sets_of_windows_are_asked_about_shorter_horizons_alone(data):
    stored = make(data, "dm", parametrization="pixels", steps=1)
    assert recut_set(stored, 8, 3).labels.shape == (5, 3)
    with pytest.raises(PotstillError, match="at most 4 values to come from windows of 8, not 6 from 8"):
        recut_set(stored, 8, 6)


def test_other_tasks_have_no_horizon():
    small = potstill.distill("digits", "random", ipc=1, progress=None)
    with pytest.raises(
        PotstillError, match="needs a set and data of forecasts, but these are of classification and classification"
    ):
        potstill.evaluate(small, "digits", task="forecast:horizon=2", **FAST | {"networks": "linear-model"})


def test_what_is_known_up_to_the_horizon_is_of_that_horizon_alone():
    values = np.concatenate([seasonal(), seasonal(seed=1)], 1)
    splits = _frame(values, ["x", "holiday"], covariates="known")
    small = make(splits, items=8)
    with pytest.raises(PotstillError, match="known 4 points later, which is of that horizon alone"):
        potstill.evaluate(small, splits, task="forecast:horizon=2", **FAST)
    past = _frame(values, ["x", "holiday"], covariates="past")
    score = potstill.evaluate(make(past, items=8), past, task="forecast:horizon=2", **FAST)
    assert score.to_dict()["forecast"]["horizon"] == 2


@pytest.mark.filterwarnings("ignore::potstill.errors.PotstillWarning")
def test_other_variables_are_named(small):
    values = seasonal(variables=2)
    with pytest.raises(PotstillError, match="the set forecasts 'variable 1', but the data 'a', 'b'"):
        potstill.evaluate(small, _frame(values, ["a", "b"]), **FAST)
    made = make(_frame(values, ["a", "b"]), items=8)
    with pytest.raises(PotstillError, match="the set forecasts 'a', 'b', but the data 'b', 'a'"):
        potstill.evaluate(made, _frame(values, ["b", "a"]), **FAST)


def _frame(values, names, covariates="none"):
    import pandas as pd

    task = f"forecast:window=8,horizon=4,covariates={covariates}"
    return potstill.load_data(
        pd.DataFrame(values, columns=names), task=task, label=None if covariates == "none" else names[0]
    )
