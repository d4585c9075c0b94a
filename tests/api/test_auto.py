"""``--method auto``: what wins, what is said of it, and that the card's steps give the same bits without a clock."""

import dataclasses
import json
import math
import re

import pytest
import torch

import potstill
from potstill.automl import auto, halving
from potstill.automl.candidate_run import CandidateRuns
from potstill.automl.candidates import AutoOptions, Candidate, usual_candidates
from potstill.automl.halving import rung_sizes, share, steps_in, survivors
from potstill.automl.result import describe_choice
from potstill.automl.resume import Journal, pack_rows, stopwatch, unpack_rows
from potstill.automl.scoring import Entry, HeldOut, Judge, is_behind, num_students
from potstill.cli.commands import distill as command
from potstill.cli.main import main
from potstill.cli.parsing import parse
from potstill.core import Splits
from potstill.core.registry import make_method
from potstill.errors import PotstillError, for_command_line
from potstill.rng import generator
from potstill.runs.loop import Interrupted
from potstill.runs.resolve import resolve_run
from potstill.runs.spec import RunSpec
from potstill.testing.toy import pairs_source
from tests.series_data import windows

SMALL = {"network": "convnet-d1-w8", "device": "cpu", "progress": None, "executor": "serial"}
QUICK = {"student_steps": 8, "students": 1, "confirm": 2}


@pytest.fixture(scope="module")
def digits():
    return potstill.load_data("digits")


@pytest.fixture(scope="module")
def few(digits):
    """Three hundred samples, and no test data to be read."""
    rows = torch.randperm(len(digits.train), generator=torch.Generator().manual_seed(0))[:300]
    return Splits(train=digits.train.subset(rows.sort().values), test=None)


@pytest.fixture
def three_steps(monkeypatch):
    """The clock buys three steps wherever it is asked, so that two runs on a busy machine are the same run."""
    for module in (auto, halving):
        monkeypatch.setattr(module, "steps_in", lambda seconds, cost, least=1: max(least, 3))


TAUGHT = {"student_steps": 40, "students": 1, "confirm": 3}
SOME = ["random", "dm:batch_real=8,steps_per_network=1", "dm:batch_real=8,lr=0.1,steps_per_network=1"]
TOLD = {"bytes": 450, "seed": 3, "time_limit": "1h", "candidates": SOME, **SMALL, **QUICK}


