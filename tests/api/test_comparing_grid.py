"""``compare`` over a grid: several sets, protocols, codecs and sizes in bytes; what is claimed, and what is not."""

import json
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from scipy import stats

import potstill
from potstill.api.compare import compare
from potstill.comparison import cells
from potstill.comparison.verdicts import compare_pairs
from potstill.core import Splits
from potstill.dataset_file import read_identity
from potstill.errors import PotstillError
from potstill.evaluation.statistics import holm_correction, paired_difference
from potstill.runs import fill
from potstill.runs.loop import Interrupted
from potstill.tasks.metric import Metric

FEW: dict[str, Any] = {"network": "mlp", "seeds": 2, "steps": 4, "lr": 0.01}
ACCURACY = Metric(name="accuracy", direction="higher", unit="fraction", high=1.0)
ERROR = Metric(name="mse", direction="lower", unit="squared deviations")


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POTSTILL_CACHE", str(tmp_path / "cache"))


def small() -> Splits:
    x = torch.rand(60, 1, 4, 4, generator=torch.Generator().manual_seed(1)).numpy()
    return potstill.load_data((x, [0, 1] * 30))  # type: ignore[no-any-return]


def test_a_paired_test_is_that_of_scipy_and_no_surer_than_the_answers() -> None:
    a, b = [0.3, 0.5, 0.45, 0.6], [0.2, 0.45, 0.3, 0.52]
    found, theirs = paired_difference(a, b), stats.ttest_rel(a, b)
    assert found["p"] == pytest.approx(theirs.pvalue)
    assert found["ci95"] == pytest.approx(list(theirs.confidence_interval()))
    few, many = paired_difference([0.6, 0.7], [0.5, 0.6], 5), paired_difference([0.6, 0.7], [0.5, 0.6], 10**7)
    assert few["p"] > 0.5 > 1e-6 > many["p"], "equal differences of few answers are no certainty"
    assert paired_difference([0.5], [0.4])["p"] is None


def test_holm_is_step_down_and_leaves_out_what_was_not_tested() -> None:
    assert holm_correction([0.01, None, 0.04, 0.03]) == [
        pytest.approx(0.03),
        None,
        pytest.approx(0.06),
        pytest.approx(0.06),
    ]
    assert holm_correction([0.9, 0.8]) == [1.0, 1.0]
    assert holm_correction([]) == []


def rows_of(scores: dict[str, dict[int, list[float]]], metric: Metric) -> list[dict[str, Any]]:
    def mean(name: str) -> float:
        values = [v for of in scores[name].values() for v in of]
        return sum(values) / len(values)

    best_first = sorted(scores, key=lambda name: -metric.sign * mean(name))
    return [
        {
            "id": name, "method": name, "unit": "ipc", "amount": 1, "protocol": "p", "score": {"mean": mean(name)},
            "parametrization": None, "requested_codec": None,
        }
        for name in best_first
    ]  # fmt: skip


@pytest.mark.parametrize("metric", [ACCURACY, ERROR], ids=["higher", "lower"])
def test_what_is_no_better_than_chance_is_not_told_apart_and_what_is_better_is_said(metric: Metric) -> None:
    noise = [0.01, -0.01, 0.0, 0.005, -0.005]
    scores = {
        "good": {k: [0.8 + e] for k, e in enumerate(noise)},
        "alike": {k: [0.795 - e] for k, e in enumerate(noise)},
        "bad": {k: [0.3 + e * 1.1] for k, e in enumerate(noise)},
    }
    rows = rows_of(scores, metric)
    tests, (verdict,) = compare_pairs(rows, scores, 5, metric, 10_000)
    marked = {row["id"]: (row["best"], row["not_told_apart"]) for row in rows}
    if metric.direction == "higher":
        assert marked == {"good": (True, True), "alike": (False, True), "bad": (False, False)}
        assert verdict["not_told_apart"] == ["alike"]
        assert verdict["worse"] == ["bad"]
        assert "cannot be told apart from alike" in verdict["text"]
    else:
        assert marked == {"bad": (True, True), "good": (False, False), "alike": (False, False)}
        assert "bad is better than all others" in verdict["text"]
    assert len(tests) == 3
    assert all(test["p_holm"] >= test["p"] for test in tests)


def test_one_set_says_which_set_is_better_and_that_this_is_not_the_method(tmp_path: Path) -> None:
    board = compare(small(), ["herding"], 1, out=tmp_path, **FEW)
    assert {test["kind"] for test in board["tests"]} == {"welch"}
    assert "not which method" in board["test"]
    assert {row["score"]["over"] for row in board["rows"]} == {"students"}
    verdict = board["verdict"]
    assert verdict["text"].startswith(f"{board['source']}: ")
    assert {size["kind"] for size in verdict["sizes"]} <= {"better", "worse", "not told apart", "reference"}
    assert verdict["warning"] in verdict["advice"]  # two students of few updates are not told apart from one answer
    assert {"kind", "text", "reason", "advice", "against", "difference", "sizes", "warning"} == verdict.keys()


