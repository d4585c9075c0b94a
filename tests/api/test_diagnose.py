"""The report card of a set: every part on pictures and on a table, and what it must say where the answer is known."""

import json
from pathlib import Path

import pytest
import torch

import potstill
from potstill.api.diagnose import parts
from potstill.cli.main import main
from potstill.errors import PotstillError
from tests.build_set import build_set

OF_CLASSES = tuple(name for name in parts() if name != "zero-shot")
"""Parts that are computed of classes where none is named."""
QUICK = {"students": 2, "steps": 6, "real": (1,), "teacher_steps": (1, 4), "groups": 3, "network": "convnet-d1-w4"}


@pytest.fixture(scope="module")
def digits() -> potstill.Splits:
    return potstill.load_data("digits")


@pytest.fixture(scope="module")
def chosen(digits: potstill.Splits) -> potstill.Distilled:
    return potstill.distill(digits, method="random", ipc=1, seed=0, network="convnet-d1-w4", codec="float32")


@pytest.fixture(scope="module")
def whole(digits: potstill.Splits, chosen: potstill.Distilled) -> dict:
    return potstill.diagnose(chosen, digits, progress=None, executor="serial", **QUICK)


def test_every_part_is_there_and_json(whole):
    assert tuple(whole["parts"]) == OF_CLASSES
    assert whole["left_out"] == {}
    assert json.loads(json.dumps(whole, allow_nan=False)) == whole
    assert set(whole["cost"]["expected"]) == set(OF_CLASSES) == set(whole["cost"]["seconds"])


def test_samples_of_the_data_are_found_to_be_copies(whole, chosen):
    found = whole["parts"]["nearest"]
    assert (found["exact"], found["near"], found["selected"]) == (10, 0, True)
    assert [i["sample"] for i in found["items"]] == chosen.index.tolist()
    assert found["other_class"] == 0
    assert found["usual"] > 0


def test_a_set_and_real_samples_in_its_place_are_mixed_with_the_same_samples(whole):
    curve = whole["parts"]["mixing"]["curve"]
    assert [row["k"] for row in curve] == [0, 1]
    assert [row["items"] for row in curve] == [
        {"with_set": 10, "real_alone": 0, "real_instead": 10},
        {"with_set": 20, "real_alone": 10, "real_instead": 20},
    ]
    assert whole["asked"]["part"] == "test"


def test_leaving_out_covers_every_item_once(whole):
    found = whole["parts"]["influence"]
    assert sorted(i for group in found["items"] for i in group["items"]) == list(range(10))
    losses = [group["loss"] for group in found["items"]]
    assert losses == sorted(losses, reverse=True)


def test_the_same_seed_is_the_same_card_and_parts_do_not_change_each_other(whole, digits, chosen):
    asked = ["agreement", "labeller"]
    alone = potstill.diagnose(chosen, digits, parts=asked, progress=None, executor="serial", **QUICK)
    assert tuple(alone["parts"]) == ("labeller", "agreement")
    assert alone["parts"] == {name: whole["parts"][name] for name in alone["parts"]}
    other = potstill.diagnose(chosen, digits, parts="agreement", seed=1, progress=None, executor="serial", **QUICK)
    assert other["parts"]["agreement"]["curve"] != whole["parts"]["agreement"]["curve"]


def test_agreement_and_calibration_are_parts_of_answers(whole):
    found = whole["parts"]["agreement"]
    assert [row["steps"] for row in found["curve"]] == [1, 4]
    best = max(found["curve"], key=lambda row: row["agreement"]["mean"])
    assert found["peak"] == best
    table = whole["parts"]["calibration"]["set"]["table"]
    assert sum(row["answers"] for row in table) == 2 * whole["asked"]["samples"]


