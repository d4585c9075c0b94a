"""Canvas packing and class-balanced boxes: what is cut, where it is pasted, what the observer takes off and adds."""

from dataclasses import replace
from typing import Any, ClassVar, cast

import pytest
import torch
from torch import Tensor

import potstill
from potstill.core import Splits, Synthetic
from potstill.errors import PotstillError
from potstill.functional.paste_objects import Canvas, CutObject, cut_object, place_object
from potstill.methods.decoupled.canvas_packing import CanvasPacking
from potstill.rng import generator
from potstill.tasks import ObjectDetection, count_boxes, get_targets, list_targets, pad_targets, target_mask
from potstill.testing.common import toy_problem
from potstill.testing.toy import boxes_source
from tests.box_data import NAMES, rectangles


def naive_share(a: list[float], b: list[float]) -> float:
    w, h = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    return max(w, 0) * max(h, 0) / min((a[2] - a[0]) * (a[3] - a[1]), (b[2] - b[0]) * (b[3] - b[1]))


def test_an_object_is_cut_with_more_around_it_the_smaller_it_is() -> None:
    x = torch.arange(20 * 30.0).reshape(1, 20, 30)
    small = cut_object(x, torch.tensor([10.0, 8, 14, 12, 1]), 0.1)
    assert small.pixels.shape == (1, 8, 8)
    assert small.row.tolist() == [2, 2, 6, 6, 1]
    assert torch.equal(small.pixels, x[:, 6:14, 8:16])
    edge = cut_object(x, torch.tensor([0.0, 0, 25.5, 20, 0]), 0.1)
    assert edge.pixels.shape == (1, 20, 26)  # it fills most of the picture: no margin
    assert edge.row.tolist() == [0, 0, 25.5, 20, 0]


def test_objects_lie_at_random_places_and_share_no_more_than_is_allowed() -> None:
    rng = generator(0, "places")
    thing = CutObject(torch.ones(1, 6, 5), torch.tensor([1.0, 1, 4, 5, 1]))
    for overlap in (0.0, 0.4):
        canvas = Canvas(torch.zeros(1, 20, 30), torch.tensor([[10.0, 5, 20, 15, 0]]))
        for _ in range(60):
            canvas = place_object(canvas, thing, overlap, rng)
        rows = canvas.rows.tolist()
        assert rows[0] == [10, 5, 20, 15, 0]
        shares = [naive_share(a, b) for i, a in enumerate(rows) for b in rows[:i]]
        assert max(shares) <= overlap
        assert len(rows) > 10
        assert len({tuple(row[:2]) for row in rows}) == len(rows)
        x = canvas.painted()
        for left, top, right, bottom, _ in rows[1:]:
            assert bool((x[:, int(top) : int(bottom), int(left) : int(right)] == 1).all())
        first = canvas.keep(torch.tensor([True] + [False] * (len(canvas.objects) - 1)))
        assert first.rows.tolist() == rows[:2]
        assert float(first.painted().sum()) == 30  # what was pasted over it is gone
        assert float(canvas.ground.sum()) == 0


class Known(ObjectDetection):
    """Answers are given by the test."""

    __slots__ = ()
    answers: ClassVar[list[list[float]]] = []

    def predict(self, output: Tensor, /) -> Tensor:
        return torch.tensor(self.answers)[None].expand(len(output), -1, -1)


def test_the_observer_takes_off_what_it_does_not_find_and_adds_what_it_is_sure_of() -> None:
    source = boxes_source()
    known = Known(labels=("bright", "dark"), size=(16, 16))
    problem = toy_problem(CanvasPacking(), source=replace(cast(Any, source), task=known))
    method = CanvasPacking(observer_epochs=1, relabel=0.5)
    state = method.init(problem, generator(0))
    things = [CutObject(torch.ones(1, 4, 4), torch.tensor([0.0, 0, 4, 4, c])) for c in (0.0, 1.0, 1.0)]
    canvas = Canvas(torch.zeros(1, 16, 16), torch.zeros(0, 5))
    for thing, corner in zip(things, ((0, 0), (8, 0), (0, 8)), strict=True):
        canvas = canvas.with_object(thing, corner)
    Known.answers = [
        [0.0, 0, 4, 5, 0, 0.9],  # the first, a bit larger
        [8.0, 0, 12, 4, 0, 0.8],  # at the second, of another class
        [0.0, 10, 4, 15, 1, 0.7],  # beside the third, by less than half
        [12.0, 12, 16, 16, 1, 0.6], [12.0, 11, 16, 16, 0, 0.55], [8.0, 8, 10, 10, 1, 0.4],
    ]  # fmt: skip
    answers = method._answers(problem, state, canvas)
    assert method._confidence(canvas, answers).tolist() == pytest.approx([0.9, 0, 0])
    kept = canvas.keep(method._confidence(canvas, answers) >= 0.2)
    assert kept.rows.tolist() == [[0, 0, 4, 4, 0]]
    added = method._further(kept, answers)
    assert added.tolist() == [[8, 0, 12, 4, 0], [0, 10, 4, 15, 1], [12, 12, 16, 16, 1]]
    assert len(replace(method, relabel=1.0)._further(kept, answers)) == 0


