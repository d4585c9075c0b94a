"""A model of the same bytes in comparisons, beside the answer of ``auto``, and in plans."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

import potstill
from potstill.api.compare import compare
from potstill.automl import auto, halving
from potstill.automl import model as auto_model
from potstill.automl.candidates import parse_options
from potstill.automl.result import describe_choice
from potstill.cli.commands.compare import leaderboard_blocks
from potstill.cli.main import main
from potstill.comparison import cells
from potstill.comparison.page_data import ComparisonFolder
from potstill.core import Splits
from potstill.errors import PotstillError
from potstill.evaluation import model_baseline
from potstill.evaluation.model_baseline import ModelCost, ModelJob
from potstill.runs.loop import Interrupted
from potstill.testing.toy import pairs_source, windows_source


@pytest.fixture(autouse=True)
def _short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POTSTILL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(model_baseline, "STEPS", 16)
    monkeypatch.setattr(auto_model, "STEPS", 16)
    monkeypatch.setattr(cells, "evaluate", partial(_students_alone, cells.evaluate))


def _students_alone(evaluate: Any, *values: Any, **named: Any) -> Any:
    """Measure a set without baselines and full data of its own, which no comparison of models needs."""
    return evaluate(*values, **{**named, "baselines": False, "full": False})


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[ModelJob]:
    """Every network that is trained."""
    jobs: list[ModelJob] = []
    call = ModelJob.__call__

    def record(self: ModelJob) -> Any:
        jobs.append(self)
        return call(self)

    monkeypatch.setattr(ModelJob, "__call__", record)
    return jobs


def two_classes() -> Splits:
    """Rows of two classes that a line tells apart."""
    x = torch.randn(160, 4, generator=torch.Generator().manual_seed(1))
    y = (x[:, 0] + x[:, 1] > 0).long()
    return potstill.load_data((x.numpy(), y.tolist()))  # type: ignore[no-any-return]


def board(folder: Path, **more: Any) -> Any:
    given = {"network": "mlp-w4", "seeds": 2, "steps": 3, "lr": 0.01, "executor": "serial", "baselines": ["model"]}
    return compare(two_classes(), out=folder, **{"methods": ["random"], **given, **more})


def test_one_model_at_each_size_is_shared_and_measured_once(tmp_path: Path, trained: list[ModelJob]) -> None:
    found = board(tmp_path, methods=["random", "herding"], bytes=[60, 90], baselines="model")
    models = {model["amount"]: model for model in found["models"]}
    assert sorted(models) == [60, 90]
    for amount, model in models.items():
        assert model["bytes"] <= model["byte_budget"] == amount
        assert {gap["row"] for gap in model["differences"]} == {
            row["id"] for row in found["rows"] if row["amount"] == amount
        }
        assert model["score"]["n"] == len(model["cells"][0]["students"]) == 2
    assert not any(row["method"] == "model" for row in found["rows"])
    assert found["complete"]
    assert found["done"] == found["total"] == 6
    before = len(trained)
    again = board(tmp_path, methods=["random", "herding", "k-means"], bytes=[60, 90])
    assert len(trained) == before  # another method takes over the models that are there
    assert [m["score"] for m in again["models"]] == [m["score"] for m in found["models"]]
    assert len(again["models"][0]["differences"]) == 3


def test_the_difference_is_that_of_the_scores_and_the_baseline_is_evaluates(tmp_path: Path) -> None:
    found = board(tmp_path, bytes=80)
    (row,), (model,) = found["rows"], found["models"]
    (gap,) = model["differences"]
    assert gap["mean"] == pytest.approx(row["score"]["mean"] - model["score"]["mean"])
    over_random = model["difference"]
    assert (over_random["over"], over_random["mean"]) == (row["id"], pytest.approx(-gap["mean"]))
    assert over_random["ci95"] == pytest.approx([-gap["ci95"][1], -gap["ci95"][0]])
    assert over_random["p_holm"] == gap["p_holm"]
    small = potstill.load(tmp_path / row["file"])
    small.metadata["bytes"] = {"total": 80, "inputs": 80}
    card = potstill.evaluate(
        small, two_classes(), networks="mlp-w4", seeds=2, quick=True, baselines=["model"], progress=None, epochs=1,
        executor="serial",
    )  # fmt: skip
    alone = card.to_dict()["baselines"]["model"]
    assert (alone["network"], alone["bytes"]) == (model["network"], model["bytes"])
    assert alone["values"] == model["cells"][0]["students"]


def test_at_a_size_in_items_it_has_the_bytes_of_the_smallest_set(tmp_path: Path) -> None:
    found = board(tmp_path, ipc=2, codecs=["exact", "uint8"])
    (model,) = found["models"]
    assert model["byte_budget"] == min(row["bytes"] for row in found["rows"])
    assert len({row["bytes"] for row in found["rows"]}) == 2
    assert "than the smallest set of that size" in found["fair"]
    assert "no more bytes" in found["verdict"]["model"]


def test_repeats_have_models_of_their_own_and_protocols_share_one(tmp_path: Path) -> None:
    found = compare(
        two_classes(), ["random"], bytes=80, out=tmp_path, repeats=2, protocols=["potstill", "dc"], seeds=2,
        network="mlp-w4", executor="serial", baselines=["model"], epochs=1,
    )  # fmt: skip
    one, other = found["models"]
    assert [one["protocol"], other["protocol"]] == ["potstill", "dc"]
    assert [cell["file"] for cell in one["cells"]] == [cell["file"] for cell in other["cells"]]
    assert one["score"]["over"] == "sets"
    assert one["differences"][0]["kind"] == "paired"
    assert len(list(tmp_path.glob("*.model.json"))) == 2


def test_tables_and_pages_show_it(tmp_path: Path) -> None:
    reports: list[tuple[str, int, int | None]] = []
    found = board(tmp_path, bytes=80, progress=lambda name, at: reports.append((name, at.step, at.total)))
    students = [name for name, *_ in reports if name.endswith(", training students")]
    reports = [report for report in reports if report[0] not in students]
    assert students
    assert all(name.startswith("model-bytes80-networks2") for name, *_ in reports)
    assert [(step, total) for name, step, total in reports if "choosing" not in name] == [(0, 2), (1, 2), (2, 2)]
    (model,) = found["models"]
    table, *rest = leaderboard_blocks(found)
    assert sorted(line[2] for line in table.rows) == ["model", "random"]  # type: ignore[union-attr]
    (line,) = (line for line in table.rows if line[2] == "model")  # type: ignore[union-attr]
    assert line[1] == ""  # it is no set, so that it is no best one
    assert model["network"] in line
    assert line[-1][0] in "+-"  # points over random
    assert "only a set trains other networks." in " ".join(str(block) for block in rest).replace("\n", " ")
    page = ComparisonFolder(tmp_path).page("potstill report board")
    assert "no set: a network to ship" in page
    assert model["network"] in page
    assert "only a set trains other networks." in page


def test_what_cannot_be_is_a_row_with_the_reason(tmp_path: Path) -> None:
    found = board(tmp_path, ipc=1, codecs=["uint1"])
    (model,) = found["models"]
    assert model["error"].startswith("no network of the ladder fits into")
    assert found["complete"]
    assert "model" not in found["verdict"]
    table = leaderboard_blocks(found)[0]
    assert [model["error"]] == [line[-1] for line in table.rows if line[2] == "model"]  # type: ignore[union-attr]
    assert model["error"] in ComparisonFolder(tmp_path).page("potstill report board")
    series = compare(
        Splits(train=pairs_source(), test=pairs_source()), ["random"], items=4, out=tmp_path / "pairs", seeds=1,
        steps=2, lr=0.01, executor="serial", baselines=["model"],
    )  # fmt: skip
    assert "a network of the same bytes is for one tensor" in series["models"][0]["error"]


def test_numbers_have_models_too(tmp_path: Path) -> None:
    source = windows_source()
    found = compare(
        Splits(train=source, test=source), ["random"], bytes=600, out=tmp_path, network="mlp-w4", seeds=2,
        steps=2, lr=0.01, executor="serial", baselines=["model"],
    )  # fmt: skip
    (model,) = found["models"]
    assert model["score"]["metric"] == found["metric"]["metric"] != "accuracy"
    (gap,) = model["differences"]
    assert gap["mean"] == pytest.approx(found["rows"][0]["score"]["mean"] - model["score"]["mean"])


def test_models_that_were_made_otherwise_or_are_damaged_are_refused(tmp_path: Path) -> None:
    board(tmp_path, bytes=80)
    (file,) = tmp_path.glob("*.model.json")
    held = json.loads(file.read_text())
    file.write_text(json.dumps({**held, "settings": {**held["settings"], "seed": 5}}))
    with pytest.raises(PotstillError, match=r"model\.json: is not what this comparison would make: seed was 5"):
        board(tmp_path, bytes=80)
    file.write_text('{"score": 1}')
    with pytest.raises(PotstillError, match=r"not a measured model .*delete it to measure again"):
        board(tmp_path, bytes=80)
    with pytest.raises(PotstillError, match="unknown baseline 'models'; did you mean model"):
        board(tmp_path / "other", bytes=80, baselines=["models"])
    assert not (tmp_path / "other").exists()


def test_on_the_command_line_it_is_the_option_of_evaluate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "t.csv").write_text("a,b,y\n" + "\n".join(f"{i % 7},{i % 5},{int(i % 7 > 3)}" for i in range(120)))
    words = [
        str(tmp_path / "t.csv"), "--label", "y", "--methods", "random", "--bytes", "60", "--seeds", "2",
        "--network", "mlp-w4", "--epochs", "1", "--executor", "serial", "--out", str(tmp_path / "board"),
    ]  # fmt: skip
    assert main(["compare", *words, "--baselines", "model", "--quiet"]) == 0
    shown = capsys.readouterr().out
    assert "model is no set but a network of no more bytes" in shown
    assert "only a set trains other networks" in shown.replace("\n", " ")
    assert main(["compare", *words, "--baselines", "modell", "--quiet"]) == 1
    assert capsys.readouterr().err.count("\n") == 1


# --- auto

SOME = ["random", "dm:batch_real=8,steps_per_network=1", "dm:batch_real=8,lr=0.1,steps_per_network=1"]
ASKED: dict[str, Any] = {
    "bytes": 120, "seed": 3, "candidates": SOME, "network": "mlp-w4", "device": "cpu", "progress": None,
    "executor": "serial", "student_steps": 8, "students": 1, "confirm": 2,
}  # fmt: skip


@pytest.fixture
def three_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock buys three steps, and twelve updates of a network, wherever it is asked."""
    for module in (auto, halving):
        monkeypatch.setattr(module, "steps_in", lambda seconds, cost, least=1: max(least, 3))
    monkeypatch.setattr(auto_model, "LEAST_STEPS", 10)
    monkeypatch.setattr(auto_model, "_affordable_steps", lambda cost, seconds: 12)


