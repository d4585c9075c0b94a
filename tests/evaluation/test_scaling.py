"""What soft labels buy in data, measured: on training data alone, cell by cell, the same bits after an interruption."""

import dataclasses
import json
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import potstill
from potstill.api import scaling as knowledge
from potstill.cli.main import main
from potstill.core import Splits
from potstill.data import TensorSource
from potstill.errors import PotstillError
from potstill.evaluation import vmap_students
from potstill.execution import Serial
from potstill.reports import draw_law
from potstill.testing import toy_source

SOURCE = toy_source("image", per_class=30)
QUICK: dict[str, Any] = {
    "ipc": (1, 2, 3, 4), "teacher_epochs": (1, 3), "repeats": 2, "steps": 4, "network": "convnet-d1-w4",
    "validation": 0.4,
    "device": "cpu",
}  # fmt: skip


class Untouchable(TensorSource):
    """A test split of which no one may take a sample."""

    def _refuse(self, *_: Any) -> Any:
        raise AssertionError("the test split was asked for samples")

    fetch = raw = to = subset = _refuse


DATA = Splits(
    train=SOURCE, test=Untouchable(**{f.name: getattr(SOURCE, f.name) for f in dataclasses.fields(TensorSource)})
)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("POTSTILL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(
        "potstill.api.scaling.choose_executor", lambda *_: Serial()
    )  # other processes know no monkeypatch
    return tmp_path


