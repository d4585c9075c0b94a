import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import torch
from torch import Tensor

import potstill
from potstill.core import Batch, Splits, Whitening
from potstill.data import TensorSource
from potstill.errors import PotstillError
from potstill.evaluation import Protocol, Scorecard, evaluate, full_data_reference, training_sets
from potstill.evaluation.protocols import DC, DSA, POTSTILL
from potstill.evaluation.samples import SampleScores
from potstill.execution import Processes, Serial
from potstill.testing import check_source

CONTRACT = {
    "protocol", "protocol_version", "fingerprint", "network", "n", "optimistic", "accuracy", "baselines", "full",
    "scores", "bytes", "cost", "per_class", "networks",
}  # fmt: skip
QUICK: Protocol = POTSTILL.override(
    steps=(4, 12), least_epochs=0, students=3, lr=(0.0003, 0.003), validation_students=1
)
Measure = Callable[..., Scorecard]


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(full_data_reference, "RECIPE", {**full_data_reference.RECIPE, "steps": 15})
    monkeypatch.setattr(training_sets, "TEACHER_STEPS", 15)


def bare(distilled: Any, splits: Splits, **changes: Any) -> Scorecard:
    """Only the set itself."""
    fields: dict[str, Any] = {
        "protocol": QUICK, "baselines": False, "full": False, "robust_scores": False, "executor": Serial(),
    }  # fmt: skip
    return evaluate(distilled, splits, **(fields | changes))


def test_the_scorecard_has_the_contracts_keys_and_is_json(pictures: Splits, make_set: Any) -> None:
    small = make_set(pictures)
    seen: list[tuple[str, int, int]] = []
    score = evaluate(small, pictures, protocol=QUICK, progress=lambda *row: seen.append(row))
    card = score.to_dict()
    assert card.keys() >= CONTRACT
    assert json.loads(json.dumps(card, allow_nan=False)) == card
    assert (card["protocol"], card["protocol_version"], card["fingerprint"]) == ("potstill", 1, QUICK.fingerprint())
    assert (card["network"], card["n"], card["optimistic"]) == ("convnet-d1-w8-instance-avg", 3, False)
    assert [n for n in card["baselines"] if n != "real"] == ["random", "herding", "random-soft", "random-items"]
    for name, rival in card["baselines"].items():
        assert rival["n"] == len(rival["values"]) == 3
        assert 0 <= rival["mean"] <= 1
        assert rival["draws"] == (1 if name == "herding" else 3)
        if name != "random-items":
            assert rival["bytes"] <= small.metadata["bytes"]["total"]
            assert rival["items"] == 4 * rival["per_class"]
            assert rival["codec"] in {t["codec"] for t in rival["tried"]}
    assert card["baselines"]["random-items"]["items"] == len(small)
    assert card["baselines"]["random-items"]["codec"] == "exact"
    assert card["left_out"] == {}
    assert 0 < card["bytes"]["total"] == small.metadata["bytes"]["total"]
    assert card["full"]["bytes"] == 72 * 64 + 4  # as they are: 8 bits
    assert card["full"]["n"] == 1
    assert all(0 <= card["scores"][name] <= 1 for name in ("lrs", "ars"))
    assert card["scores"]["ior"] == pytest.approx(card["accuracy"]["mean"] - card["baselines"]["random"]["mean"])
    assert card["scores"]["hlr"] == pytest.approx(card["full"]["mean"] - card["accuracy"]["mean"])
    assert [row["name"] for row in card["per_class"]] == ["c0", "c1", "c2", "c3"]
    # 12 test samples of each class, so the mean over classes is the accuracy
    assert sum(row["mean"] for row in card["per_class"]) / 4 == pytest.approx(card["accuracy"]["mean"])
    assert [sum(row) for row in card["confusion"]] == [12 * 3] * 4, "every answer of three students"
    right = [row[c] / 36 for c, row in enumerate(card["confusion"])]
    assert right == pytest.approx([row["mean"] for row in card["per_class"]])
    assert card["difference"]["random"]["mean"] == pytest.approx(card["scores"]["ior"])
    assert card["chosen"]["lr"] in (0.0003, 0.003)
    assert card["chosen"]["steps"] in (4, 12)
    assert seen[0] == ("full data and teacher of random-soft", 0, 2)
    assert ("this set", 3, 3) in seen
    assert {what for what, _, _ in seen} >= {"random", "herding", "random-soft", "random-items", "this set: choosing"}
    assert any(what == "how to keep real samples" for what, _, _ in seen)