def only_train() -> Splits:
    return Splits(train=two_classes().train, test=None)


def test_auto_says_what_to_ship_and_its_steps_give_the_same_without_a_clock(
    three_steps: None, trained: list[ModelJob]
) -> None:
    first = potstill.distill(only_train(), "auto", time_limit="1h", baselines=["model"], **ASKED)
    assert first.choice is not None
    model = first.choice["model"]
    assert (model["steps"], model["n"], model["left_out"]) == (12, 2, None)
    assert model["bytes"] <= 120
    assert model["difference"]["mean"] == pytest.approx(model["difference"]["model"] - model["difference"]["set"])
    # neither in training nor in choosing is a held-out sample read
    held = first.choice["held"]
    assert max(len(job.train) for job in trained) == held["made_of"]
    text = describe_choice(first.choice)
    assert f"model: {model['network']}" in text
    assert "A network in few bits of the same bytes" in first.choice["text"]
    repeat = first.choice["repeat"]
    assert (repeat["baselines"], repeat["model_steps"]) == (["model"], 12)
    again = potstill.distill(only_train(), **{**ASKED, **repeat})
    assert again.choice is not None
    assert again.choice["model"]["difference"] == model["difference"]
    assert torch.equal(again.inputs, first.inputs)


def test_auto_without_it_names_the_option_and_keeps_its_bits(three_steps: None) -> None:
    plain = potstill.distill(only_train(), "auto", time_limit="1h", **ASKED)
    assert plain.choice is not None
    assert plain.choice["model"] is None
    assert '`baselines="model"` tries one' in plain.choice["text"]
    assert "baselines" not in plain.choice["repeat"]