def test_it_measures_every_cell_on_held_out_training_data_alone(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs: list[Any] = []
    scored: list[Any] = []
    train = vmap_students.train_and_predict

    def spied(source: Any, job: Any) -> Any:
        jobs.append(job)
        scored.append(source)
        return train(source, job)

    monkeypatch.setattr("potstill.evaluation.vmap_students.train_and_predict", spied)
    found = potstill.scaling(DATA, out=cache / "out", **QUICK)
    assert set(found["cells"]) == {f"{n}-{s}" for n in (1, 2, 3, 4) for s in ("hard", 1, 3)}
    assert len(jobs) == 24
    held = scored[0]
    assert len(held) == sum(found["held"]) == len(SOURCE) - found["samples"]
    unseen = {bytes(x.numpy().tobytes()) for x in held.fetch(torch.arange(len(held))).x}
    shown = {bytes(x.numpy().tobytes()) for job in jobs for x in job.x}
    assert not shown & unseen
    by_cell = dict(zip(found["cells"], [jobs[i : i + 2] for i in range(0, 24, 2)], strict=True))
    hard, early, late = by_cell["4-hard"][0], by_cell["4-1"][0], by_cell["4-3"][0]
    assert hard.y.tolist() == [c for c in range(4) for _ in range(4)]
    assert torch.allclose(early.y.sum(1), torch.ones(16))
    assert not torch.allclose(early.y, late.y)
    # sets of all cells are the same, larger budgets hold smaller ones, and students start alike
    assert torch.equal(hard.x, late.x)
    assert torch.equal(by_cell["1-hard"][0].x, hard.x[::4])
    assert hard.seed == late.seed == by_cell["1-3"][0].seed != by_cell["1-3"][1].seed
    # a cell's numbers are those of its students
    predicted = train(held, late)
    right = (predicted == held.labels).double()
    at = found["held"][0]
    assert found["cells"]["4-3"]["choice"][0] == pytest.approx(float(right[:at].mean()))
    assert found["cells"]["4-3"]["accuracy"]["values"][0] == pytest.approx(float(right[at:].mean()))


def test_an_interrupted_run_goes_on_with_the_missing_cells_and_ends_the_same(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = potstill.scaling(DATA, out=cache / "whole", **QUICK)
    calls: list[int] = []
    train = vmap_students.train_and_predict

    def stopped(source: Any, job: Any) -> Any:
        calls.append(1)
        if len(calls) == 6:
            raise KeyboardInterrupt
        return train(source, job)

    monkeypatch.setattr("potstill.evaluation.vmap_students.train_and_predict", stopped)
    with pytest.raises(KeyboardInterrupt):
        potstill.scaling(DATA, out=cache / "part", **QUICK)
    assert len(json.loads((cache / "part" / "scaling.json").read_text())["cells"]) == 2
    again = potstill.scaling(DATA, out=cache / "part", **QUICK)
    assert len(calls) == 6 + 20
    assert again == whole
    for name in ("scaling.json", "scaling.svg"):
        assert (cache / "part" / name).read_bytes() == (cache / "whole" / name).read_bytes()
    potstill.scaling(DATA, out=cache / "part", **QUICK)
    assert len(calls) == 26


def test_other_settings_and_what_cannot_be_measured_are_refused(cache: Path) -> None:
    (cache / "scaling.json").write_text(json.dumps({"settings": {}, "cells": {}}))
    with pytest.raises(PotstillError, match="made of other data or settings; choose another folder"):
        potstill.scaling(DATA, out=cache, **QUICK)
    (cache / "scaling.json").write_text("{")
    with pytest.raises(PotstillError, match="not what scaling wrote"):
        potstill.scaling(DATA, out=cache, **QUICK)
    for changes, said in (
        ({"ipc": (1, 2, 3)}, "ipc must be 4 or more different whole numbers"),
        ({"ipc": (1, 1, 2, 3)}, "ipc must be 4 or more different whole numbers"),
        ({"teacher_epochs": ()}, "teacher_epochs must be 1 or more different whole numbers from 1 on"),
        ({"teacher_epochs": (0, 1)}, "teacher_epochs must be 1 or more"),
        ({"repeats": 0}, "at least one set is needed"),
        ({"ipc": (1, 2, 3, 25)}, r"25 distinct samples of every class are required, but class 'c0' has 18"),
    ):
        with pytest.raises(PotstillError, match=said):
            potstill.scaling(DATA, out=cache / "none", **(QUICK | changes))


def test_one_stop_and_one_set_say_what_they_can(cache: Path) -> None:
    found = potstill.scaling(DATA, out=cache, **(QUICK | {"teacher_epochs": (2,), "repeats": 1}))
    assert set(found["law"]["soft"]) == {"ln_kappa", "ln_A", "b"}
    assert not any(row["known"] for row in found["worth"])
    json.loads((cache / "scaling.json").read_text(), parse_constant=pytest.fail)


IPC = (1, 5, 10, 20, 100)


def result(**changes: Any) -> dict[str, Any]:
    """A result with exact power laws: errors 0.5 n^-0.5 with classes, half of that with labels of 3 epochs."""

    def cell(n: int, stop: int | None) -> dict[str, Any]:
        mean = 1 - {None: 0.5, 1: 0.45, 3: 0.25}[stop] * n**-0.5
        accuracy = {"mean": mean, "ci95": [mean - 0.02, mean + 0.02], "values": [mean] * 3, "n": 3}
        return {"ipc": n, "stop": stop, "accuracy": accuracy, "choice": [mean] * 3, "diverged": 0}

    found = {
        "settings": {"ipc": list(IPC), "stops": [1, 3], "sets": 3, "seed": 0}, "source": "toys", "samples": 9,
        "cells": {knowledge._key(n, s): cell(n, s) for n in IPC for s in (None, 1, 3)}, "held": [10**9, 10**9],
        "teachers": [{"stop": s, "accuracy": 1 - 1e-6, "choice": 1 - 1e-6} for s in (1, 3)],
        "bytes": {"hard": 264, "soft": 296},
    }  # fmt: skip
    return {**found, **knowledge._conclude(found), **changes}


def test_the_sentence_says_what_soft_labels_are_worth() -> None:
    found = result()
    row = next(r for r in found["worth"] if r["ipc"] == 10)
    assert row["value"] == pytest.approx(40, rel=1e-2)  # (0.5 / 0.25)² × 10
    assert (row["stop"], row["side"]) == (3, "inside")
    assert found["sentence"].startswith("10 soft-labelled per class are worth 40 hard-labelled [")
    assert found["sentence"].endswith("]; teacher of 3 epochs.")
    assert found["worth"][-1]["side"] == "more"
    assert found["law"]["misfit"] < 1e-3

    def said(**changes: Any) -> str:
        return knowledge._sentence({**row, "known": True, **changes}, IPC)

    assert "worth 40 hard-labelled [7, over 100];" in said(value=40, low=7.0, high=None)
    assert "worth 40 hard-labelled [under 1, 50];" in said(value=40, low=None, high=50.0)
    assert "worth 40 hard-labelled;" in said(value=40, low=None, high=None, known=False)
    assert "worth more than 100 hard-labelled, beyond what was measured (at least 70 at 95%); teacher" in said(
        value=None, side="more", low=70.0, high=None
    )
    assert "worth fewer than 1 hard-labelled, beyond what was measured; teacher" in said(
        value=None, side="fewer", low=None, high=None
    )
    assert "did not help" in said(side="unknown")


def test_the_plot_holds_points_lines_and_no_markup_of_names() -> None:
    name = '</title><script>alert("1")</script>'
    svg = draw_law(result(source=name))
    root = ET.fromstring(svg)
    kinds = [e.tag.rpartition("}")[2] for e in root.iter()]
    assert set(kinds) == {"svg", "title", "metadata", "rect", "line", "polyline", "circle", "text"}
    assert kinds.count("circle") == 15 + 3  # cells, legend
    assert kinds.count("polyline") == 3
    words = [e.text or "" for e in root.iter() if e.tag.endswith("text")]
    assert any(name in word for word in words)
    assert {"3 epochs (100.0 %)", "1 epoch (100.0 %)", "classes", "10 soft = 40 hard"} <= set(words)
    # better is higher: the cell of most data and best labels stands above that of least data
    dots = [e for e in root.iter() if e.tag.endswith("circle") and e.get("r") == "3.5"]
    assert float(dots[14].get("cy", "")) < float(dots[10].get("cy", "")) < float(dots[0].get("cy", ""))


def test_the_command_prints_a_table_and_writes_json_and_plot(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [
        "scaling",
        "digits",
        "--ipc",
        "1,2,3,4",
        "--teacher-epochs",
        "1,3",
        "--repeats",
        "2",
        "--steps",
        "4",
        "--device",
        "cpu",
    ]
    words += ["--network", "convnet-d1-w4", "--out", str(cache / "out"), "--quiet"]
    assert main(words) == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    assert "3 soft-labelled per class are worth" in shown.out or "did not help" in shown.out
    assert "  1 epoch (" in shown.out
    assert main([*words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["cells"]["4-3"]["accuracy"]["n"] == 2
    ET.fromstring((cache / "out" / "scaling.svg").read_text())
    assert main([*words, "--teacher-epochs", "0"]) == 2


def test_a_student_that_diverges_counts_as_chance_and_is_counted(cache: Path) -> None:
    found = potstill.scaling(DATA, out=cache, **(QUICK | {"lr": 1e30}))
    cell = found["cells"]["4-hard"]
    assert cell["diverged"] == 2
    assert cell["accuracy"]["values"] == [0.25, 0.25]


def test_an_error_of_nothing_is_half_a_sample() -> None:
    found = result(held=[9, 9])
    found["cells"] = {k: {"choice": [1.0], "accuracy": {"values": [0.0]}} for k in found["cells"]}
    found["teachers"] = [{"choice": 1.0, "accuracy": 0.0}] * 2
    none, everything = (knowledge._measured(found, part) for part in (0, 1))
    for value, expected in ((none, 0.05), (everything, 0.95)):
        assert np.allclose(value.hard, expected)
        assert np.allclose(value.soft, expected)
        assert np.allclose(value.teacher, expected)
