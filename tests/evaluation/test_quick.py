"""The shortened protocol, the word for a network, and a set that was not made of the training data at hand."""

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

import potstill
from potstill.cli.main import main
from potstill.core.registry import names, resolve
from potstill.errors import PotstillError, PotstillWarning
from potstill.evaluation import describe_data_mismatch

SMALL = {"networks": "convnet-d1-w4", "baselines": False, "device": "cpu", "progress": None}


@pytest.fixture(scope="module")
def digits() -> potstill.Splits:
    return potstill.load_data("digits", size=8)


@pytest.fixture(scope="module")
def small(digits: potstill.Splits) -> potstill.Distilled:
    return potstill.distill(digits, "random", ipc=1, progress=None)


@pytest.mark.parametrize("name", names("protocols"))
def test_quick_is_no_longer_than_it_says_and_has_another_fingerprint(name: str) -> None:
    protocol = resolve("protocols", name)
    quick = protocol.quick()
    assert quick.shortened
    assert not protocol.shortened
    assert quick.fingerprint() != protocol.fingerprint()
    assert quick.students <= 3
    assert (quick.recipe.epochs or 0) <= 100
    # A warm-up is not cut: FRePo's rate hardly rises in 60 updates, and students would learn nothing.
    assert max(quick.recipe.steps, default=0) <= max(60, protocol.recipe.warm_up)
    assert quick.selection.validation_students == 1
    assert all(case.epochs is None for case in quick.cases) or quick.recipe.steps
    with pytest.raises(PotstillError, match="shortened"):
        protocol.override(shortened=True)


def test_the_scorecard_says_that_it_is_quick(digits: Any, small: Any) -> None:
    score = potstill.evaluate(small, digits, quick=True, **SMALL)
    assert (score.content["quick"], score.content["n"], score.content["full"]) == (True, 3, None)
    assert score.content["fingerprint"] == resolve("protocols", "potstill").quick().fingerprint()
    assert "QUICK" in str(score).splitlines()[0]
    long = potstill.evaluate(small, digits, quick=True, seeds=1, steps=5, lr=0.01, **SMALL)
    assert (long.content["n"], long.content["chosen"]["lr"]) == (1, 0.01)


@pytest.mark.slow
def test_a_set_of_another_split_is_said_before_it_is_measured(small: Any, tmp_path: Path, capsys: Any) -> None:
    other = potstill.load_data("digits", size=8, split_seed=1)
    with pytest.warns(PotstillWarning, match="not made of this training data: it may hold samples that it is tested"):
        score = potstill.evaluate(small, other, seeds=1, steps=2, lr=0.01, full=False, robust_scores=False, **SMALL)
    assert score.content["data"]["made_of_train"] is False
    path, out = tmp_path / "a.safetensors", tmp_path / "a.json"
    small.save(path)
    words = ["--network", "convnet-d1-w4", "--seeds", "1", "--steps", "2", "--lr", "0.01", "--no-full"]
    line = [
        "evaluate",
        str(path),
        "--data",
        "digits",
        "--size",
        "8",
        "--out",
        str(out),
        "--device",
        "cpu",
        "--no-full",
        *words,
    ]
    assert main([*line, "--split-seed", "1", "--quiet", "--no-robust-scores"]) == 0
    shown = capsys.readouterr()
    assert shown.err.startswith("potstill: WARNING: this set was not made of this training data")
    assert "made of digits (1,438 samples)" in shown.err
    assert json.loads(out.read_text())["data"]["made_of_train"] is False
    assert main([*line, "--quiet", "--no-robust-scores"]) == 0
    assert capsys.readouterr().err == ""


def test_a_set_of_which_nobody_knows_what_it_was_made_of_is_not_doubted(digits: Any) -> None:
    assert describe_data_mismatch({"source": {"name": "digits"}}, digits) is None
    assert describe_data_mismatch({"source": {"hash": digits.train.content_hash}}, digits) is None


def test_robust_scores_are_said_in_words(digits: Any, small: Any) -> None:
    score = potstill.evaluate(
        small, digits, networks="mlp-w8", seeds=2, steps=2, lr=0.01, device="cpu", progress=None, full=False
    )
    said = [line for line in str(score).splitlines() if re.search(r"\((hlr|ior|lrs|ars)\)", line)]
    assert said
    assert all(re.match(r"[a-z]", line) and line.endswith("is better") for line in said)
    assert not re.search(r"\b(HLR|IOR|LRS|ARS)\b", str(score))


def test_words_of_reading_have_one_name_and_a_network_may_be_one_of_several(digits: Any, small: Any) -> None:
    score = potstill.evaluate(
        small, digits, networks=["mlp-w8"], seeds=1, steps=2, lr=0.01, baselines=False, full=False,
        robust_scores=False, progress=None,
    )  # fmt: skip
    assert score.content["network"] == "mlp-w8"
    for word, value in (("seed", 3), ("root", "/nowhere")):
        with pytest.raises(TypeError, match=word):
            potstill.load_data("digits", **{word: value})