@pytest.fixture(scope="module")
def whole(few):
    """A choice that nothing interrupts."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (auto, halving):
            patch.setattr(module, "steps_in", lambda seconds, cost, least=1: max(least, 3))
        return potstill.distill(few, "auto", **TOLD)


def test_rungs_keep_a_third_until_one_is_left():
    assert [rung_sizes(n) for n in (1, 2, 3, 6, 7)] == [(1,), (2, 1), (3, 1), (6, 2, 1), (7, 3, 1)]
    with pytest.raises(ValueError, match="at least one"):
        rung_sizes(0)
    assert sum(share(60, 0, (6, 3, 2)) for _ in range(6)) == pytest.approx(20)
    assert share(-1, 0, (2,)) == 0
    assert (steps_in(1.0, 0.3), steps_in(0, 1), steps_in(5, 0, least=3)) == (3, 1, 3)
    assert survivors([0.2, math.nan, 0.9, 0.9], 3) == (2, 3, 0)


def test_a_candidate_is_spelled_as_it_was_read():
    text = "m3d:lr=0.02,optimizer=adamw/frequency:kept=16%uint4@3,9,40"
    read = Candidate.parse(text)
    assert read.options == (("lr", 0.02), ("optimizer", "adamw"))
    assert (read.steps, read.parametrization, read.codec) == ((3, 9, 40), "frequency:kept=16", "uint4")
    assert read.format(read.steps) == text
    planned = Candidate.parse("dm:planned_bytes=900,lr=0.02/tiles@3")
    assert (planned.planned_bytes, planned.options) == (900, (("lr", 0.02),))
    assert planned.name == "dm:lr=0.02/tiles"
    assert planned.format(planned.steps) == "dm:planned_bytes=900,lr=0.02/tiles@3"
    for wrong in ("dmm", "dm:lr", "dm:nothing=1", "dm/nowhere", "dm@x", "dm@9,3", "dm:planned_bytes=0"):
        with pytest.raises(PotstillError):
            Candidate.parse(wrong)


def settle_usual(source, candidate):
    spec = RunSpec(
        Splits(train=source, test=None), candidate.method, bytes=2000, parametrization=candidate.parametrization,
        device="cpu", codec=candidate.codec, preset="quick", options=dict(candidate.options),
    )  # fmt: skip
    return resolve_run(spec)


def test_a_series_to_forecast_is_learned_as_one_series():
    """A window with its targets is many numbers; a series of as many holds several windows."""
    source = windows().train
    made = [c for c in usual_candidates(source, None) if not c.is_real]
    assert {c.method for c in made} >= {"kip", "condtsf"}
    for candidate in made:
        options = dict(candidate.options)
        method = make_method(candidate.method, options)[1]
        assert (candidate.parametrization or method.parametrization) == "series"


def test_every_usual_candidate_exists_and_some_are_real(few):
    rows = torch.rand(60, 5)
    table = potstill.TensorSource.make(rows.numpy(), (rows[:, 0] > 0.5).long().numpy(), ("a", "b"), name="rows")
    for source in (few.train, table):
        found = usual_candidates(source, None)
        for candidate in found:
            if not candidate.is_real:  # a table has no tiles, which m3d takes by itself
                settle_usual(source, candidate)
        assert sum(c.is_real for c in found) >= 3
        assert sum(not c.is_real for c in found) >= 4
        assert all(Candidate.parse(c.format()) == c for c in found)
    assert {c.codec for c in usual_candidates(table, "uint6")} == {"uint6"}


def test_what_the_clock_chose_comes_again_without_it(few, whole):
    """Rungs that go on from checkpoints, and a run that is told their steps, end with the same bits."""
    first, choice = whole, whole.choice
    assert choice["time_limit"] == 3600
    made = [t for t in choice["tried"] if not t["real"]]
    assert sorted(len(t["rungs"]) for t in made) == [1, 2]
    assert [t["rungs"][0]["steps"] for t in made] == [6, 6]
    again = potstill.distill(few, **{**choice["repeat"], **SMALL})
    assert torch.equal(again.inputs, first.inputs)
    assert again.choice["recipe"] == choice["recipe"]
    assert again.choice["difference"] == choice["difference"]
    assert [t["rungs"][-1]["accuracy"] for t in again.choice["tried"]] == [
        t["rungs"][-1]["accuracy"] for t in choice["tried"]
    ]
    plain = potstill.distill(few, **{**choice["recipe"], **SMALL})
    assert torch.equal(plain.inputs, first.inputs)
    assert max(t["bytes"] for t in choice["tried"]) <= 450
    held = choice["held"]
    assert held["made_of"] + held["choose"] + held["confirm"] == held["samples"] == len(few.train)


def test_an_interrupted_choice_goes_on_to_the_same_bits(few, whole, three_steps, monkeypatch, tmp_path):
    """What students said before is not asked again."""
    asked, calls, trained = Judge.merits_by_students, [0], []

    def ask(self, entry, number, students):
        calls[0] += 1
        if calls[0] == 5:
            raise KeyboardInterrupt
        return asked(self, entry, number, students)

    monkeypatch.setattr(Judge, "merits_by_students", ask)
    with pytest.raises(Interrupted, match="choice"):
        potstill.distill(few, "auto", checkpoint=tmp_path / "choice", **TOLD)
    monkeypatch.setattr(Judge, "merits_by_students", asked)
    with pytest.raises(PotstillError, match="requested otherwise \\(seed"):
        potstill.distill(few, "auto", checkpoint=tmp_path / "choice", resume=True, **{**TOLD, "seed": 4})
    once = Journal.once

    def counted(self, name, find, seconds):
        return once(self, name, lambda: (trained.append(name), find())[1], seconds)

    monkeypatch.setattr(Journal, "once", counted)
    rest = potstill.distill(few, "auto", checkpoint=tmp_path / "choice", resume=True, **TOLD)
    assert torch.equal(rest.inputs, whole.inputs)
    assert rest.choice["difference"] == whole.choice["difference"]
    assert rest.choice["repeat"] == whole.choice["repeat"]
    assert not (tmp_path / "choice").exists()
    assert trained
    assert not any(name.startswith("students 0 to 0 of 0") for name in trained)
    with pytest.raises(PotstillError, match="no unfinished choice"):
        potstill.distill(few, "auto", checkpoint=tmp_path / "choice", resume=True, **TOLD)


def test_only_what_is_behind_by_more_than_noise_and_hope_is_dropped():
    draw = torch.Generator().manual_seed(0)
    right = torch.rand(300, generator=draw) < 0.9
    few_wrong, many_wrong = right.clone(), right.clone()
    few_wrong[:1] = False
    many_wrong[:60] = False
    leader, near, far = (Entry(candidate=Candidate.parse("dm"), merit_rows=[r]) for r in (right, few_wrong, many_wrong))
    assert not is_behind(leader, leader)
    assert not is_behind(near, leader)
    assert is_behind(far, leader)
    assert not is_behind(far, leader, hope=0.3)
    assert [num_students(rung, 3) for rung in range(4)] == [1, 2, 3, 3]


def test_the_limit_is_of_the_clock_and_counts_what_went_before(monkeypatch):
    """It was of what the process had for itself: on a busy machine the command took twice its limit."""
    now = {"wall": 100.0}
    monkeypatch.setattr("time.monotonic", lambda: now["wall"])
    watch = stopwatch(before=5.0)
    now["wall"] = 110.0
    assert watch() == 15.0


def test_a_set_that_teaches_more_wins_and_is_made_of_all_data(digits):
    some = ["random%exact", "dm:batch_real=16,lr=1.0@15,40,50", "dm:init_from=noise@0,0"]
    small = potstill.distill(digits, "auto", bytes=420, candidates=some, **SMALL, **TAUGHT)
    choice = small.choice
    assert choice["answer"] == "made", choice["text"]
    assert choice["difference"]["ci95"][0] > 0
    assert small.metadata["method"] == "dm"
    assert small.metadata["cost"]["steps"] == 50
    assert small.metadata["source"]["hash"] == digits.train.content_hash
    assert "test data were not read" in choice["text"]
    assert "no clock" in choice["clock"]


def test_real_samples_are_an_answer(digits, tmp_path, capsys):
    words = ["--bytes", "800", "--network", "convnet-d1-w8", "--device", "cpu", "--student-steps", "9", "--quiet"]
    words += ["--students", "1", "--confirm", "2"]
    path = tmp_path / "a.safetensors"
    some = ["k-means", "dm:init_from=noise@0,0", "dm/hallucinator@1,2"]
    line = ["distill", "digits", "--method", "auto", *words, "--candidates", *some, "--out", str(path)]
    assert main(line) == 0
    shown = capsys.readouterr().out
    assert re.search(r"Keep \d\d real samples, in \d{3} bytes, as ", shown)
    assert "tried, of a part of the data" in shown
    assert "Left out: dm over hallucinator (" in shown
    card = potstill.load(path).to_dict()
    assert (card["method"], card["choice"]["answer"]) == ("k-means", "real")
    assert for_command_line(card["choice"]["text"]) in shown
    recipe = tmp_path / "again.yaml"
    recipe.write_text(json.dumps({"data": "digits", **card["choice"]["repeat"]}))
    other = tmp_path / "b.safetensors"
    assert main(["distill", "--recipe", str(recipe), "--device", "cpu", "--quiet", "--out", str(other)]) == 0
    assert torch.equal(potstill.load(other).inputs, potstill.load(path).inputs)


def test_real_samples_of_the_answer_fill_their_bytes(digits):
    way = {"selection": "random", "codec": "uint2", "bytes": 900}
    searched = potstill.distill(digits, "real", **way, device="cpu", progress=None)
    chosen = potstill.distill(
        digits, "auto", bytes=900, candidates=["real:selection=random%uint2"], device="cpu", progress=None, **QUICK
    )
    assert chosen.is_selection
    assert len(chosen) >= len(searched)
    assert 0.93 * 900 < chosen.metadata["bytes"]["total"] <= 900


def test_the_time_that_real_samples_leave_is_used_to_search_on(few, three_steps, monkeypatch):
    """The longer search's best way is judged like the others, is the answer, and is all that a repeat needs."""
    given = []

    def search(self, train, seconds):
        given.append(seconds)
        coarse = "uint1" if len(given) == 1 else "uint4"
        return {"ways": [f"real:selection=random%{coarse}"], "complete": complete}

    complete = False
    monkeypatch.setattr(CandidateRuns, "search_real", search)
    told = {**TOLD, "candidates": ["real", "dm:batch_real=8,lr=0.0,steps_per_network=1"]}
    answer = potstill.distill(few, "auto", **{**told, **TAUGHT})
    assert len(given) == 2
    assert given[1] > given[0] > 0
    assert answer.choice["chosen"] == "real:selection=random%uint4"
    assert [t["name"] for t in answer.choice["tried"] if t["real"]] == [
        "real:selection=random%uint1", "real:selection=random%uint4",
    ]  # fmt: skip
    repeated = [Candidate.parse(c) for c in answer.choice["repeat"]["candidates"] if c.startswith("real")]
    assert [c.name for c in repeated] == [answer.choice["chosen"]]
    assert repeated[0].draw == answer.choice["draws"]["chosen"]
    plain = potstill.distill(few, **{**answer.choice["recipe"], **SMALL})
    assert set(answer.index.tolist()) <= set(plain.index.tolist()), "the same draw, which may be filled by one more"
    again = potstill.distill(few, **{**answer.choice["repeat"], **SMALL})
    assert len(given) == 2
    assert torch.equal(again.inputs, answer.inputs)
    complete = True
    potstill.distill(few, "auto", **{**told, **TAUGHT})
    assert len(given) == 3, "what was searched whole is not searched again"