def test_an_interrupted_choice_does_not_train_the_model_again(
    three_steps: None, trained: list[ModelJob], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked = {**ASKED, "time_limit": "1h", "baselines": ["model"], "checkpoint": tmp_path / "choice"}
    whole = potstill.distill(only_train(), "auto", **{**asked, "checkpoint": tmp_path / "other"})
    of_whole = len(trained)

    def interrupt(*_: Any) -> int:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(auto.Race, "best_real", interrupt)
        with pytest.raises(Interrupted):
            potstill.distill(only_train(), "auto", **asked)
    assert len(trained) == 2 * of_whole
    resumed = potstill.distill(only_train(), "auto", resume=True, **asked)
    assert len(trained) == 2 * of_whole
    assert resumed.choice is not None
    assert whole.choice is not None
    assert resumed.choice["model"]["difference"] == whole.choice["model"]["difference"]
    assert torch.equal(resumed.inputs, whole.inputs)


def test_a_short_limit_leaves_it_out_and_says_so(three_steps: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auto_model, "_affordable_steps", lambda cost, seconds: 9)
    found = potstill.distill(only_train(), "auto", time_limit="1h", baselines="model", **ASKED)
    assert found.choice is not None
    assert found.choice["model"] == {"left_out": halving.NO_TIME}
    assert f"A network of the same bytes was not tried: {halving.NO_TIME}" in found.choice["text"]
    assert "model:" not in describe_choice(found.choice)


def test_steps_are_what_a_part_of_the_time_buys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auto_model, "STEPS", 2000)
    cost = ModelCost(update=(0.01, 0.02), fixed=0.1, students=3)
    bought = auto_model._affordable_steps
    steps = bought(cost, 20.0)
    assert cost.seconds(steps, quick=True) <= 20 < cost.seconds(steps + 1, quick=True)
    assert steps < auto_model.FULL_STEPS
    assert bought(cost, 1e9) == 2000
    assert bought(cost, cost.seconds(1200)) in (1199, 1200)  # all is chosen, bits and augmentation, too
    assert bought(cost, 0.0) < auto_model.LEAST_STEPS
    assert cost.seconds(100) > cost.seconds(100, quick=True) > cost.seconds(50, quick=True) > 0
    assert ModelCost(update=(), fixed=0.0, students=3).seconds() == 0


