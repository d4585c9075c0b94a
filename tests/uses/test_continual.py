"""Continual memories: streams, true bytes, scores, resuming, and what a run says of made and real memories."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import potstill
from potstill.core import Splits
from potstill.data import TensorSource
from potstill.errors import PotstillError
from potstill.rng import generator
from potstill.uses.continual import Learner, class_stream, continual, group_stream, named_stream, parse_memory
from potstill.uses.continual.memory import Context, Memory, Segment
from potstill.uses.continual.stream import split_classes, step_source
from potstill.uses.continual.summary import conclude

QUICK = Learner(network="convnet-w8-d1", steps=10)


def pictures(classes: int = 4, per_class: int = 30, seed: int = 0, groups: int = 0) -> TensorSource:
    """Return pictures of 8 × 8 whose class is the row that is bright."""
    rng = torch.Generator().manual_seed(seed)
    y = torch.arange(classes).repeat(per_class)
    x = torch.randint(0, 80, (len(y), 1, 8, 8), generator=rng, dtype=torch.uint8)
    x[torch.arange(len(y)), 0, y] += 150
    source = TensorSource.make(x, y.tolist(), classes=[str(c) for c in range(classes)], name="rows")
    return replace(source, groups=torch.arange(len(y)) // per_class % groups) if groups else source


def splits(**sizes: int) -> Splits:
    return Splits(train=pictures(**sizes), test=pictures(**{**sizes, "per_class": 10}, seed=1))


def run(out: Path, **options: Any) -> dict[str, Any]:
    """Return a run of a second."""
    given = {"bytes": 800, "orders": 2, "memories": ("random@uint4",), "learner": QUICK, "executor": "serial"}
    return continual(splits(), out=out, **{**given, **options})


def states(memory: Memory, budget: int, train: TensorSource, per_step: int = 2) -> list[tuple[Segment, ...]]:
    """Return a memory after each step."""
    stream = class_stream(train, train, per_step, 0)
    context = Context(train=train, byte_budget=budget, steps=len(stream), seed=0, learner=QUICK)
    found: list[tuple[Segment, ...]] = []
    for number, step in enumerate(stream):
        found.append(memory.update(found[-1] if found else (), step, number, context))
    return found


def test_a_class_stream_has_each_class_once_in_an_order_by_seed() -> None:
    data = pictures(classes=5)
    streams = [class_stream(data, data, 2, seed) for seed in (0, 0, 1, 2, 3)]
    classes = [[step.classes for step in stream] for stream in streams]
    assert [len(c) for c in classes[0]] == [2, 2, 1]
    assert sorted(c for step in classes[0] for c in step) == [0, 1, 2, 3, 4]
    assert classes[0] == classes[1]
    assert len({str(c) for c in classes}) > 1
    for step in streams[0]:
        assert set(data.labels[step.train].tolist()) == set(step.classes)


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ([["0", "1"], ["2", "0"]], "class '0' stands twice in the stream, in steps 1 and 2"),
        ([["0"], ["zebra"]], "step 2 of the stream names class 'zebra'"),
        ([["0"], []], "step 2 of the stream has no class"),
        ([["0", "1"]], "needs two steps or more, but 1 are named"),
    ],
)
def test_bad_streams_are_refused_in_one_line(steps: list[list[str]], message: str) -> None:
    data = pictures()
    with pytest.raises(PotstillError, match=message) as error:
        named_stream(data, data, steps)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("per_step", [0, 4, 9])
def test_fewer_than_two_steps_are_refused(per_step: int) -> None:
    data = pictures(classes=4)
    with pytest.raises(PotstillError, match=r"classes a step of 4 classes make .*; give 1 to 3"):
        class_stream(data, data, per_step, 0)


def test_a_class_without_test_samples_is_refused() -> None:
    data = pictures()
    with pytest.raises(PotstillError, match="class '3' has no test samples"):
        class_stream(data, data.subset((data.labels != 3).nonzero().flatten()), 2, 0)


def test_a_domain_stream_has_each_group_once_with_the_test_samples_of_its_groups() -> None:
    data = pictures(groups=4)
    stream = group_stream(data, data, 2, 0)
    assert sorted(g for step in stream for g in step.groups) == [0, 1, 2, 3]
    assert data.groups is not None
    for step in stream:
        assert step.classes == (0, 1, 2, 3)
        assert set(data.groups[step.test].tolist()) == set(step.groups)
    with pytest.raises(PotstillError, match="needs groups of samples, but rows has none"):
        group_stream(pictures(), pictures(), 2, 0)
    with pytest.raises(PotstillError, match="4 groups has 2 to 4 steps, not 5"):
        group_stream(data, data, 5, 0)


@pytest.mark.parametrize("name", ["random@uint4", "herding@uint4", "k-means@half:bits=1", "soft@uint4"])
def test_a_step_takes_its_share_and_is_never_touched_again(name: str) -> None:
    memory = parse_memory(name)
    if name.startswith("soft"):
        memory = replace(memory, selection="random")  # type: ignore[type-var]
    found = states(memory, 900, pictures())
    assert [len(state) for state in found] == [1, 2]
    assert found[1][0] is found[0][0]
    for segment in found[1]:
        assert 0 < segment.bytes <= 450
        assert len(segment.x) >= 2
    y = found[1][1].y
    assert y.ndim == (2 if name.startswith("soft") else 1)
    if y.ndim == 2:  # the network of that time knows the classes of both steps, that of the first step its own
        assert bool((y.sum(0) > 0).all())
        assert int((found[1][0].y.sum(0) > 0).sum()) == 2


@pytest.mark.parametrize("name", ["balanced@exact", "reservoir@exact"])
def test_streamed_memories_keep_samples_that_they_held_within_all_bytes(name: str) -> None:
    data = pictures()
    (first,), (second,) = states(parse_memory(name), 900, data)
    assert max(first.bytes, second.bytes) <= 900
    rows = {x.numpy().tobytes() for x in data.fetch(torch.arange(len(data))).x}
    before = {x.numpy().tobytes() for x in first.x}
    old = [x for x, y in zip(second.x, second.y, strict=True) if int(y) in set(first.y.tolist())]
    assert len(before) < len(rows)
    assert {x.numpy().tobytes() for x in old} <= before
    counts = torch.bincount(second.y, minlength=4)
    if name.startswith("balanced"):
        assert len(set(counts.tolist())) == 1
    assert int(counts.sum()) == len(second.x)


@pytest.mark.parametrize("name", ["herding@uint4", "dm"])
def test_an_online_stream_refuses_what_reads_samples_again(name: str, tmp_path: Path) -> None:
    with pytest.raises(PotstillError, match=f"memory {name} .*an online stream is read once"):
        run(tmp_path, memories=(name,), scenario="online")


def test_bytes_that_leave_a_class_empty_are_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(PotstillError, match=r"one sample of each of 2 classes in 50 bytes at least") as error:
        run(tmp_path, memories=("raw",), bytes=100)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"memories": ()}, "one memory at least"),
        ({"memories": ("raw", "raw")}, "memory 'raw' is given twice"),
        ({"memories": ("ra",)}, "no memory 'ra'"),
        ({"memories": (), "methods": ("craig",)}, "selects real samples"),
        ({"bytes": (8, 8)}, "different numbers"),
        ({"bytes": "many"}, "bytes: "),
        ({"orders": 0}, "one order at least"),
        ({"scenario": [["0", "1"], ["0"]]}, "class '0' stands twice"),
    ],
)
def test_bad_arguments_are_refused(options: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(PotstillError, match=message):
        run(tmp_path, **options)


def test_a_run_measures_all_steps_within_the_bytes_and_writes_a_page(tmp_path: Path) -> None:
    result = run(tmp_path, memories=("random@uint4", "raw"))
    for cell in result["cells"]:
        steps = cell["steps"]
        assert [len(step["by_step"]) for step in steps] == [1, 2]
        for number, step in enumerate(steps):
            assert 0 < step["bytes"] <= 400 * (number + 1)
            assert step["accuracy"] == pytest.approx(sum(step["by_step"]) / (number + 1))  # as many test samples each
            for among_all, among_own in zip(step["by_step"], step["by_step_known"], strict=True):
                assert among_own >= among_all
        assert cell["forgetting"] == pytest.approx(steps[0]["by_step"][0] - steps[1]["by_step"][0])
        assert cell["average"] == pytest.approx((steps[0]["accuracy"] + steps[1]["accuracy"]) / 2)
    rows = {row["memory"]: row for row in result["rows"]}
    (other,) = (row for row in rows.values() if "difference" in row)
    (best,) = (row for row in rows.values() if "difference" not in row)
    assert other["difference"]["mean"] == pytest.approx(other["final"]["mean"] - best["final"]["mean"])
    assert other["difference"]["mean"] <= 0
    page = (tmp_path / "continual.html").read_text()
    assert all(text in page for text in ("random@uint4", "<svg", result["sentences"][0].split(";")[0]))
    assert json.loads((tmp_path / "continual.json").read_text())["rows"] == json.loads(json.dumps(result["rows"]))


def test_an_interrupted_run_goes_on_from_its_cells(tmp_path: Path) -> None:
    first = run(tmp_path)
    cells = sorted((tmp_path / "cells").iterdir())
    assert len(cells) == 2
    cells[0].unlink()
    marked = json.loads(cells[1].read_text())
    marked["final"] = 0.125
    cells[1].write_text(json.dumps(marked))
    again = run(tmp_path)
    assert [c["final"] for c in again["cells"]] == [first["cells"][0]["final"], 0.125]
    with pytest.raises(PotstillError, match="was measured with other settings or data"):
        run(tmp_path, learner=replace(QUICK, steps=11))


@pytest.mark.slow
def test_executors_give_the_same_accuracies(tmp_path: Path) -> None:
    one = run(tmp_path / "serial")
    two = run(tmp_path / "processes", executor="processes:workers=2")
    assert [c["final"] for c in one["cells"]] == [c["final"] for c in two["cells"]]


def test_the_default_chooses_a_codec_on_the_first_step(tmp_path: Path) -> None:
    result = run(tmp_path, memories=("coded",), orders=1, bytes=400, learner=replace(QUICK, steps=3))
    choice = json.loads((tmp_path / "cells" / "choice-400-order0.json").read_text())
    assert result["cells"][0]["steps"][-1]["codec"] == choice["codec"]
    assert choice["codec"] in {row["codec"] for row in choice["tried"]}


def test_a_domain_run_and_a_made_memory_are_measured(tmp_path: Path) -> None:
    data = Splits(train=pictures(groups=3), test=pictures(per_class=10, seed=1))
    result = continual(
        data, out=tmp_path, scenario="domain", steps=3, bytes=1500, orders=1, memories=("random@uint4",),
        methods=("dm",), distill_steps=2, learner=QUICK, executor="serial",
    )  # fmt: skip
    made = next(cell for cell in result["cells"] if cell["made"])
    assert [step["bytes"] <= 500 * (n + 1) for n, step in enumerate(made["steps"])] == [True] * 3
    assert made["final_known"] == pytest.approx(made["final"])  # every step has all classes
    assert "without an interval" in result["sentences"][0]


@pytest.mark.parametrize("method", ["dm", "random", "herding"])
def test_a_class_separable_method_run_step_by_step_gives_the_joint_set(method: str) -> None:
    data = pictures()
    options: dict[str, Any] = {"ipc": 2, "seed": 3, "codec": "float32", "progress": None}
    if method == "dm":
        options |= {"steps": 3, "network": "convnet-w8-d1", "batch_real": 16}
    joint = potstill.distill(Splits(train=data, test=None), method, **options)
    stream = class_stream(data, data, 2, 0)
    parts = [
        potstill.distill(Splits(train=step_source(data, s.train, s.classes), test=None), method, **options)
        for s in stream
    ]  # fmt: skip

    def digests(sets: list[potstill.Distilled]) -> dict[str, str]:
        found: dict[str, str] = {}
        for small in sets:
            x: Tensor = small.inputs
            for c, name in enumerate(small.classes):
                found[name] = hashlib.sha256(x[small.hard_labels == c].numpy().tobytes()).hexdigest()
        return found

    assert digests(parts) == digests([joint])
    assert len(set(digests([joint]).values())) == 4


def conclusion(real: list[float], made: list[float]) -> Mapping[str, Any]:
    """Return the verdict on final accuracies of one real and one made memory."""
    cells = [
        {
            "memory": name, "bytes": 100, "average": v, "forgetting": 0.0, "final_known": v, "seconds": 1.0,
            "steps": [{"accuracy": v, "tested": 1000, "bytes": 90, "items": 5, "codec": "uint4"}],
        }
        for name, values in (("coded", real), ("dm", made)) for v in values
    ]  # fmt: skip
    memories = [{"name": "coded", "made": False}, {"name": "dm", "made": True}]
    result: Mapping[str, Any] = conclude({"bytes": [100], "memories": memories, "cells": cells})["verdicts"][0]
    return result


@pytest.mark.parametrize(
    ("real", "made", "kind", "words"),
    [
        (
            [0.70, 0.71, 0.72],
            [0.75, 0.765, 0.77],
            "made",
            r"\(dm\) beats the best of real ones \(coded\) by 5.2 points",
        ),
        ([0.75, 0.765, 0.77], [0.70, 0.71, 0.72], "real", "does not beat .* it ends 5.2 points below"),
        ([0.70, 0.71, 0.72], [0.75, 0.65, 0.74], "not told apart", "is not told apart from"),
        ([0.70], [0.75], "untested", "ends 5.0 points above .* without an interval"),
    ],
)
def test_the_sentence_claims_only_what_the_interval_shows(
    real: list[float], made: list[float], kind: str, words: str
) -> None:
    verdict = conclusion(real, made)
    assert verdict["kind"] == kind
    assert re.search(words, str(verdict["text"]))


def test_classes_are_split_into_clusters_none_of_which_is_empty() -> None:
    """Two far groups in one class are two classes; a class of few samples, or of equal ones, stays one."""
    x = torch.cat([torch.zeros(30, 1, 2, 2), torch.ones(30, 1, 2, 2), torch.full((5, 1, 2, 2), 0.5)])
    labels = ["wide"] * 60 + ["few"] * 5
    source = TensorSource.make(x, labels, name="groups", classes=["wide", "few"])
    made = split_classes(source, parts=3, least=10, rng=generator(0, "split"))
    sizes = torch.bincount(made.labels, minlength=len(made.classes)).tolist()
    assert min(sizes) > 0
    assert sorted(sizes) == [5, 30, 30]
    assert len(made.labels[:30].unique()) == len(made.labels[30:60].unique()) == 1
    assert made.classes[-1] == "few"