FOUND = {"ways": ["real:selection=random%uint4"], "complete": False}


def test_a_short_limit_tries_few_candidates_and_names_the_others(few, three_steps, monkeypatch):
    monkeypatch.setattr(CandidateRuns, "search_real", lambda self, train, seconds: FOUND)
    monkeypatch.setattr(halving, "JUDGING", 1e-9)  # as if no student could be paid for, on any machine
    answer = potstill.distill(few, "auto", **{**TOLD, "candidates": []})
    tried = answer.choice["tried"]
    assert tried[0]["name"] == FOUND["ways"][0]
    assert tried[0]["rungs"]
    left = [[t["left_out"] == halving.NO_TIME for t in tried if t["real"] is real] for real in (True, False)]
    for side in left:
        assert side == [False] * halving.FEWEST + [True] * (len(side) - halving.FEWEST), "the last are left out"
    assert sum(left[1]) > 0
    shown = describe_choice(answer.choice)
    assert shown.count(halving.NO_TIME) == 1, "a reason is printed once, after all that it left out"
    assert "random in uint4" in shown


def test_items_are_taken_for_the_bytes_of_real_samples(digits):
    small = potstill.distill(digits, "auto", ipc=1, candidates=["random", "random%uint2"], **SMALL, **QUICK)
    one = potstill.distill(digits, "random", ipc=1, device="cpu", progress=None)
    assert small.choice["bytes"] == one.metadata["bytes"]["total"]
    assert len(small) >= 10
    assert "no way to distil could be tried" in small.choice["text"]


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        ({"steps": 3}, "steps was given"),
        ({"parametrization": "tiles"}, "parametrization was given"),
        ({"lr": 3}, "auto has no option 'lr'"),
        ({"candidates": ["dm"]}, "add random"),
        ({"candidates": ["random", "dm@3", "m3d"]}, "m3d has none"),
        ({"validation": 1.5}, "validation must lie"),
        ({"confirm": 1}, "confirm must be"),
        ({"bytes": 3}, "one real sample of each class takes at least"),
    ],
)
def test_what_cannot_be_is_said(digits, asked, why):
    with pytest.raises(PotstillError, match=why):
        potstill.distill(digits, "auto", **{"bytes": 400, **SMALL, **asked})


