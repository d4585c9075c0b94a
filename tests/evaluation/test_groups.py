"""Scores on groups of test samples."""

from dataclasses import replace

import pytest
import torch

import potstill
from potstill.core import Splits
from potstill.evaluation import evaluate
from potstill.evaluation.protocols import DSA
from potstill.tasks import Classification


def test_the_scorecard_has_a_score_of_each_group_and_of_the_worst(pictures: Splits) -> None:
    test = pictures.test
    assert test is not None
    groups = torch.arange(len(test)) % 3
    grouped = replace(pictures, test=replace(test, groups=groups))  # type: ignore[type-var]
    small = potstill.distill(pictures, "random", ipc=1, network="convnet-d1-w4", progress=None)
    protocol = DSA.override(epochs=2)
    card = evaluate(small, grouped, protocol=protocol, seeds=2, baselines=False, full=False).content
    plain = evaluate(small, pictures, protocol=protocol, seeds=2, baselines=False, full=False).content
    assert card["score"] == plain["score"]
    assert "per_group" not in plain
    assert [row["group"] for row in card["per_group"]] == [0, 1, 2]
    mean = sum(row["mean"] * row["n"] for row in card["per_group"]) / len(test)
    assert mean == pytest.approx(card["score"]["mean"])
    worst = card["metrics"]["worst_group_accuracy"]
    assert worst["metric"] == "accuracy"
    assert worst["mean"] <= min(row["mean"] for row in card["per_group"]) + 1e-9


def test_the_worst_group_is_the_one_with_the_lowest_accuracy() -> None:
    task, y = Classification(k=2), torch.tensor([0, 0, 1, 1])
    answers, groups = torch.tensor([0, 1, 1, 1]), torch.tensor([5, 5, 7, 7])
    assert task.further_scores(answers, y, groups) == {"worst_group_accuracy": 0.5}
    assert task.further_scores(answers, y, None) == {}