def test_a_baseline_that_does_not_fit_is_left_out_and_said_to_be(pictures: Splits, make_set: Any) -> None:
    """A set of one class's prototype alone, in 1 bit, is smaller than one real sample of each class can be."""
    small = make_set(pictures, ipc=1)
    small.metadata["bytes"] = {"inputs": 10, "labels": 1, "decoder": 0, "total": 11}
    card = bare(small, pictures, baselines=True).to_dict()
    assert set(card["baselines"]) == {"random-items"}
    assert set(card["left_out"]) == {"random", "herding", "random-soft"}
    assert "at least" in card["left_out"]["random"]
    assert card["scores"]["ior"] is None


def test_one_student_still_meets_three_draws_of_random_samples(pictures: Splits, make_set: Any) -> None:
    card = bare(make_set(pictures), pictures, baselines=True, seeds=1).to_dict()
    assert card["n"] == 1
    random, herding = card["baselines"]["random"], card["baselines"]["herding"]
    assert (random["draws"], random["n"]) == (3, 3)
    assert (herding["draws"], herding["n"]) == (1, 1)
    assert card["difference"]["random"]["ci95"] is None


def test_a_set_of_real_samples_as_they_are_ties_with_random_in_its_bytes(pictures: Splits, make_set: Any) -> None:
    """With the same codec and number random-items is random: it is measured once."""
    assert isinstance(pictures.train, TensorSource)
    low, high = pictures.train.inputs.min(), pictures.train.inputs.max()
    every = replace(
        pictures, train=replace(
            pictures.train, inputs=((pictures.train.inputs - low) / (high - low) * 255).round().to(torch.uint8)
        ),
    )  # fmt: skip
    whole = make_set(every, ipc=18)
    card = bare(whole, every, baselines=True).to_dict()
    random, items = card["baselines"]["random"], card["baselines"]["random-items"]
    assert random["codec"] == items["codec"] == "exact"
    assert random["values"] == items["values"]
    assert random["bytes"] == items["bytes"]


def test_what_is_left_out_is_null_or_empty(pictures: Splits, make_set: Any) -> None:
    card = bare(make_set(pictures), pictures).to_dict()
    assert card["baselines"] == card["difference"] == {}
    assert card["full"] is None
    assert card["scores"] == {"hlr": None, "ior": None, "lrs": None, "ars": None}
    assert card["accuracy"]["mean"] == pytest.approx(sum(card["accuracy"]["values"]) / 3)


def test_the_table_for_people_names_what_was_measured(pictures: Splits, make_set: Any) -> None:
    text = str(evaluate(make_set(pictures), pictures, protocol=QUICK, robust_scores=False, executor=Serial()))
    for word in ("this set", "random-soft", "herding", "full data", "over random", QUICK.fingerprint(), "95% interval"):
        assert word in text


def _values(card: dict[str, Any]) -> dict[str, Any]:
    """All but what the clock says."""
    return {name: value for name, value in card.items() if name != "cost"}


def test_a_set_of_other_samples_is_said_to_be_one(pictures: Splits, make_set: Any) -> None:
    small = make_set(pictures)
    assert bare(small, pictures).content["data"]["made_of_train"] is True
    assert isinstance(pictures.train, TensorSource)
    fewer = replace(pictures, train=pictures.train.subset(torch.arange(len(pictures.train) - 1)))
    score = bare(small, fewer)
    assert score.content["data"]["made_of_train"] is False
    assert "not made of this training data" in str(score)
    assert "not made of this training data" not in str(bare(small, pictures))


def test_the_same_seed_gives_the_same_scorecard_wherever_it_runs(pictures: Splits, make_set: Any) -> None:
    small = make_set(pictures)
    measure: dict[str, Any] = {"protocol": QUICK, "full": False, "robust_scores": False, "seeds": 2}
    here = evaluate(small, pictures, **measure, executor=Serial())
    with Processes(1) as pool:
        there = evaluate(small, pictures, **measure, executor=pool)
    assert _values(here.to_dict()) == _values(there.to_dict())
    other = evaluate(small, pictures, **measure, executor=Serial(), seed=1)
    assert other.to_dict()["accuracy"]["values"] != here.to_dict()["accuracy"]["values"]


