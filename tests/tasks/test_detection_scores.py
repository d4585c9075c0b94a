"""Boxes as targets: AP against a loop and pycocotools, the loss against a loop, and boxes that move."""

import contextlib
import io
import math
from typing import Any

import pytest
import torch
from torch import Tensor

from potstill.augment.crop import Crops
from potstill.augment.geometry import fit_to_task
from potstill.augment.siamese import Siamese
from potstill.core import TargetMovingAugmentation
from potstill.rng import generator
from potstill.tasks import (
    Movement,
    ObjectDetection,
    average_precision,
    box_overlaps,
    count_boxes,
    list_targets,
    pad_targets,
    target_mask,
)

SIZE = (20, 30)
TASK = ObjectDetection(labels=("cat", "dog", "cow"), size=SIZE)
OVERLAPS = [0.5 + 0.05 * i for i in range(10)]


def boxes_of(m: int, rng: torch.Generator) -> Tensor:
    """Return boxes of cats and dogs; none is a cow."""
    corner = torch.rand(m, 2, generator=rng) * torch.tensor([20.0, 12.0])
    sides = 3 + torch.rand(m, 2, generator=rng) * 5
    return torch.cat([corner, corner + sides, torch.randint(0, 2, (m, 1), generator=rng).float()], 1)


def drawn(seed: int, n: int = 12) -> tuple[Tensor, Tensor]:
    """Return answers and boxes: some answers are near a box, others anywhere; scores are often equal."""
    rng = generator(seed, "boxes")
    truth = [boxes_of(int(torch.randint(0, 5, (), generator=rng)), rng) for _ in range(n)]
    answers = []
    for real in truth:
        near = torch.cat([real[:, :4] + torch.randn(len(real), 4, generator=rng) * 0.7, real[:, 4:]], 1)
        some = torch.cat([near, near, boxes_of(3, rng)])
        score = torch.randint(0, 6, (len(some), 1), generator=rng) / 5
        answers.append(torch.cat([some, score], 1))
    return pad_targets(answers), pad_targets(truth)


def naive_overlap(a: list[float], b: list[float]) -> float:
    w, h = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    both = max(w, 0.0) * max(h, 0.0)
    areas = [(c[2] - c[0]) * (c[3] - c[1]) for c in (a, b)]
    return both / (sum(areas) - both)


def naive_ap(answers: Tensor, y: Tensor, c: int, least: float) -> float:
    """Return the average precision of a class, as COCO's text says it."""
    listed = []
    truth = [[row for row in real.tolist() if row[4] == c] for real in list_targets(y)]
    total = sum(map(len, truth))
    for i, rows in enumerate(list_targets(answers)):
        mine = [row for row in rows.tolist() if row[4] == c and row[5] > 0]
        taken: set[int] = set()
        for row in sorted(mine, key=lambda r: -r[5]):
            best, at = least, None
            for j, real in enumerate(truth[i]):
                if j not in taken and naive_overlap(row, real) >= best:
                    best, at = naive_overlap(row, real), j
            if at is not None:
                taken.add(at)
            listed.append((row[5], at is not None))
    if not total:
        return math.nan
    points, right = [], 0
    for n, (_, hit) in enumerate(sorted(listed, key=lambda pair: -pair[0]), 1):
        right += hit
        points.append((right / total, right / n))
    return sum(max((p for r, p in points if r >= t / 100 - 1e-12), default=0.0) for t in range(101)) / 101


@pytest.mark.parametrize("seed", range(4))
def test_average_precision_is_that_of_a_loop(seed: int) -> None:
    answers, y = drawn(seed)
    found = average_precision(answers, y, 3, OVERLAPS)
    assert found.shape == (10, 3)
    for t, least in ((0, 0.5), (5, 0.75)):
        naive = [naive_ap(answers, y, c, least) for c in range(3)]
        assert found[t, :2].tolist() == pytest.approx(naive[:2], abs=1e-9)
        assert math.isnan(naive[2])
        assert math.isnan(float(found[t, 2]))
    assert TASK.score(answers, y) == pytest.approx(float(found[0, :2].mean()))


