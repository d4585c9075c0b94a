"""nDCG, recall and coverage of recommendations against a plain loop, and golden numbers."""

import math

import pytest
import torch

from potstill.tasks import Recommendation


def plain_ndcg(scores, met, held, top=10):
    """Return the mean of nDCG over users, item by item."""
    total = 0.0
    for row in range(len(scores)):
        order = sorted(range(len(scores[row])), key=lambda j: (-float(scores[row][j]), j))
        best = [j for j in order if not met[row][j]][:top]
        gain = sum(1 / math.log2(rank + 2) for rank, j in enumerate(best) if held[row][j])
        ideal = sum(1 / math.log2(rank + 2) for rank in range(min(top, int(held[row].sum()))))
        total += gain / ideal
    return total / len(scores)


def test_scores_equal_a_plain_loop():
    rng = torch.Generator().manual_seed(3)
    scores = torch.randint(0, 9, (25, 30), generator=rng).double()  # with ties
    parts = torch.rand(25, 30, generator=rng)
    met, held = parts < 0.4, (parts > 0.6)
    held[:, 0], met[:, 0] = True, False
    task = Recommendation(items=30)
    answers = task.answers(scores, met, held)
    assert task.score(answers, torch.zeros(25)) == pytest.approx(plain_ndcg(scores, met, held))
    chosen = answers[:, :10]
    assert not bool(met.gather(1, chosen).any())
    recall = (held.gather(1, chosen).sum(1) / held.sum(1).clamp(max=10)).double().mean()
    further = task.further_scores(answers, torch.zeros(25), None)
    assert further["recall@10"] == pytest.approx(float(recall))
    assert further["coverage"] == len(set(chosen.flatten().tolist())) / 30


def test_golden_numbers():
    task, none = Recommendation(items=12), torch.zeros(1, 12, dtype=torch.bool)
    held = none.clone()
    held[0, [2, 5]] = True
    scores = torch.arange(12, 0, -1.0)[None]
    answers = task.answers(scores, none, held)
    assert answers[0].tolist() == [*range(10), 0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 2]
    assert task.score(answers, torch.zeros(1)) == pytest.approx((0.5 + 1 / math.log2(7)) / (1 + 1 / math.log2(3)))
    best = task.answers(held.double(), none, held)
    assert task.score(best, torch.zeros(1)) == 1.0
    assert task.chance_score(torch.zeros(1)) == 0.0


def test_networks_and_few_items_are_refused():
    with pytest.raises(ValueError, match="networks do not train on rows of users"):
        Recommendation(items=12).loss(torch.zeros(1, 12), torch.zeros(1))
    few = torch.zeros(1, 9, dtype=torch.bool)
    with pytest.raises(ValueError, match="10 items are recommended, but there are 9 in all"):
        Recommendation(items=9).answers(torch.zeros(1, 9), few, few)
