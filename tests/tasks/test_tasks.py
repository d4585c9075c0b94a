"""Losses and scores of tasks, against formulas written out."""

import dataclasses
import json
import math
from typing import Any

import pytest
import torch
from torch import Tensor

from potstill.core import registry
from potstill.rng import generator
from potstill.tasks import Classification, Forecast, Regression, Retrieval, Task, get_targets, get_task
from potstill.testing import toy_source

REGRESSION = Regression(targets=("price",), mean=(10.0,), std=(2.0,))
FORECAST = Forecast(variables=("a", "b"), horizon=2, mean=(1.0, -1.0), std=(2.0, 0.5))
RETRIEVAL = Retrieval(views=("image", "text"), width=3, k=1)
N = 6


def drawn(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=generator(0), dtype=torch.float64)


CASES: list[tuple[Task, Tensor]] = [
    (Classification(k=3), torch.tensor([0, 1, 2, 2, 1, 0])),
    (Classification(k=3), drawn(N, 3).softmax(1)),
    (REGRESSION, drawn(N, 1)),
    (FORECAST, drawn(N, 4)),
    (RETRIEVAL, torch.arange(N)),
]


def identity(case: Any) -> str:
    return str(case.name) if isinstance(case, Task) else ""


@pytest.mark.parametrize(("task", "y"), CASES, ids=identity)
def test_the_gradient_of_a_loss_is_that_of_its_values(task: Task, y: Tensor) -> None:
    output = drawn(N, task.outputs).requires_grad_()
    assert torch.autograd.gradcheck(lambda out: task.loss(out, y), (output,))


@pytest.mark.parametrize(("task", "y"), CASES, ids=identity)
def test_a_task_survives_json_and_is_registered(task: Task, y: Tensor) -> None:
    kept = json.loads(json.dumps(dataclasses.asdict(task)))  # type: ignore[call-overload]
    again = registry.resolve("tasks", task.name)(**{k: tuple(v) if isinstance(v, list) else v for k, v in kept.items()})
    assert again == task


@pytest.mark.parametrize("task", [REGRESSION, FORECAST], ids=identity)
def test_who_predicts_the_mean_is_the_worst_and_who_knows_makes_no_error(task: Regression | Forecast) -> None:
    y = drawn(N, task.outputs) * 3
    mean = task.predict(torch.zeros(N, task.outputs, dtype=torch.float64))
    assert task.score(mean, y) == pytest.approx(task.chance_score(y))
    assert task.score(y, y) == 0
    assert task.metric.better(task.score(y, y), task.chance_score(y))


def test_squared_error_is_of_scaled_targets() -> None:
    out, y = torch.tensor([[0.5], [0.0]]), torch.tensor([[10.0], [14.0]])
    assert float(REGRESSION.loss(out, y)) == pytest.approx((0.5**2 + 2**2) / 2)
    assert REGRESSION.score(REGRESSION.predict(out), y) == pytest.approx(math.sqrt((1 + 16) / 2))
    assert REGRESSION.fit(y) == Regression(targets=("price",), mean=(12.0,), std=(2.0,))


def test_each_variable_of_a_series_is_scaled_by_its_own_deviation() -> None:
    y = torch.tensor([[3.0, 5.0, -1.0, -0.5]])
    assert torch.equal(FORECAST.standardize(y), torch.tensor([[1.0, 2.0, 0.0, 1.0]]))
    assert float(FORECAST.loss(torch.zeros(1, 4), y)) == pytest.approx(6 / 4)


def test_recall_counts_what_is_among_the_nearest_both_ways() -> None:
    a = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1]])
    b = torch.tensor([[1.0, 0, 0], [0, 0, 1], [0, 1, 0]])  # the last two texts are of each other's pictures
    answers, y = torch.cat([a, b], 1), torch.arange(3)
    assert RETRIEVAL.recall_both_ways(answers, y) == (pytest.approx(1 / 3), pytest.approx(1 / 3))
    assert RETRIEVAL.score(answers, torch.tensor([0, 1, 1])) == 1.0  # they are one pair
    assert dataclasses.replace(RETRIEVAL, k=2).score(answers, y) == pytest.approx(1 / 3)  # equally near ones come first
    assert dataclasses.replace(RETRIEVAL, k=3).score(answers, y) == 1.0


def test_equal_embeddings_find_nothing() -> None:
    assert RETRIEVAL.score(torch.ones(5, 6), torch.arange(5)) == 0.0


def test_the_loss_of_pairs_is_the_cross_entropy_of_their_places() -> None:
    out, y = drawn(4, 6), torch.arange(4)
    a, b = (torch.nn.functional.normalize(v, dim=1) for v in out.split(3, 1))
    likely = a @ b.T / 0.07
    by_hand = -(likely.diag() - likely.logsumexp(1)).mean() / 2 - (likely.diag() - likely.logsumexp(0)).mean() / 2
    assert float(RETRIEVAL.loss(out, y)) == pytest.approx(float(by_hand))


def test_a_source_that_says_no_task_has_classes() -> None:
    source = toy_source("image")
    assert get_task(source) == Classification(k=len(source.classes))
    assert get_targets(source) is source.labels


def captioned(n: int = 5, of_each: int = 4) -> tuple[Tensor, Tensor]:
    """Embeddings of pictures with several captions each, of which all but the first lie nearest to another picture."""
    own = torch.eye(n, dtype=torch.float64)
    pictures, y = own.repeat_interleave(of_each, 0), torch.arange(n).repeat_interleave(of_each)
    texts = own.roll(1, 0).repeat_interleave(of_each, 0)
    texts[::of_each] = own
    return torch.cat([pictures, texts], 1), y


def test_all_captions_of_a_picture_are_right_and_a_picture_is_searched_once() -> None:
    task = Retrieval(width=5, k=1)
    answers, y = captioned()
    # Each picture's nearest captions are its own first and three of the picture before: equally near ones count last.
    assert task.recall_both_ways(answers, y) == (0.0, 0.25)
    assert Retrieval(width=5, k=4).recall_both_ways(answers, y)[0] == 1.0
    # A caption that ranks its picture second: with its copies in the gallery, four of the wrong one stood before it.
    answers[1:4, 5:] = torch.tensor([0.9, 1.0, 0, 0, 0], dtype=torch.float64)
    assert Retrieval(width=5, k=2).recall_both_ways(answers, y)[1] == pytest.approx((5 + 3) / 20)


def test_the_loss_takes_all_captions_of_the_picture_for_right() -> None:
    task = Retrieval(width=5, temperature=1.0)
    output, y = torch.cat([drawn(20, 5), drawn(20, 5).flip(0)], 1), captioned()[1]
    a, b = (torch.nn.functional.normalize(v, dim=1) for v in output.split(5, 1))
    likely = (a @ b.T).log_softmax(1), (b @ a.T).log_softmax(1)
    naive = [-float(way[i, y == y[i]].mean()) for way in likely for i in range(20)]
    assert float(task.loss(output, y)) == pytest.approx(sum(naive) / len(naive))


def test_chance_counts_the_captions_and_the_pictures() -> None:
    task = Retrieval(k=3)
    y = torch.tensor([0, 0, 1, 1, 1, 2, 3])
    rng = generator(1)
    found = []
    for _ in range(4000):
        order = torch.randperm(7, generator=rng)[:3]
        found.append([bool((y[order] == i).any()) for i in range(4)])
    by_picture = float(torch.tensor(found).double().mean())
    assert task.chance_score(y) == pytest.approx((by_picture + 3 / 4) / 2, abs=0.01)
    assert task.chance_score(torch.arange(7)) == 3 / 7