@pytest.mark.parametrize("seed", range(3))
def test_average_precision_is_that_of_pycocotools(seed: int) -> None:
    coco = pytest.importorskip("pycocotools.coco")
    judging = pytest.importorskip("pycocotools.cocoeval")
    answers, y = drawn(seed, 30)

    def as_box(row: list[float]) -> list[float]:
        return [row[0], row[1], row[2] - row[0], row[3] - row[1]]

    truth: dict[str, Any] = {
        "info": {}, "images": [{"id": i} for i in range(len(y))], "categories": [{"id": c} for c in range(3)],
        "annotations": [
            {"image_id": i, "category_id": int(row[4]), "bbox": as_box(row), "area": as_box(row)[2] * as_box(row)[3],
             "iscrowd": 0}
            for i, rows in enumerate(list_targets(y)) for row in rows.tolist()
        ],
    }  # fmt: skip
    for n, annotation in enumerate(truth["annotations"], 1):
        annotation["id"] = n
    said = [
        {"image_id": i, "category_id": int(row[4]), "bbox": as_box(row), "score": row[5]}
        for i, rows in enumerate(list_targets(answers)) for row in rows.tolist() if row[5] > 0
    ]  # fmt: skip
    with contextlib.redirect_stdout(io.StringIO()):
        data = coco.COCO()
        data.dataset = truth
        data.createIndex()
        judge = judging.COCOeval(data, data.loadRes(said), "bbox")
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    assert TASK.score(answers, y) == pytest.approx(judge.stats[1], abs=1e-6)
    further = TASK.further_scores(answers, y, None)
    assert further["AP"] == pytest.approx(judge.stats[0], abs=1e-6)
    assert set(further) == {"AP", "AP50 cat", "AP50 dog"}
    assert set(further) <= set(TASK.further_metrics)
    each = judge.eval["precision"][0, :, :, 0, 2].mean(0)
    assert [further["AP50 cat"], further["AP50 dog"]] == pytest.approx(each[:2].tolist(), abs=1e-6)


def test_a_golden_score_and_scores_of_nothing() -> None:
    y = pad_targets([torch.tensor([[0.0, 0, 10, 10, 0], [10, 0, 20, 10, 0]]), torch.zeros(0, 5)])
    hit, miss = [0.0, 0, 10, 9, 0, 0.9], [0.0, 10, 5, 20, 0, 0.95]
    answers = pad_targets([torch.tensor([hit, hit]), torch.tensor([miss])])
    # a miss, then a hit at recall 1/2: precision 1/2 up to recall 0.5, which are 51 of 101
    assert TASK.score(answers, y) == pytest.approx(0.5 * 51 / 101)
    assert TASK.score(answers[:, :0], y) == 0.0
    assert TASK.score(answers, pad_targets([torch.zeros(0, 5)] * 2)) == 0.0
    assert float(box_overlaps(torch.tensor([[0.0, 0, 2, 2]]), torch.tensor([[1.0, 0, 3, 2]]))) == pytest.approx(1 / 3)
    assert TASK.chance_score(y) == 0.0
    assert TASK.chance_score(pad_targets([torch.tensor([[0.0, 0, 30, 18, 1]])])) == 1.0
    assert count_boxes(y, 3).tolist() == [[2, 0, 0], [0, 0, 0]]


def naive_loss(output: Tensor, y: Tensor) -> float:
    (h, w), (r, s) = SIZE, output.shape[2:]
    total, count = 0.0, 0
    for i, rows in enumerate(list_targets(y)):
        heat = torch.zeros(3, r, s, dtype=torch.float64)
        for left, top, right, bottom, c in rows.tolist():
            x, down = (left + right) / 2 * s / w, (top + bottom) / 2 * r / h
            a, b = int(down), int(x)
            u, v = torch.arange(r)[:, None] - a, torch.arange(s)[None] - b
            su, sv = max((bottom - top) * r / h, 1) / 6, max((right - left) * s / w, 1) / 6
            heat[int(c)] = torch.maximum(heat[int(c)], torch.exp(-(u**2) / (2 * su**2) - v**2 / (2 * sv**2)).double())
            said = output[i, 3:, a, b].tolist()
            real = [4 * (right - left) / w, 4 * (bottom - top) / h, x - b, down - a]
            total += sum(abs(p - q) for p, q in zip(said, real, strict=True))
            count += 1
        for c in range(3):
            for a in range(r):
                for b in range(s):
                    p, goal = float((output[i, c, a, b] - 2.2).sigmoid()), float(heat[c, a, b])
                    total -= (1 - p) ** 2 * math.log(p) if goal == 1 else (1 - goal) ** 4 * p**2 * math.log(1 - p)
    return total / max(count, 1)


def test_the_loss_is_that_of_a_loop_over_cells() -> None:
    _, y = drawn(0, 4)
    output = torch.randn(4, 7, 5, 8, generator=generator(1, "map"), dtype=torch.float64)
    assert float(TASK.loss(output, y)) == pytest.approx(naive_loss(output, y), rel=1e-5)
    nothing = pad_targets([torch.zeros(0, 5)] * 2)
    assert float(TASK.loss(output[:2], nothing)) == pytest.approx(naive_loss(output[:2], nothing), rel=1e-5)
    stacked = torch.func.vmap(TASK.loss)(output[None].expand(2, -1, -1, -1, -1), y[None].expand(2, -1, -1, -1))
    torch.testing.assert_close(stacked, TASK.loss(output, y).expand(2))