def test_more_students_are_the_same_students_and_more(pictures: Splits, make_set: Any) -> None:
    few = bare(make_set(pictures), pictures, seeds=2).to_dict()
    many = bare(make_set(pictures), pictures, seeds=4).to_dict()
    assert many["n"] == 4
    assert many["accuracy"]["values"][:2] == few["accuracy"]["values"]
    one = bare(make_set(pictures), pictures, seeds=1)
    low, high = one.to_dict()["accuracy"]["ci95"]
    assert low < one.accuracy <= high
    assert one.to_dict()["accuracy"]["ci95_same_test"] is None
    assert "this one student" in one.to_dict()["interval"]
    assert "its interval is of this student, and no difference is tested" in str(one)


def test_intervals_are_wider_than_on_these_test_samples_and_no_more_students_close_them(
    pictures: Splits, make_set: Any
) -> None:
    card = bare(make_set(pictures), pictures, seeds=3, baselines=True).to_dict()
    for score in (card["score"], card["accuracy"], card["baselines"]["random"]):
        (low, high), same = score["ci95"], score["ci95_same_test"]
        assert low <= score["mean"] <= high
        assert same is None or (low - 1e-9 <= same[0] and same[1] <= high + 1e-9) or score["mean"] in (0.0, 1.0)
    assert card["interval"].startswith("for new test samples and new students")
    own = {name for name, rival in card["baselines"].items() if "same_as" not in rival}
    assert set(card["test_samples"]) == {"this set", *own}
    kept = SampleScores.from_dict(card["test_samples"]["this set"])
    assert kept is not None
    assert len(kept.rows) == len(pictures.test or ())
    assert float(kept.rows.mean()) == pytest.approx(card["score"]["mean"])
    json.dumps(card, allow_nan=False)


@dataclass(frozen=True, kw_only=True, eq=False)
class Recorded(TensorSource):
    """Writes down when it is read."""

    log: list[str] = field(default_factory=list)
    says: str = ""

    def fetch(self, index: Tensor, /) -> Batch:
        self.log.append(self.says)
        return super().fetch(index)


def _recorded(source: Any, log: list[str], says: str) -> Recorded:
    names = ("name", "input", "classes", "normalization", "inputs", "labels")
    return Recorded(**{name: getattr(source, name) for name in names}, log=log, says=says)


def test_test_data_are_read_once_by_each_student_and_only_after_all_was_chosen(pictures: Splits, make_set: Any) -> None:
    log: list[str] = []
    split = Splits(train=_recorded(pictures.train, log, "train"), test=_recorded(pictures.test, log, "test"))
    bare(make_set(pictures), split)
    # two rates at the greater length, then the smaller length, one student each; then three students, of one chunk each
    assert log == ["train"] * 3 + ["test"] * 3


