"""Active learning: what it reads, what it repeats, what it saves."""

import importlib
import itertools
import json
import xml.etree.ElementTree as ET

import pytest
import torch

from potstill.active import ACQUISITIONS, active_learning, label_cost
from potstill.active.label_cost import labels_for_accuracy
from potstill.active.learning import LabelingSchedule, Learner
from potstill.cli.main import main
from potstill.data import TensorSource
from potstill.errors import PotstillError
from potstill.reports.label_curves import draw_label_curves
from potstill.rng import generator

QUICK = Learner(network="linear", steps=20, batch=16, lr=0.1)


def blobs(n, seed, name="blobs"):
    rng = generator(seed, "blobs")
    y = torch.arange(n) % 3
    x = torch.randn(n, 2, generator=rng) + torch.tensor([[0.0, 3.0], [3.0, 0.0], [-3.0, -3.0]])[y]
    return TensorSource.make(x, y, name=name)


class Unlabelled:
    """A pool whose labels are wrong, and whose labelled batches may not be read."""

    def __init__(self, source):
        self.name, self.input, self.classes = source.name, source.input, source.classes
        self.normalization, self.device, self.raw = source.normalization, source.device, source.raw
        self.labels = (source.labels + 1) % len(source.classes)

    content_hash = "none"

    def __len__(self):
        return len(self.labels)

    def fetch(self, index):
        raise AssertionError("the pool's labels were read")

    def to(self, device):
        return self


@pytest.mark.parametrize("acquire", ACQUISITIONS)
def test_only_the_labels_that_are_asked_for_are_read(acquire):
    source, test = blobs(120, 0), blobs(60, 1)
    asked = []

    def ask(index):
        asked.append(index.tolist())
        return source.labels[index]

    run = active_learning(
        Unlabelled(source),
        ask,
        acquire=acquire,
        schedule=LabelingSchedule(rounds=3, per_round=4, initial_labels=6),
        learner=QUICK,
        test=test,
    )
    flat = [i for part in asked for i in part]
    assert [len(part) for part in asked] == [6, 4, 4, 4]
    assert len(set(flat)) == 18  # nothing is asked for twice
    assert run.index.tolist() == flat
    assert torch.equal(run.labels, source.labels[run.index])
    assert [r.labels for r in run.rounds] == [6, 10, 14, 18]
    assert run.rounds[-1].accuracy > 0.8
    again = active_learning(
        source,
        ask,
        acquire=acquire,
        schedule=LabelingSchedule(rounds=3, per_round=4, initial_labels=6),
        learner=QUICK,
        test=test,
    )
    assert again.index.tolist() == flat
    assert [r.accuracy for r in again.rounds] == [r.accuracy for r in run.rounds]
    json.dumps(run.to_dict())


def test_all_begin_with_the_same_samples():
    source = blobs(60, 0)
    starts = {
        active_learning(
            source,
            lambda i: source.labels[i],
            acquire=a,
            schedule=LabelingSchedule(rounds=1, per_round=2, initial_labels=5),
            learner=QUICK,
        )
        .rounds[0]
        .index
        for a in ACQUISITIONS
    }
    assert len(starts) == 1


def test_a_round_asks_for_what_the_learner_is_least_sure_of():
    from potstill.active.acquisition import margin
    from potstill.active.learning import labelled_source, predict, train_learner
    from potstill.nn import factory

    source = blobs(90, 0)
    run = active_learning(
        source,
        lambda i: source.labels[i],
        acquire="margin",
        schedule=LabelingSchedule(rounds=1, per_round=5, initial_labels=9),
        learner=QUICK,
    )
    first = torch.tensor(run.rounds[0].index)
    make = factory("linear", source.input, 3)
    net = train_learner(QUICK, make, labelled_source(source, first, source.labels[first]), 0, 0)
    scores = margin(predict(net, source)[0])
    scores[first] = -1
    assert run.rounds[1].index == tuple(scores.argsort(descending=True, stable=True)[:5].tolist())


