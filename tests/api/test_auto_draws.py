"""``--method auto`` draws its real samples several times, and looks again at what it made of all training data."""

import dataclasses

import pytest
import torch

import potstill
from potstill.automl import auto, draws, halving
from potstill.automl.candidate_run import CandidateRuns
from potstill.automl.candidates import Candidate
from potstill.automl.draws import centred_scores, held_positions
from potstill.automl.scoring import HeldOut
from potstill.core import Splits
from potstill.data import holdout
from potstill.errors import PotstillError
from tests.series_data import windows

SHORT = {
    "network": "convnet-d1-w8", "device": "cpu", "progress": None, "executor": "serial", "student_steps": 40,
    "students": 2, "confirm": 3, "bytes": 450, "seed": 3,
}  # fmt: skip


@pytest.fixture(scope="module")
def few():
    train = potstill.load_data("digits").train
    rows = torch.randperm(len(train), generator=torch.Generator().manual_seed(0))[:300]
    return Splits(train=train.subset(rows.sort().values), test=None)


def test_a_draw_gains_nothing_by_the_samples_that_it_holds():
    """The mean of what is left favours the draw that holds the hard samples; the centred one does not."""
    easy = torch.tensor([1.0, 1.0, 1.0, 1.0, 0.0, 0.0], dtype=torch.float64)
    better = torch.tensor([1.0, 1.0, 1.0, 1.0, 1.0, 0.0], dtype=torch.float64)
    valid = {0: torch.tensor([True] * 4 + [False] * 2), 1: torch.tensor([True] * 6), 2: torch.tensor([True] * 6)}
    places = torch.arange(6)
    same = centred_scores(dict.fromkeys(range(3), easy), valid, places)
    assert same == pytest.approx({0: 0, 1: 0, 2: 0})
    other = centred_scores({0: easy, 1: easy, 2: better}, valid, places)
    assert other[2] == pytest.approx(0.5 / 6)
    assert other[2] > other[0] > other[1]
    first_half = centred_scores({0: easy, 1: easy, 2: better}, valid, places[:4])
    assert first_half == pytest.approx({0: 0, 1: 0, 2: 0})


def test_positions_are_those_that_were_held_out(few):
    held_out = holdout(few.train, 0.3, 5)[1]
    positions = held_positions(few.train, 0.3, 5)
    assert torch.equal(few.train.labels[positions], held_out.labels)
    assert torch.equal(few.train.raw(positions), held_out.raw(torch.arange(len(held_out))))
    assert held_positions(windows().train, 0.3, 5) is None, "windows that overlap a drawn one are no unseen samples"


def test_what_a_draw_holds_is_in_neither_half(few):
    halves = HeldOut.split(holdout(few.train, 0.3, 5)[1], 0)
    inside = torch.zeros(len(halves.source), dtype=torch.bool)
    inside[halves.choosing[:3]] = inside[halves.confirming[:2]] = True
    left = halves.without(inside)
    assert (len(left.choosing), len(left.confirming)) == (len(halves.choosing) - 3, len(halves.confirming) - 2)
    assert not inside[torch.cat(left.columns)].any()


def test_a_draw_is_spelled_and_only_another_seed_is_one():
    read = Candidate.parse("real:draw=4,selection=random%uint2")
    assert (read.draw, read.name, read.format()) == (
        4, "real:selection=random%uint2", "real:draw=4,selection=random%uint2",
    )  # fmt: skip
    drawn = ("real:selection=k-means%uint2", "random", "k-means%uint4", "real:selection=herding", "herding", "dm")
    assert [Candidate.parse(text).is_drawn for text in drawn] == [True, True, True, False, False, False]
    with pytest.raises(PotstillError, match="draw must be a whole number"):
        Candidate.parse("random:draw=0")


def test_real_samples_are_the_best_of_several_draws(few, monkeypatch):
    """With the draw, no clock and no other draws are needed for the same bits; a set of many samples is drawn once."""
    made = "dm:batch_real=8,init_from=noise,lr=0.0,steps_per_network=1"
    for module in (auto, halving):
        monkeypatch.setattr(module, "steps_in", lambda seconds, cost, least=1: max(least, 3))
    monkeypatch.setattr(draws, "_affordable", lambda *_: 4)
    small = potstill.distill(few, "auto", time_limit="1h", candidates=["random%uint4", made], **SHORT)
    choice = small.choice
    assert choice["draws"]["tried"] == 4
    assert "the best of 4 draws" in choice["text"]
    repeat = {**choice["repeat"], **{name: SHORT[name] for name in ("device", "progress", "executor")}}
    again = potstill.distill(few, **repeat)
    assert torch.equal(again.inputs, small.inputs)
    assert again.choice["difference"] == choice["difference"]
    assert again.choice["draws"] == {"tried": 0, "chosen": choice["draws"]["chosen"]}
    assert choice["recipe"]["seed"] != choice["repeat"]["seed"]
    monkeypatch.setattr(draws, "LARGEST", 0.01)
    once = potstill.distill(few, "auto", time_limit="1h", candidates=["random%uint4", made], **SHORT)
    assert once.choice["draws"] is None


def test_what_is_made_of_all_data_is_looked_at_again(few, monkeypatch):
    """A final run that fails is not the answer: nobody had seen its set."""
    told = {**SHORT, "bytes": 420, "candidates": ["random%exact", "dm:batch_real=16,lr=1.0@15,40,50"]}
    good = potstill.distill(few, "auto", **told)
    assert good.choice["answer"] == "made", good.choice["text"]
    resolve = CandidateRuns.resolve_answer

    def spoil(self, candidate, iterations=None, planned_bytes=None):
        if not candidate.is_real:
            candidate = dataclasses.replace(candidate, options=(("init_from", "noise"), ("lr", 0.0)))
        return resolve(self, candidate, iterations, planned_bytes)

    monkeypatch.setattr(CandidateRuns, "resolve_answer", spoil)
    small = potstill.distill(few, "auto", **told)
    choice = small.choice
    assert choice["answer"] == "real"
    assert small.is_selection
    assert "distilled samples of all training data are not ahead" in choice["text"]
    assert choice["difference"] == good.choice["difference"]
    again = potstill.distill(few, **{**choice["repeat"], "device": "cpu", "progress": None, "executor": "serial"})
    assert torch.equal(again.inputs, small.inputs)