def test_nothing_that_is_trained_or_chosen_depends_on_test_data(
    pictures: Splits, make_set: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from potstill.evaluation import student

    trained: list[list[Tensor]] = []
    original = student.train

    def keep(job: student.StudentJob) -> Any:
        network = original(job)
        trained.append([p.detach().clone() for p in network.parameters()])
        return network

    monkeypatch.setattr(student, "train", keep)
    test = pictures.test
    assert isinstance(test, TensorSource)
    scrambled = replace(test, inputs=test.inputs.flip(0), labels=test.labels.roll(7))
    one = bare(make_set(pictures), pictures, baselines=True).to_dict()
    first, trained[:] = list(trained), []
    two = bare(make_set(pictures), replace(pictures, test=scrambled), baselines=True).to_dict()
    assert one["accuracy"]["values"] != two["accuracy"]["values"]
    assert one["chosen"] == two["chosen"]
    assert all(one["baselines"][n]["chosen"] == two["baselines"][n]["chosen"] for n in one["baselines"])
    assert len(first) == len(trained) > 20
    assert all(torch.equal(a, b) for x, y in zip(first, trained, strict=True) for a, b in zip(x, y, strict=True))


def test_the_choice_is_the_best_on_validation_data(pictures: Splits, make_set: Any) -> None:
    useless = QUICK.override(lr=(1e-9, 0.003), steps=(1, 40))
    assert bare(make_set(pictures, ipc=5), pictures, protocol=useless).to_dict()["chosen"] == {
        "lr": 0.003, "steps": 40, "augment": "dsa",
    }  # fmt: skip


def test_large_sets_are_passed_over_at_least_so_often(pictures: Splits, make_set: Any) -> None:
    long = QUICK.override(steps=(2, 3), least_epochs=4, batch=4, lr=0.01)
    assert bare(make_set(pictures, ipc=3), pictures, protocol=long).to_dict()["chosen"]["steps"] == 12


def test_a_published_protocol_leaves_nothing_to_choose(pictures: Splits, make_set: Any) -> None:
    log: list[str] = []
    split = Splits(train=_recorded(pictures.train, log, "train"), test=_recorded(pictures.test, log, "test"))
    card = bare(make_set(pictures), split, protocol=DC.override(epochs=3, students=2)).to_dict()
    assert log == ["test", "test"]
    assert card["chosen"] == {"lr": 0.01, "steps": None, "augment": "none"}
    assert (card["n"], card["protocol"]) == (2, "dc")


def test_the_augmentation_that_was_used_is_the_one_that_is_named(
    pictures: Splits, table: Splits, make_set: Any
) -> None:
    short: dict[str, Any] = {"protocol": DSA.override(epochs=2, students=1)}
    assert bare(make_set(pictures), pictures, **short).to_dict()["chosen"]["augment"] == "dsa"
    assert bare(make_set(table), table, **short).to_dict()["chosen"]["augment"] == "none"
    train, test = pictures.train, pictures.test
    assert isinstance(train, TensorSource)
    assert isinstance(test, TensorSource)
    spec = replace(train.input, horizontal_flip=False)
    digits = Splits(train=replace(train, name="mnist", input=spec), test=replace(test, name="mnist", input=spec))
    assert bare(make_set(digits), digits, **short).to_dict()["chosen"]["augment"] == "dsa-noflip"
    dc = bare(make_set(digits), digits, protocol=DC.override(epochs=2, students=1)).to_dict()
    assert dc["chosen"]["augment"] == "dc"


def test_robust_scores_compare_with_and_without_augmentation(pictures: Splits, table: Splits, make_set: Any) -> None:
    said: list[str] = []
    fast: dict[str, Any] = {"baselines": True, "robust_scores": True, "progress": lambda what, *_: said.append(what)}
    augmented = bare(make_set(pictures), pictures, **fast, protocol=DSA.override(epochs=2, students=2)).to_dict()
    assert "random without augmentation" in said
    plain = bare(make_set(pictures), pictures, **fast, protocol=DC.override(epochs=2, students=2)).to_dict()
    assert "random with dsa" in said
    assert 0 <= augmented["scores"]["ars"] <= 1
    assert 0 <= plain["scores"]["ars"] <= 1
    assert bare(make_set(table), table, **fast).to_dict()["scores"]["ars"] is None


def test_soft_labels_are_trained_on_and_taken_off_for_hard_label_recovery(pictures: Splits, make_set: Any) -> None:
    hard = make_set(pictures)
    rows = torch.nn.functional.one_hot(hard.labels, 4).float() * 0.6 + 0.1
    soft = make_set(pictures, labels=rows)
    said: list[str] = []
    measure: dict[str, Any] = {"protocol": DC.override(epochs=4, students=2), "executor": Serial()}
    card = evaluate(soft, pictures, **measure, progress=lambda what, *_: said.append(what)).to_dict()
    assert "hard labels" in said
    of_hard = evaluate(hard, pictures, **measure).to_dict()
    # the same inputs with the likeliest class are the hard set: its recovery is that set's
    assert card["scores"]["hlr"] == of_hard["scores"]["hlr"]
    assert card["bytes"]["labels"] == 8 * 4 * 4


def test_other_networks_stand_beside_their_own_baseline(pictures: Splits, make_set: Any) -> None:
    card = bare(make_set(pictures), pictures, networks=["convnet-d1-w8", "mlp", "mlp"], baselines=True).to_dict()
    assert list(card["networks"]) == ["convnet-d1-w8-instance-avg", "mlp-w128"]
    assert card["networks"]["convnet-d1-w8-instance-avg"]["values"] == card["accuracy"]["values"]
    for row in card["networks"].values():
        assert row["n"] == row["baselines"]["random"]["n"] == 3
    alone = bare(make_set(pictures), pictures, networks=["mlp"]).to_dict()
    assert alone["networks"]["mlp-w128"]["values"] == card["networks"]["mlp-w128"]["values"]


def test_tables_are_measured_like_pictures(table: Splits, make_set: Any) -> None:
    card = evaluate(make_set(table, ipc=4), table, protocol=QUICK, executor=Serial()).to_dict()
    assert card["network"] == "mlp-w128"
    assert card["scores"]["lrs"] is not None


def test_a_whitened_set_is_tested_on_whitened_data(pictures: Splits, make_set: Any) -> None:
    log: list[float] = []

    @dataclass(frozen=True, kw_only=True, eq=False)
    class Watched(TensorSource):
        def fetch(self, index: Tensor, /) -> Batch:
            batch = super().fetch(index)
            assert isinstance(batch.x, Tensor)
            log.append(float(batch.x.abs().max()))
            return batch

    def watched(source: Any) -> Watched:
        names = ("name", "input", "classes", "normalization", "inputs", "labels")
        return Watched(**{name: getattr(source, name) for name in names})

    norm = pictures.train.normalization
    shrink = Whitening(torch.zeros(64), torch.eye(64) * 1e-3, torch.eye(64) * 1e3)
    small = make_set(pictures, normalization=replace(norm, whitening=shrink))
    bare(small, Splits(train=watched(pictures.train), test=watched(pictures.test)))
    assert len(log) == 6
    assert max(log) < 0.01


def test_students_that_diverge_count_as_chance_and_are_counted(pictures: Splits, make_set: Any) -> None:
    wild = DC.override(epochs=3, lr=1e30, students=2)
    score = bare(make_set(pictures), pictures, protocol=wild)
    card = score.to_dict()
    assert (card["diverged"], card["accuracy"]["values"]) == (2, [0.25, 0.25])
    assert [row["mean"] for row in card["per_class"]] == [0.25] * 4
    assert card["confusion"] == [[0] * 4] * 4, "who diverged takes nothing for anything"
    assert "2 students ended with weights that are not finite" in str(score)


def test_what_does_not_fit_is_refused_and_named(pictures: Splits, table: Splits, make_set: Any) -> None:
    small = make_set(pictures)
    train = pictures.train
    assert isinstance(train, TensorSource)

    def refused(splits: Splits, message: str) -> None:
        with pytest.raises(PotstillError, match=message) as caught:
            bare(small, splits)
        assert "\n" not in str(caught.value)

    refused(replace(pictures, test=None), "no test split")
    swapped = replace(train, classes=("c1", "c0", "c2", "c3"))
    refused(replace(pictures, train=swapped), "another order.*label 0 is 'c0' in the set and 'c1' in the data")
    more = replace(train, classes=(*train.classes, "extra"))
    refused(replace(pictures, train=more), "4 classes and the data 5, and 'extra'")
    wide = TensorSource.make(torch.zeros(8, 1, 8, 9), torch.arange(8) % 4, classes=train.classes, name="wide")
    refused(replace(pictures, train=wide), "1×8×8, but the data image inputs of 1×8×9")
    refused(replace(table, train=replace(table.train, classes=train.classes)), "holds image inputs.*data table")  # type: ignore[type-var]
    with pytest.raises(PotstillError, match="seeds is 0"):
        bare(small, pictures, seeds=0)


def test_the_public_verb_takes_names_and_overrides(pictures: Splits, make_set: Any) -> None:
    score = potstill.evaluate(
        make_set(pictures), pictures, protocol="dsa", epochs=2, seeds=2, baselines=False, full=False, device="cpu"
    )
    card = score.to_dict()
    assert (card["protocol"], card["n"]) == ("dsa", 2)
    assert card["fingerprint"] == DSA.override(epochs=2).fingerprint() != DSA.fingerprint()
    with pytest.raises(PotstillError, match="did you mean epochs"):
        potstill.evaluate(make_set(pictures), pictures, protocol="dsa", epochz=2)


class Outside:
    """A source of somebody else's: what the contract says, and no more."""

    def __init__(self, source: Any) -> None:
        self._source = source

    def __getattr__(self, name: str) -> Any:
        if name not in (
            "name",
            "input",
            "classes",
            "normalization",
            "labels",
            "device",
            "content_hash",
            "fetch",
            "raw",
        ):
            raise AttributeError(name)
        return getattr(self._source, name)

    def __len__(self) -> int:
        return len(self._source)

    def to(self, device: Any) -> "Outside":
        return Outside(self._source.to(device))


def test_a_source_that_keeps_the_contract_is_measured_on_like_our_own(pictures: Splits, make_set: Any) -> None:
    outside = Splits(train=Outside(pictures.train), test=Outside(pictures.test))  # type: ignore[arg-type]
    check_source(outside.train)
    small = make_set(pictures)
    white = make_set(pictures, normalization=replace(pictures.train.normalization, mean=torch.tensor([0.3])))
    for one in (small, white):
        settings: dict[str, Any] = {"protocol": QUICK, "seeds": 2, "networks": ["convnet-d1-w8"]}
        settings |= {"robust_scores": False, "executor": Serial()}
        found, ours = (evaluate(one, data, **settings).content for data in (outside, pictures))
        assert found["accuracy"] == ours["accuracy"]
        assert found["baselines"] == ours["baselines"]
        assert found["full"]["mean"] == ours["full"]["mean"]
