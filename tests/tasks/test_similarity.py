"""A learned similarity of pairs as targets: against loops, golden numbers, gradients, and rows that are none."""

import math

import pytest
import torch
from torch import Tensor

from potstill.rng import generator
from potstill.tasks import Retrieval
from potstill.tasks.similarity import low_rank_similarity, split_similarity, weighted_bce


def draw(*shape: int, name: str = "") -> Tensor:
    return torch.randn(*shape, generator=generator(0, "similarity", name), dtype=torch.float64)


def by_loops(logits: Tensor, similarity: Tensor) -> float:
    sums, counts = [0.0, 0.0], [1e-6, 1e-6]
    for i in range(len(logits)):
        for j in range(logits.shape[1]):
            p, s = 1 / (1 + math.exp(-float(logits[i, j]))), float(similarity[i, j])
            side = int(s > 0.5)
            sums[side] += -s * math.log(p + 1e-6) - (1 - s) * math.log(1 - p + 1e-6)
            counts[side] += 1
    return (sums[0] / counts[0] + sums[1] / counts[1]) / 2


@pytest.mark.parametrize("n", [1, 2, 7])
def test_the_loss_is_that_of_loops(n: int) -> None:
    logits, similarity = 3 * draw(n, n), torch.eye(n, dtype=torch.float64) + 0.4 * draw(n, n, name="s")
    assert float(weighted_bce(logits, similarity)) == pytest.approx(by_loops(logits, similarity), rel=1e-12)


def test_golden_numbers() -> None:
    logits = torch.tensor([[2.0, -1.0], [0.0, 1.0]], dtype=torch.float64)
    found = weighted_bce(logits, torch.eye(2, dtype=torch.float64))
    positive = (-math.log(1 / (1 + math.exp(-2))) - math.log(1 / (1 + math.exp(-1)))) / 2
    negative = (-math.log(1 - 1 / (1 + math.exp(1))) - math.log(0.5)) / 2
    assert float(found) == pytest.approx((positive + negative) / 2, abs=2e-6)
    assert float(found) == pytest.approx(0.36164, abs=1e-5)
    s = low_rank_similarity(torch.ones(2), torch.tensor([[1.0], [2.0]]), torch.tensor([[0.5], [0.0]]))
    assert s.tolist() == [[1.5, 0.0], [1.0, 1.0]]


def test_gradients_by_outputs_and_factors() -> None:
    task, rows = Retrieval(width=3), torch.cat([torch.ones(4, 1), 0.2 * draw(4, 4)], 1).requires_grad_()
    out = draw(4, 6, name="out").requires_grad_()
    assert torch.autograd.gradcheck(task.loss, (out, rows))


def test_rows_follow_their_pairs_through_batches() -> None:
    rows, at = torch.cat([torch.ones(5, 1), draw(5, 4)], 1), torch.tensor([3, 0, 4])
    whole, part = (low_rank_similarity(*split_similarity(some)) for some in (rows, rows[at]))
    torch.testing.assert_close(part, whole[at][:, at])


def test_the_identity_asks_for_the_right_pairs_alone() -> None:
    task, out = Retrieval(width=4), torch.eye(4).repeat(1, 2).double()
    rows = torch.zeros(4, 3, dtype=torch.float64)
    rows[:, 0] = 1
    assert float(task.loss(out, rows)) < float(task.loss(torch.cat([out[:, :4], out[:, 4:].flip(0)], 1), rows))
    assert task.chance_score(rows) == task.chance_score(torch.arange(4))


@pytest.mark.parametrize("width", [1, 2, 4])
def test_rows_of_another_width_are_no_similarity(width: int) -> None:
    with pytest.raises(ValueError, match="1 \\+ 2 x rank numbers"):
        Retrieval().chance_score(torch.ones(3, width))


def test_recalls_of_both_ways_by_rank_are_those_of_the_score() -> None:
    task, y = Retrieval(width=3), torch.arange(30) // 2
    answers = draw(30, 6, name="answers")
    found = task.further_scores(answers, y, None)
    assert list(found) == ["ir@1", "ir@5", "ir@10", "tr@1", "tr@5", "tr@10"] == list(task.further_metrics)
    assert task.score(answers, y) == pytest.approx((found["ir@10"] + found["tr@10"]) / 2)
    assert found["tr@1"] <= found["tr@5"] <= found["tr@10"]
    a, b = answers.chunk(2, 1)
    near = torch.nn.functional.normalize(a, dim=1) @ torch.nn.functional.normalize(b, dim=1).T
    right = [float(y[near[i].argmax()] == y[i]) for i in range(30)]
    assert found["tr@1"] == pytest.approx(sum(right) / 30)  # pictures find their texts
    back = [float(y[near[:, j].argmax()] == y[j]) for j in range(30)]
    assert found["ir@1"] == pytest.approx(sum(back) / 30)