def test_an_item_whose_label_is_wrong_is_read_otherwise_and_near_to_another_class(digits):
    train = digits.train
    at = torch.stack([torch.where(train.labels == c)[0][0] for c in range(10)])
    made = potstill.distill(digits, method="random", ipc=1, seed=0, network="convnet-d1-w4", codec="float32")
    wrong = build_set(
        train.raw(at), torch.arange(10).roll(1), method="mine", config={}, seed=0, ipc=1, classes=train.classes,
        input=train.input, normalization=train.normalization, training={}, source=made.metadata["source"],
        outcome=made.metadata["outcome"], cost=made.metadata["cost"],
    )  # fmt: skip
    found = potstill.diagnose(
        wrong,
        digits,
        parts=("nearest", "labeller"),
        students=1,
        teacher_steps=(60,),
        network="convnet-d1-w16",
        progress=None,
    )["parts"]
    assert found["nearest"]["other_class"] == 10
    assert not found["nearest"]["selected"]
    assert found["nearest"]["exact"] == 10
    assert found["labeller"]["agreement"]["mean"] <= 0.3 < found["labeller"]["real"]["mean"]
    assert len(found["labeller"]["taken_for_another"]) >= 7


def test_validation_leaves_the_test_part_out(digits, chosen):
    found = potstill.diagnose(chosen, digits, parts="calibration", split="validation", progress=None, **QUICK)
    assert found["asked"] == {"part": "validation", "samples": len(digits.train) - found["data"]["samples"]}
    assert found["data"]["made_of_train"] is None


def _table(folder: Path, target: str) -> Path:
    from sklearn.datasets import load_wine

    frame = load_wine(as_frame=True).frame
    named = frame.rename(columns={"target": "kind"}).assign(kind=lambda f: "w" + f["kind"].astype(str))
    named = named if target == "kind" else named.drop(columns="kind")
    named.to_csv(folder / "wine.csv", index=False)
    return folder / "wine.csv"


def test_a_table_has_a_card_from_the_command_line_too(tmp_path, capsys, monkeypatch):
    path = _table(tmp_path, "kind")
    monkeypatch.chdir(tmp_path)
    data = ["--label", "kind", "--quiet"]
    assert main(["distill", str(path), *data, "--method", "random", "--ipc", "2", "--out", "w.safetensors"]) == 0
    capsys.readouterr()
    words = ["diagnose", "w.safetensors", "--data", str(path), *data]
    few = ["--students", "2", "--steps", "5", "--real", "1", "--teacher-steps", "1,3"]
    assert main([*words, *few, "--plan", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["seconds"] == pytest.approx(sum(of["seconds"] for of in plan["expected"].values()))
    assert main([*words, *few, "--out", "w.study.json"]) == 0
    shown = capsys.readouterr().out
    captions = (
        "Items nearest to real samples", "Items that networks of real data read", "Calibration error over",
        "Mixed with real samples", "Agreement with networks stopped early", "Curvature of the loss",
        "Influence of items", "Likeness to real samples",
    )  # fmt: skip
    assert len(captions) == len(OF_CLASSES)
    assert all(f"\n{caption}" in shown for caption in captions)
    held = json.loads((tmp_path / "w.study.json").read_text())
    assert held["file"] == "w.safetensors"
    assert held["parts"]["nearest"]["space"] == "normalised values"
    assert main([*words, "--out", "w.json"]) == 2
    assert main([*words, "--parts", "mixing,tea"]) == 1
    assert "tea" in capsys.readouterr().err


def test_numbers_have_no_classes_to_agree_on(tmp_path):
    path = _table(tmp_path, "alcohol")
    data = potstill.load_data(path, label="alcohol", task="regression")
    small = potstill.distill(data, method="random", items=8, seed=0)
    found = potstill.diagnose(small, data, students=2, steps=5, real=(4,), groups=3, progress=None)
    assert set(found["left_out"]) == {"labeller", "calibration", "agreement"}
    assert found["parts"]["mixing"]["per"] == "set"
    assert found["parts"]["curvature"]["set"]["real"]["trace"]["mean"] > 0
    assert [len(g["items"]) for g in found["parts"]["influence"]["items"]] in ([3, 3, 2], [3, 2, 3], [2, 3, 3])


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"parts": "tea"}, "part of a study"),
        ({"split": "train"}, "test or the validation"),
        ({"students": 0}, "students of at least 1"),
        ({"teacher_steps": (3, 1)}, "that rise"),
        ({"network": "forest"}, "networks"),
    ],
)
def test_what_makes_no_sense_is_one_line(digits, chosen, wrong, said):
    with pytest.raises(PotstillError, match=said) as error:
        potstill.diagnose(chosen, digits, progress=None, **wrong)
    assert "\n" not in str(error.value)
