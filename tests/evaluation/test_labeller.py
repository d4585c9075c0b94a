"""Who labels under a protocol in which a teacher does: the set's own teacher, from its card, or whom the user names."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import potstill
from potstill.core import Splits
from potstill.dataset_file import Distilled
from potstill.errors import PotstillError, PotstillWarning
from potstill.evaluation import student
from potstill.evaluation import teacher_labels as labellers
from potstill.evaluation.augmentation import student_augmentation
from potstill.evaluation.evaluate import evaluate
from potstill.evaluation.protocols import SRE2L
from potstill.evaluation.scorecard import Scorecard
from potstill.execution import Serial
from potstill.labels.write import hash_network
from potstill.nn import factory
from potstill.pretraining import networks
from potstill.reports.entry import Entry
from potstill.reports.sections import entry_sections, warnings

BN, OTHER, INSTANCE = "convnet-d1-w8-batch", "convnet-d1-w4-batch", "convnet-d1-w8"
MADE: dict[str, Any] = {"network": BN, "teacher_epochs": 3, "iterations": 2, "teacher_batch": 16}
SHORT: dict[str, Any] = {"epochs": 2, "seeds": 2, "full": False, "robust_scores": False, "teacher_epochs": 1}


@pytest.fixture
def small(pictures: Splits) -> Distilled:
    return potstill.distill(replace(pictures, test=None), "sre2l", ipc=2, **MADE)


def score(small: Distilled, data: Splits, **options: Any) -> Scorecard:
    return potstill.evaluate(small, data, **{"protocol": "sre2l", "networks": BN, **SHORT, **options})


def test_a_card_says_which_networks_a_method_asked_for(pictures: Splits, small: Distilled, tmp_path: Path) -> None:
    small.save(tmp_path / "small.safetensors")
    (made,) = potstill.load(tmp_path / "small.safetensors").metadata["teachers"]
    assert made["network"] == f"{BN}-avg"
    assert made["labels"] is True
    assert made["recipe"]["epochs"] == 3
    assert made["recipe"]["batch"] == 16
    (one,) = made["networks"]
    assert one["epoch"] == 3
    assert len(one["hash"]) == 64
    two = potstill.distill(
        replace(pictures, test=None), "sre2l", ipc=1, num_teachers=2, committee=f"{OTHER},{INSTANCE}", **MADE
    ).metadata["teachers"]  # fmt: skip
    assert [(e["network"], len(e["networks"])) for e in two] == [
        (f"{BN}-avg", 2), (f"{OTHER}-avg", 1), (f"{INSTANCE}-instance-avg", 1)
    ]  # fmt: skip
    assert two[0]["networks"][0] == one  # the same training, so the same bits
    assert len({n["hash"] for e in two for n in e["networks"]}) == 4
    plain = potstill.distill(replace(pictures, test=None), "random", ipc=1)
    assert "teachers" not in plain.metadata


def test_networks_that_only_embed_are_named_and_do_not_label(pictures: Splits) -> None:
    small = potstill.distill(
        replace(pictures, test=None), "dm", ipc=1, network=INSTANCE, steps=1, embedders="trained",
        pretrained_networks=2,
        pretrain_epochs=1,
    )  # fmt: skip
    (made,) = small.metadata["teachers"]
    assert made["labels"] is False
    assert len(made["networks"]) == 2
    found = score(small, pictures, baselines=False).to_dict()["labeller"]
    assert (found["chosen"], found["own"], found["name"]) == ("student", None, f"{BN}-avg")


def test_the_teacher_that_made_a_set_labels_it_and_its_baselines(
    pictures: Splits, small: Distilled, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[student.StudentJob] = []
    original = student.train

    def traced(given: student.StudentJob) -> Any:
        seen.append(given)
        return original(given)

    def never(_: Any) -> Any:
        raise AssertionError("it is in the cache, and nothing is trained")

    monkeypatch.setattr(student, "train", traced)
    monkeypatch.setattr(networks.TrainNetwork, "run", never)
    protocol = SRE2L.override(epochs=2, teacher_epochs=1, select="last")
    card = evaluate(
        small, pictures, protocol=protocol, networks=[INSTANCE], seeds=2, full=False, robust_scores=False,
        executor=Serial(),
    )  # fmt: skip
    found = card.to_dict()["labeller"]
    made = small.metadata["teachers"][0]["networks"][0]["hash"]
    assert (found["chosen"], found["own"], found["name"], found["hash"]) == ("set", True, f"{BN}-avg", made)
    assert found["why"] is None
    taught = [given for given in seen if given.teachers is not None]  # others only chose how to store samples
    assert len(taught) == 2 + 3 + 2 + 3  # the set, three draws of random samples, herding, as many random samples
    for given in taught:
        assert given.make.name.startswith(INSTANCE)
        assert given.teachers is not None
        assert [hash_network(n) for n in given.teachers.networks()] == [made]
    assert f"labels by {BN}-avg [{made[:8]}], the set's own teacher: it takes " in str(card)
    assert json.dumps(card.to_dict())


def test_a_comparison_holds_a_set_against_real_samples_with_its_own_labels(pictures: Splits, tmp_path: Path) -> None:
    found = potstill.compare(
        pictures, ["rded"], [1], out=tmp_path / "board", protocol="sre2l", network=BN, seeds=2, epochs=2,
        teacher_epochs=1, options={"rded": {"teacher_epochs": 2, "teacher_batch": 16, "samples": 4, "crops": 2}},
    )  # fmt: skip
    rows = {row["method"]: row["scorecard"] for row in found["rows"]}
    assert rows["random"]["labeller"]["chosen"] == "student"
    assert rows["random"]["baselines"] == {}
    assert rows["rded"]["labeller"]["own"] is True
    told = next(row["difference"] for row in found["rows"] if row["method"] == "rded")
    alone = rows["rded"]["baselines"]["random"]["difference"]
    assert {name: told[name] for name in alone} == alone
    assert (told["kind"], told["n"]) == ("welch", 2)
    assert rows["rded"]["labeller"]["hash"] != rows["random"]["labeller"]["hash"]


def test_agreement_is_the_share_of_intended_classes(pictures: Splits, small: Distilled) -> None:
    found = score(small, pictures, baselines=False).to_dict()["labeller"]
    (made,) = labellers._entries(small.metadata)
    train = pictures.train
    make = factory(BN, train.input, len(train.classes))
    teacher = labellers._from_card([made], train, make, lambda n: student_augmentation(n, train), None, None)
    x, y = small.model_space(), small.hard_labels
    assert isinstance(x, Tensor)
    assert found["agreement"] == float((teacher.logits_function()(x).argmax(1) == y).double().mean())
    real = pictures.train.fetch(torch.arange(len(pictures.train))).x
    right = (teacher.logits_function()(real).argmax(1) == pictures.train.labels).double().mean()
    assert found["agreement_real"] == pytest.approx(float(right))  # all 72 are asked for


def test_a_choice_wins_over_the_card(pictures: Splits, small: Distilled) -> None:
    found = score(small, pictures, teacher=OTHER, baselines=False).to_dict()["labeller"]
    assert (found["chosen"], found["own"], found["name"]) == ("protocol", False, f"{OTHER}-avg")
    assert found["why"] == "the protocol names another"
    both = score(small, pictures, committee=[INSTANCE], baselines=False)
    assert both.to_dict()["labeller"]["name"] == f"{BN}-avg + {INSTANCE}-instance-avg"
    assert len(both.to_dict()["labeller"]["hash"]) == 2
    assert "not the set's own teacher (the protocol names another)" in str(both)


def test_a_teacher_that_is_gone_is_trained_again(
    pictures: Splits, small: Distilled, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POTSTILL_CACHE", str(tmp_path / "elsewhere"))
    found = score(small, pictures, baselines=False).to_dict()["labeller"]
    assert (found["chosen"], found["own"], found["warning"]) == ("set", True, None)
    few = replace(pictures, train=pictures.train.subset(torch.arange(60)))
    with pytest.warns(PotstillWarning, match="was not made of this training data"):
        card = score(small, few, baselines=False)
    other = card.to_dict()["labeller"]
    assert (other["chosen"], other["own"]) == ("set", False)
    assert "came out with other parameters" in other["warning"]
    assert f"warning: {other['warning']}" in str(card)


def test_a_labeller_that_does_not_know_the_set_is_warned_of(pictures: Splits, make_set: Any) -> None:
    y = torch.tensor([1, 1, 2, 2, 3, 3, 0, 0])  # each class under the next one's name
    card = score(make_set(pictures, labels=y), pictures, baselines=False, teacher_epochs=30, teacher_batch=16)
    found = card.to_dict()["labeller"]
    assert found["agreement"] < 0.5 * found["agreement_real"]
    assert "so its labels say little of their classes" in found["warning"]
    assert len([line for line in str(card).splitlines() if line.startswith("warning: the labeller")]) == 1
    fine = score(make_set(pictures), pictures, baselines=False, teacher_epochs=30, teacher_batch=16)
    assert fine.to_dict()["labeller"]["warning"] is None
    assert "warning" not in str(fine)


def test_the_page_shows_who_labelled(pictures: Splits, small: Distilled) -> None:
    found = score(small, pictures, baselines=False).to_dict()
    said = "".join(map(str, entry_sections(Entry(name="x", card=small.metadata, scorecard=found), 2)))
    assert f"{BN}-avg" in said
    assert found["labeller"]["hash"][:12] in said
    assert "the set&#x27;s own teacher" in said or "the set's own teacher" in said
    assert "who labelled" not in str(warnings(Entry(name="x", card={}, scorecard=found)))
    found["labeller"]["warning"] = "the labeller knows nothing"
    assert "The labeller knows nothing." in str(warnings(Entry(name="x", card={}, scorecard=found)))


def test_stored_labels_are_the_own_teachers_too(pictures: Splits, small: Distilled, tmp_path: Path) -> None:
    store = potstill.label(small, pictures, tmp_path / "x.labels", protocol="sre2l", network=INSTANCE, epochs=2)
    made = small.metadata["teachers"][0]["networks"][0]["hash"]
    assert store.about.networks == ((f"{BN}-avg", made),)
    found = score(small, pictures, stored=tmp_path / "x.labels", networks=INSTANCE).to_dict()["labeller"]
    assert (found["chosen"], found["own"], found["hash"]) == ("file", True, made)
    assert found["agreement"] is not None
    alone = score(small, pictures, stored=tmp_path / "x.labels", networks=INSTANCE, baselines=False)
    assert alone.to_dict()["labeller"]["agreement"] is None
    assert "labels by" in str(alone)
    other = score(small, pictures, stored=tmp_path / "x.labels", networks=INSTANCE, teacher=OTHER).to_dict()["labeller"]
    assert other["own"] is True
    assert other["why"] == f"baselines are labelled by another, {OTHER}-avg"


def test_writing_labels_warns_of_a_labeller_that_does_not_know_the_set(
    pictures: Splits, make_set: Any, tmp_path: Path
) -> None:
    turned = make_set(pictures, labels=torch.tensor([1, 1, 2, 2, 3, 3, 0, 0]))
    with pytest.warns(PotstillWarning, match="the labeller takes only"):
        potstill.label(
            turned, pictures, tmp_path / "x.labels", protocol="sre2l", network=BN, epochs=1, teacher_epochs=30,
            teacher_batch=16,
        )  # fmt: skip


@pytest.mark.parametrize(
    "teachers",
    [
        "none", [{}], [{"labels": True, "network": BN, "recipe": {"epochs": 1}, "networks": [{"hash": "0"}]}],
        [{"labels": True, "network": BN, "recipe": {}, "networks": []}],
    ],
)  # fmt: skip
def test_a_card_that_lies_about_its_teachers_is_refused(pictures: Splits, make_set: Any, teachers: Any) -> None:
    made = make_set(pictures)
    made.metadata["teachers"] = teachers
    with pytest.raises(PotstillError, match="must say its teachers by network, recipe and hash"):
        score(made, pictures, baselines=False)


def test_a_makers_own_network_is_never_imported(pictures: Splits, small: Distilled) -> None:
    small.metadata["teachers"][0]["network"] = "evil.module:Net"
    found = score(small, pictures, baselines=False).to_dict()["labeller"]
    assert (found["chosen"], found["own"]) == ("student", False)
    assert "evil.module:Net, and was not given" in found["why"]