def test_a_map_of_the_boxes_is_answered_by_the_boxes() -> None:
    """Any map that has a logit at the centres and the right sides beside it is read back, at any size of the map."""
    y = pad_targets([torch.tensor([[2.0, 3, 8, 9, 1], [15, 10, 29, 19, 0]]), torch.tensor([[0.0, 0, 30, 20, 2]])])
    for r, s in ((5, 8), (20, 30), (7, 7)):
        made = TASK._centres(y, (r, s))
        output = torch.zeros(2, 7, r * s)
        output[:, :3] = torch.logit(made.heat.clamp(1e-4, 0.99)) + 2.2
        output[:, 3:].scatter_(2, made.cell[:, None].expand(-1, 4, -1), made.values)
        answers = TASK.predict(output.reshape(2, 7, r, s))
        for i, real in enumerate(list_targets(y)):
            sure = answers[i][answers[i, :, 5] > 0.9]
            torch.testing.assert_close(sure[sure[:, 0].argsort(), :5], real[real[:, 0].argsort()], atol=1e-4, rtol=0)
        assert TASK.score(answers, y) == pytest.approx(1.0)


def test_boxes_move_with_the_pixels_of_their_pictures() -> None:
    """Each box is bright, so that the moved picture shows where it went."""
    rows = [torch.tensor([[4.0, 5, 12, 11, 1]]), torch.tensor([[18.0, 2, 27, 16, 0]])] * 20
    x = torch.zeros(40, 1, *SIZE)
    for picture, real in zip(x, rows, strict=True):
        left, top, right, bottom = (int(v) for v in real[0, :4])
        picture[0, top:bottom, left:right] = 1
    for augment in (Siamese(strategy=("flip",)), Crops(), Siamese(strategy=("scale",)), Siamese(strategy=("crop",))):
        fitted, dropped = fit_to_task(augment, TASK, moves_targets=True)
        assert (fitted, dropped) == (augment, ())
        assert isinstance(fitted, TargetMovingAugmentation)
        params = fitted.draw(40, (1, *SIZE), generator(3, "moves"))
        moved = TASK.move_targets(pad_targets(rows), fitted.movement(params, (1, *SIZE)))
        pictures, stayed, changed = fitted.apply(x, params), 0, 0
        for i, present in enumerate(target_mask(moved)[:, 0].tolist()):
            if not present:
                continue
            stayed += 1
            changed += not torch.equal(moved[i], rows[i])
            down, across = (pictures[i, 0] > 0.5).nonzero().unbind(1)
            seen = torch.stack([across.min(), down.min(), across.max() + 1, down.max() + 1]).float()
            torch.testing.assert_close(moved[i, 0, :4], seen, atol=1.0, rtol=0)
            assert moved[i, 0, 4] == rows[i][0, 4]
        assert stayed > 15
        assert changed > 10


def test_what_boxes_cannot_follow_is_left_out_and_boxes_that_left_are_padding() -> None:
    fitted, dropped = fit_to_task(Crops(patches=2), TASK, moves_targets=True)
    assert dropped == ("shuffle",)
    assert fitted == Crops(patches=1)
    far = torch.eye(3, dtype=torch.float64)[None].clone()
    far[0, 0, 2] = 1.2  # what was at the right is now at the middle
    movement = Movement(maps=lambda x: x, matrix=far, size=SIZE)
    y = pad_targets([torch.tensor([[1.0, 1, 9, 9, 0], [22, 2, 30, 10, 1]])])
    moved = TASK.move_targets(y, movement)
    assert target_mask(moved).tolist() == [[False, True]]
    torch.testing.assert_close(moved[0, 1], torch.tensor([4.0, 2, 12, 10, 1]))
    shuffled = Movement(maps=lambda x: x, matrix=None, size=SIZE)
    with pytest.raises(ValueError, match="patches change places"):
        TASK.move_targets(y, shuffled)


@pytest.mark.parametrize(
    "row",
    [[-1.0, 0, 5, 5, 0], [0, 0, 31, 5, 0], [5, 0, 5, 5, 0], [0, 0, 5, 5, 3], [0, 0, 5, 5, 0.5], [0, math.nan, 5, 5, 0]],
)  # fmt: skip
def test_rows_that_are_no_boxes_are_refused(row: list[float]) -> None:
    TASK.check_targets(pad_targets([torch.tensor([[0.0, 0, 30, 20, 2]])]))
    with pytest.raises(ValueError, match="within 20 × 30 pixels"):
        TASK.check_targets(pad_targets([torch.tensor([[0.0, 0, 30, 20, 2], row])]))
    with pytest.raises(ValueError, match="rows"):
        TASK.check_targets(torch.zeros(2, 5))