@pytest.mark.parametrize("task", ["regression", "forecast", "pairs"])
def test_tasks_without_classes_are_served(tmp_path, task):
    """Scores of blocks of held-out samples take the place of right and wrong, errors count less as better."""
    draw = torch.Generator().manual_seed(0)
    if task == "regression":
        x = torch.randn(160, 3, generator=draw)
        y = x @ torch.tensor([1.0, -2.0, 0.5]) + 0.1 * torch.randn(160, generator=draw)
        lines = [",".join(f"{v:.4f}" for v in (*row, out)) for row, out in zip(x.tolist(), y.tolist(), strict=True)]
        (tmp_path / "t.csv").write_text("\n".join(["a,b,c,y", *lines]))
        data = potstill.load_data(str(tmp_path / "t.csv"), label="y", task="regression")
    elif task == "forecast":
        wave = [f"{math.sin(i / 5) + 0.01 * (i % 7):.4f}" for i in range(600)]
        (tmp_path / "t.csv").write_text("\n".join(["v", *wave]))
        data = potstill.load_data(str(tmp_path / "t.csv"), task="forecast:window=12,horizon=4")
    else:
        data = Splits(train=pairs_source(), test=None)
    network = {} if task == "pairs" else {"network": "mlp"}
    some = ["random", "dm:batch_real=8,steps_per_network=1@3,4"]
    small = potstill.distill(
        data, "auto", items=8, candidates=some, device="cpu", progress=None, executor="serial", **network, **QUICK
    )
    choice = small.choice
    metric = choice["metric"]
    assert metric["metric"] != "accuracy"
    real, made = (t["rungs"][-1]["score"] for t in choice["tried"])
    rival, winner = choice["difference"]["rival"], choice["difference"]["winner"]
    sign = -1 if metric["direction"] == "lower" else 1
    assert (sign * rival > 0) == (real > 0)
    assert choice["difference"]["mean"] == pytest.approx(winner - rival)
    assert choice["answer"] == ("made" if small.metadata["method"] == "dm" else "real")
    assert ("less is better" in choice["text"]) == (sign < 0)
    assert made >= 0
    shown = describe_choice(choice)
    assert shown.splitlines()[0].endswith(metric["metric"])
    assert choice["text"] in shown