@pytest.mark.parametrize(
    ("answer", "options", "message"),
    [
        (lambda i: i[:1] * 0, {}, "must be answered"),
        (lambda i: i * 0 + 3, {}, "class numbers in 0…2"),
        (lambda i: i * 0.5, {}, "must be answered"),
        (lambda i: ["a"] * len(i), {}, "must be answered"),
        (lambda i: i * 0, {"rounds": 100}, "ask for fewer"),
        (lambda i: i * 0, {"per_round": 0}, "at least 1"),
        (lambda i: i * 0, {"acquire": "margins"}, "did you mean margin"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(answer, options, message):
    numbers = {"rounds": 1, "per_round": 3, **{n: v for n, v in options.items() if n != "acquire"}}
    schedule, acquire = LabelingSchedule(**numbers), options.get("acquire", "margin")
    with pytest.raises(PotstillError, match=message) as refused:
        active_learning(blobs(60, 0), answer, acquire=acquire, schedule=schedule, learner=QUICK)
    assert "\n" not in str(refused.value)


def test_needed_labels_lie_on_the_line_between_two_rounds():
    assert labels_for_accuracy([10, 20, 30], [0.5, 0.7, 0.6], 0.6) == pytest.approx(15)
    assert labels_for_accuracy([10, 20], [0.5, 0.7], 0.4) == 10
    assert labels_for_accuracy([10, 20], [0.5, 0.7], 0.8) is None


def test_the_cost_of_labels_has_intervals_and_a_plot():
    seen = []
    result = label_cost(
        lambda s: (blobs(120, s), blobs(90, 100 + s)), ["margin", "random"], schedule=LabelingSchedule(rounds=3,
        per_round=5), learner=QUICK,
        seeds=3, progress=lambda *a: seen.append(a),
    )  # fmt: skip
    assert result["labels"] == [5, 10, 15, 20]
    assert list(result["curves"]) == ["random", "margin"]
    assert result["full"]["n"] == 3
    for curve in result["curves"].values():
        assert [a["n"] for a in curve["accuracy"]] == [3] * 4
        assert 5 <= curve["needed"]["mean"] <= 20
    # pairs, by hand
    random, margin = (result["curves"][a] for a in ("random", "margin"))
    pairs = [r - m for r, m in zip(random["needed"]["values"], margin["needed"]["values"], strict=True)]
    assert margin["saved"]["values"] == pairs
    assert random["over_random"]["values"] == [0.0] * 3
    heights = [sum((a + b) / 2 for a, b in itertools.pairwise(run["accuracy"])) / 3 for run in margin["runs"]]
    assert margin["mean_over_labels"]["values"] == pytest.approx(heights)
    drawn = ET.fromstring(draw_label_curves(result, "a < b"))
    lines = [e for e in drawn.iter() if e.tag.endswith("polyline")]
    assert len(lines) == 2
    assert "a < b" in drawn[0].text


def test_the_command(tmp_path, capsys):
    words = [
        "active-learning",
        "digits",
        "--acquire",
        "margin,badge",
        "--rounds",
        "2",
        "--per-round",
        "10",
        "--seeds",
        "2",
    ]
    words += ["--network", "linear", "--steps", "10", "--quiet"]
    out, plot = tmp_path / "a.json", tmp_path / "a.svg"
    assert main([*words, "--out", str(out), "--plot", str(plot)]) == 0
    assert "labels to 95 % of full" in capsys.readouterr().out
    said = json.loads(out.read_text())
    assert set(said["curves"]) == {"random", "margin", "badge"}
    ET.fromstring(plot.read_text())
    assert main(["active-learning", "digits", "--acquire", "margins", "--quiet"]) == 2


def test_a_pool_that_is_too_small_is_refused_before_anything_is_trained(monkeypatch):
    module = importlib.import_module("potstill.active.label_cost")  # the name of its function, too
    monkeypatch.setattr(module, "train_learner", lambda *a: pytest.fail("a learner was trained"))
    pool = blobs(60, 0)
    with pytest.raises(PotstillError, match="cannot give"):
        label_cost(lambda seed: (pool, pool), schedule=LabelingSchedule(rounds=50, per_round=100), seeds=1)