def test_pictures_hold_real_objects_and_all_boxes_are_on_the_canvas() -> None:
    x, rows = rectangles(40)
    splits = potstill.load_data((x, rows), task=ObjectDetection(labels=NAMES), test_fraction=0)
    random = potstill.distill(splits, "random", items=6, progress=None)
    made = potstill.distill(
        splits,
        CanvasPacking(observer_epochs=2, confidence=0.0, relabel=1.0, objects=6, overlap=0.0),
        items=6,
        progress=None,
    )
    splits.train.task.check_targets(made.labels)  # type: ignore[attr-defined, union-attr]
    assert made.inputs.shape == random.inputs.shape
    assert int(target_mask(made.labels).sum()) > int(target_mask(random.labels).sum())
    for picture, boxes in zip(made.inputs, list_targets(made.labels), strict=True):
        for left, top, right, bottom, c in boxes.tolist():
            middle = picture[:, int(top + bottom) // 2, int(left + right) // 2].mean()
            assert (float(middle) > 0.6) == (c == 0)
    again = potstill.distill(
        splits,
        CanvasPacking(observer_epochs=2, confidence=0.0, relabel=1.0, objects=6, overlap=0.0),
        items=6,
        progress=None,
    )
    assert torch.equal(made.inputs, again.inputs)
    assert torch.equal(made.labels, again.labels)
    blank = potstill.distill(
        splits, CanvasPacking(observer_epochs=1, confidence=0.0, relabel=1.0, canvas="blank"), items=2, progress=None
    )
    counts = count_boxes(blank.labels, 2).sum(0)
    assert float(counts.min()) >= 0.5 * float(counts.max())  # in the data a dark one is half as frequent


def test_until_the_observer_is_trained_pictures_are_real_ones_with_their_boxes() -> None:
    problem = toy_problem(CanvasPacking(), ipc=3)
    method = CanvasPacking(observer_epochs=2, objects=4)
    state = method.init(problem, generator(0))
    real = [rows.tolist() for rows in list_targets(get_targets(problem.train))]
    for step in range(method.num_steps(problem)):
        result = method.result(problem, state)
        assert isinstance(result, Synthetic)
        if step <= 2:
            assert all(rows.tolist() in real for rows in list_targets(result.labels))
        state, metrics = method.step(problem, state, generator(9))
        assert ("epoch" in metrics) == (step < 2)
    assert method.done(problem, state)


def few_dark() -> Splits:
    """Forty pictures, of which two have a dark rectangle."""
    x, rows = rectangles(40)
    rows = [r if i in (5, 21) else r[:1] for i, r in enumerate(rows)]
    return potstill.load_data((x, rows), task=ObjectDetection(labels=NAMES), test_fraction=0)


def test_balanced_boxes_hold_the_rare_class_for_any_seed() -> None:
    splits = few_dark()
    sets = [potstill.distill(splits, "balanced-boxes", items=4, seed=seed, progress=None) for seed in (0, 1)]
    for small in sets:
        assert {5, 21} <= set(small.index.tolist())
    assert not torch.equal(sets[0].index, sets[1].index)  # the others are drawn
    with pytest.raises(PotstillError, match="balanced-boxes does detection, but digits is classification"):
        potstill.distill("digits", "balanced-boxes", ipc=1, progress=None)
    with pytest.raises(PotstillError, match="at least 41 samples"):
        potstill.distill(splits, "balanced-boxes", items=41, progress=None)
    with pytest.raises(PotstillError, match="canvas-packing has no init to choose"):
        potstill.distill(splits, "canvas-packing", items=4, initial=sets[0], progress=None)
    assert float(count_boxes(pad_targets([torch.zeros(0, 5)]), 2).sum()) == 0