def test_halves_of_a_series_share_no_point_in_time(tmp_path):
    (tmp_path / "t.csv").write_text("\n".join(["v", *(f"{math.sin(i / 5):.4f}" for i in range(300))]))
    source = potstill.load_data(str(tmp_path / "t.csv"), task="forecast:window=40,horizon=9").train
    halves = HeldOut.split(source, 0)
    assert len(halves.choosing) > 10
    assert int(source.starts[halves.choosing].max()) + 49 <= int(source.starts[halves.confirming].min())


def test_rows_of_the_journal_come_back_to_the_bit():
    draw = torch.Generator().manual_seed(0)
    for rows in (torch.rand(3, 7, generator=draw).double(), (torch.rand(2, 9, generator=draw) < 0.5).double()):
        assert torch.equal(unpack_rows(pack_rows(rows), tuple(rows.shape)), rows)
    assert len(pack_rows(torch.ones(2, 800))) == 400


def test_plans_and_comparisons_are_refused_in_one_line(digits, tmp_path, capsys):
    with pytest.raises(PotstillError, match="a plan is of one method"):
        potstill.plan(digits, "auto", bytes=400)
    with pytest.raises(PotstillError, match="auto is not a method to compare"):
        potstill.compare(digits, ["dm", "auto"], bytes=400, out=tmp_path / "board")
    assert not (tmp_path / "board").exists()
    assert main(["methods", "auto"]) == 2
    assert "chooses among them" in capsys.readouterr().err
    words = ["compare", "digits", "--methods", "auto,dm", "--ipc", "1", "--out", str(tmp_path / "board"), "--quiet"]
    assert main(words) == 1
    assert "auto is not a method to compare" in capsys.readouterr().err


def test_auto_is_the_default_and_an_option_of_one_method_means_dm(digits, monkeypatch):
    seen = []

    def watch(spec, *rest):
        seen.append(spec.method)
        raise PotstillError("seen")

    monkeypatch.setattr("potstill.api.distill.run", watch)
    given = ({}, {"time_limit": "1m"}, {"students": 2}, {"steps": 3}, {"iterations": 5}, {"preset": "quick"})
    for options in (*given, {"labels": "learned"}, {"method": "random"}):
        with pytest.raises(PotstillError, match="seen"):
            potstill.distill(digits, ipc=1, **options)
    assert seen == ["auto"] * 3 + ["dm"] * 4 + ["random"]


@pytest.mark.parametrize(
    ("words", "method"),
    [
        (["--ipc", "1"], "auto"),
        (["--bytes", "2kB", "--time-limit", "1m", "--students", "2", "--quiet"], "auto"),
        (["--ipc", "1", "--lr", "5"], "dm"),
        (["--ipc", "1", "--steps=3"], "dm"),
        (["--ipc", "1", "--class-shards", "2"], "dm"),
        (["--ipc", "1", "--init", "noise"], "dm"),
        (["--ipc", "1", "--method", "herding"], "herding"),
    ],
)
def test_a_command_without_a_method_is_auto_or_dm(words, method):
    assert parse("distill", ["digits", "--out", "a.safetensors", *words]).command.method == method


def test_both_lists_of_options_of_one_method_agree():
    for name in auto.OF_ONE_METHOD:
        assert name in command.OF_ONE_METHOD
    assert {field.name for field in dataclasses.fields(AutoOptions)} == command.OF_AUTO


def test_a_candidate_that_cannot_be_made_is_left_out_without_a_clock_too():
    """It needs more real samples to begin with than there are; it ended all of auto."""
    x = torch.randn(60, 4, generator=generator(0, "few"))
    data = potstill.load_data((x.numpy(), (torch.arange(60) % 2).numpy()))
    candidates = ["random", "dm/pixels%uint4@2,2"]
    small = potstill.distill(data, "auto", bytes=400, candidates=candidates, device="cpu", progress=None, **QUICK)
    assert [("distinct samples" in (t["left_out"] or ""), t["real"]) for t in small.choice["tried"]][-1] == (
        True,
        False,
    )
    assert "no way to distil could be tried" in small.choice["text"]