def test_how_long_it_will_take_is_said_before_it_begins(
    digits: Any, small: Any, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real forecast is a matter of the machine; a long one is put in its place."""
    asked: list[dict[str, Any]] = []

    def long(protocol: Any, make: Any, train: Any, executor: Any, **what: Any) -> float:
        asked.append(what)
        return 7200.0

    monkeypatch.setattr(sys.modules["potstill.evaluation.evaluate"], "estimate_seconds", long)
    settings = {"networks": "mlp-w8", "seeds": 1, "steps": 2, "lr": 0.01, "device": "cpu", "full": False}
    potstill.evaluate(small, digits, **settings)
    said = capsys.readouterr().err.splitlines()
    assert said[0] == "potstill: evaluation: about 2 hours on this machine; for less: `quick=True` or `seeds=K`"
    items = asked[0].pop("items")
    assert items[:2] == [10, 10]  # the set, and as many random samples
    assert len(items) == 5
    assert len({*items[2:], asked[0]["again"][1]}) == 1  # what fits into its bytes, about
    assert asked[0].pop("again")[0] == 10
    updates = asked[0].pop("trial_updates")
    assert updates > 20
    assert updates % 2 == 0  # two steps each, no more than the protocol's own students make
    assert asked[0].pop("trials") * 2 == updates
    assert asked[0] == {"students": 1, "full": False, "soft": True, "test_samples": len(digits.test)}
    potstill.evaluate(small, digits, baselines=False, progress=None, **settings)
    assert len(asked) == 1  # nobody would see it


def test_a_longer_protocol_is_expected_to_take_longer(digits: Any) -> None:
    """Counted in updates: the seconds of one are a matter of the machine."""
    from potstill.evaluation import forecast
    from potstill.execution import Executor, Processes, Ray, Serial
    from potstill.nn import factory

    make = factory("mlp-w8", digits.train.input, 10)
    protocol = resolve("protocols", "potstill")
    what: dict[str, Any] = {
        "items": [10],
        "students": 5,
        "again": [],
        "trial_updates": 0,
        "full": False,
        "soft": False,
    }

    def updates(executor: Executor | None = None, **changes: Any) -> float:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(forecast, "measure_step_seconds", lambda *a: 1.0)
            where = executor or Serial()
            return forecast.estimate_seconds(protocol.override(**changes), make, digits.train, where, **what)

    assert updates(lr=0.01, steps=50, validation=0) == 5 * 50
    for wide in (Processes(5), Ray(workers=5)):
        assert updates(wide, lr=0.01, steps=50, validation=0) == 50, "side by side"
    answers = 2 * 4 * 288 / 3 / 10  # of 288 held-out samples for 3 rates and 1 length, as batches of 10
    assert updates() == pytest.approx(5 * 180 + 2 * (3 * 180 + 60) + answers)


def test_a_scorecard_is_saved_and_its_page_finds_it(
    small: potstill.Distilled, digits: potstill.Splits, tmp_path: Path
) -> None:
    score = potstill.evaluate(small, digits, quick=True, seeds=1, epochs=1, **SMALL)
    small.save(tmp_path / "small.safetensors")
    kept = score.save(tmp_path / "small.scorecard.json")
    assert json.loads(kept.read_text())["accuracy"]["mean"] == pytest.approx(score.accuracy)
    page = potstill.report(tmp_path, tmp_path / "page.html").read_text()
    assert f"{100 * score.accuracy:.1f}" in page


def test_what_was_asked_for_already_is_no_advice(
    small: potstill.Distilled, digits: potstill.Splits, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    monkeypatch.setattr("potstill._util.progress.LONG_WORK_SECONDS", 0.0)
    potstill.evaluate(small, digits, quick=True, seeds=1, epochs=1, **{**SMALL, "progress": "auto"})
    said = capsys.readouterr().err
    assert "for less: a narrower network, such as convnet-w32" in said
    assert "quick=True" not in said


def test_a_quick_look_tries_few_ways_and_says_which_rival_it_leaves_out(digits: Any, small: Any) -> None:
    few = {**SMALL, "baselines": True, "seeds": 1, "epochs": 1}
    quick = potstill.evaluate(small, digits, quick=True, **few)
    rivals = quick.content["baselines"]
    assert set(rivals) == {"random", "herding", "random-items", "real"}
    assert quick.content["left_out"] == {
        "random-soft": "a quick look at a set of classes alone does not train its teacher"
    }
    assert "random-soft was left out: a quick look" in str(quick)
    tried = {name: rivals[name]["tried"] for name in ("random", "herding")}
    assert len(tried["random"]) > 1
    assert [t["codec"] for t in tried["herding"]] == [tried["random"][0]["codec"]], "the best of the first, untried"
    soft = potstill.distill(digits, "random-soft", ipc=1, steps=1, network="convnet-d1-w4", progress=None, device="cpu")
    assert soft.has_soft_labels
    assert "random-soft" in potstill.evaluate(soft, digits, quick=True, **few).content["baselines"]