def test_a_grid_is_made_once_and_grows(tmp_path: Path) -> None:
    given: dict[str, Any] = {"out": tmp_path, **FEW}
    compare(small(), ["herding"], 1, **given)
    written = [file for file in tmp_path.iterdir() if file.is_file() and file.name != "leaderboard.json"]  # no cache
    before = {file.name: file.stat().st_mtime_ns for file in written}
    options = {"dm": {"iterations": 1}}
    board = compare(small(), ["herding", "dm"], 1, bytes=["200"], repeats=3, options=options, **given)
    assert {name: (tmp_path / name).stat().st_mtime_ns for name in before} == before, "a larger grid takes it over"
    assert board == json.loads((tmp_path / "leaderboard.json").read_text())
    assert (board["done"], board["total"], board["complete"]) == (18, 18, True)
    assert [(row["unit"], row["amount"]) for row in board["rows"]] == [("ipc", 1)] * 3 + [("bytes", 200)] * 3
    for row in board["rows"]:
        assert [cell["seed"] for cell in row["cells"]] == [0, 1, 2]
        assert row["score"]["mean"] == pytest.approx(sum(cell["score"] for cell in row["cells"]) / 3)
        assert (row["score"]["n"], row["score"]["over"]) == (3, "sets")
        assert row["unit"] == "ipc" or row["bytes"] <= 200
        for cell in row["cells"]:
            kept = json.loads((tmp_path / cell["scorecard"]).read_text())
            assert kept["score"]["values"] == cell["students"]
            assert kept["file"] == cell["file"]
            assert (kept["cell"]["set"], kept["settings"]["seed"]) == (cell["set"], cell["seed"])
            assert {"potstill", "torch"} <= kept["versions"].keys()
            assert kept["making"]["seconds"] >= 0
            assert row["method"] != "dm" or [at["step"] for at in kept["curve"]] == [1]
    one, other = (potstill.load(tmp_path / name) for name in ("dm-ipc1.safetensors", "dm-ipc1-set1.safetensors"))
    assert not torch.equal(one.inputs, other.inputs)
    assert len(board["tests"]) == 6
    assert {test["kind"] for test in board["tests"]} == {"paired"}
    assert len(board["verdicts"]) == 2


def test_protocols_share_sets_and_codecs_and_parametrizations_are_axes(tmp_path: Path) -> None:
    board = compare(
        small(), ["dm"], 1, protocols=["potstill", "dc"], codecs=["uint4", "uint8"],
        parametrizations=["pixels", "tiles"],
        options={"protocol:potstill": {"steps": 4, "lr": 0.01}, "protocol:dc": {"epochs": 1}, "dm": {"iterations": 1}},
        out=tmp_path, network="mlp", seeds=2,
    )  # fmt: skip
    assert len(list(tmp_path.glob("*.safetensors"))) == 6, "random has no parametrization to choose"
    assert len(list(tmp_path.glob("*.scorecard.json"))) == 12
    assert {row["id"] for row in board["rows"] if row["method"] == "dm" and row["protocol"] == "dc"} == {
        f"dm-ipc1-{p}-{s}@dc" for p in ("pixels", "tiles") for s in ("uint4", "uint8")
    }
    assert all(row["scorecard"]["protocol"] == row["protocol"] for row in board["rows"])
    for row in board["rows"]:
        if row["method"] == "dm":
            assert row["difference"]["over"] == f"random-ipc1-{row['requested_codec']}@{row['protocol']}"
            assert potstill.load(tmp_path / row["file"]).metadata["codec"]["name"] == row["requested_codec"]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"ipc": None}, "sizes once"),
        ({"bytes": "many"}, "bytes: a size such as"),
        ({"repeats": 0}, "repeats must be"),
        ({"codecs": ["uint44x"]}, "unknown codec"),
        ({"parametrizations": ["tile"]}, "did you mean tiles"),
        ({"protocols": ["dx"]}, "unknown protocol"),
        ({"options": {"protocol:dc": {"epochs": 1}}}, "protocol with options"),
        ({"options": {"protocol:potstill": {"epochz": 1}}}, "did you mean epochs"),
    ],
)
def test_a_grid_that_cannot_be_is_refused_before_any_work(tmp_path: Path, wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(PotstillError, match=said):
        compare(small(), ["random"], **{"ipc": 1, "out": tmp_path / "b", **wrong})
    assert not (tmp_path / "b").exists()


def test_an_interrupted_set_that_was_planned_to_fill_its_bytes_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    for name, value in {"PLAN_STEPS": 2, "_LEAST_STEPS": 4}.items():
        monkeypatch.setattr(fill, name, value)

    def stop(progress: potstill.Progress) -> None:
        if progress.step == 3:
            os.kill(os.getpid(), signal.SIGINT)

    def interrupted(spec: Any, limits: Any, io: Any) -> Any:
        return potstill.run(spec, limits, io if spec.bytes is None else replace(io, progress=stop))

    given: dict[str, Any] = {
        "out": tmp_path / "board", "network": "mlp", "seeds": 2, "bytes": ["900"], "steps": 4, "lr": 0.01,
        "options": {"dm": {"iterations": 6}}, "executor": "serial",
    }  # fmt: skip
    with monkeypatch.context() as patch:
        patch.setattr(cells, "run", interrupted)
        with pytest.raises((Interrupted, KeyboardInterrupt)):
            compare("digits", ["dm"], 1, **given)
    (checkpoint,) = (tmp_path / "board").glob("*.checkpoint")
    planned = read_identity(checkpoint)[0]["planned_bytes"]
    compare("digits", ["dm"], 1, **given)
    made = tmp_path / "board" / "dm-bytes900.safetensors"
    assert potstill.load(made).metadata["planned_bytes"] == planned