def test_choosing_leaves_the_time_of_the_model() -> None:
    for names, part in (((), halving.CHOOSING), (("model",), halving.CHOOSING - halving.MODEL_PART)):
        race = halving.Race(
            entries=[], runs=None, journal=None, seconds=100.0,  # type: ignore[arg-type]
            options=parse_options({"baselines": names}, None),
        )  # fmt: skip
        assert race.choosing == pytest.approx(part)


def test_pairs_have_no_such_network(monkeypatch: pytest.MonkeyPatch) -> None:
    some = ["random", "dm:batch_real=8,steps_per_network=1@3,4"]
    asked = {**ASKED, "candidates": some, "network": None, "bytes": None, "items": 8}
    data = Splits(train=pairs_source(), test=None)
    without, found = (potstill.distill(data, "auto", baselines=names, **asked) for names in ((), ["model"]))
    assert without.choice is not None
    assert found.choice is not None
    assert "baselines" not in without.choice["text"]
    assert "a network of the same bytes is for one tensor" in found.choice["model"]["left_out"]


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"baselines": ["models"]}, "unknown baseline 'models'; did you mean model"),
        ({"baselines": "model,x"}, "unknown baseline 'x'"),
        ({"baselines": 3}, r'auto: baselines must be names, such as \["model"\], not 3'),
        ({"baselines": [3]}, "auto: baselines must be names"),
        ({"model_steps": -1}, "auto: model_steps must be a whole number of at least 0, not -1"),
        ({"model_steps": 2.5}, "auto: model_steps must be a whole number"),
    ],
)
def test_options_of_auto_that_cannot_be(asked: dict[str, Any], said: str) -> None:
    with pytest.raises(PotstillError, match=said):
        potstill.distill("digits", "auto", bytes=400, progress=None, **asked)


def test_named_twice_is_once() -> None:
    assert parse_options({"baselines": ["model", "model"]}, None).baselines == ("model",)


# --- plan


def test_a_plan_says_what_the_model_costs(capsys: pytest.CaptureFixture[str], trained: list[ModelJob]) -> None:
    words = ["plan", "digits", "--method", "herding", "--bytes", "400", "--profile-steps", "0", "--quiet"]
    assert main([*words, "--baselines", "model", "--json"]) == 0
    model = json.loads(capsys.readouterr().out)["model"]
    assert (model["bytes"], model["networks"], model["left_out"]) == (400, 5, None)
    assert model["seconds"] > 0
    assert max(job.steps for job in trained) <= 5
    assert main([*words, "--baselines", "model"]) == 0
    assert "baseline model: 5 networks of at most 400 bytes; choosing, training" in capsys.readouterr().out
    assert main([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["model"] is None


def test_a_plan_says_why_there_is_none() -> None:
    pairs = Splits(train=pairs_source(), test=None)
    found = potstill.plan(pairs, "random", items=4, profile_steps=0, baselines=["model"])
    assert found.model is not None
    assert found.model.seconds is None
    assert "a network of the same bytes is for one tensor" in str(found.model.left_out)
    tiny = potstill.plan("digits", "random", ipc=1, codec="uint1", profile_steps=0, baselines="model")
    assert tiny.model is not None
    assert tiny.model.bytes == tiny.bytes["total"]


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["--baselines", "models"], 1, "unknown baseline 'models'"),
        (["--baselines", "model", "--cluster", "nodes=1,gpus=1,memory=8GB,flops=1T"], 2, "leave it out with --cluster"),
        (["--method", "auto", "--baselines", "model"], 1, "a plan is of one method"),
    ],
)
def test_plans_that_cannot_be(words: list[str], status: int, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "digits", "--ipc", "1", *words, "--quiet"]) == status
    shown = capsys.readouterr().err
    assert said in shown
    assert shown.count("\n") <= 2
