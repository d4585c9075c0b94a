"""Selection methods on real digits: known properties, not only that they run."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from potstill.api import distill
from potstill.core import Problem
from potstill.data import load
from potstill.errors import PotstillError
from potstill.methods.selection.herding import Herding
from potstill.methods.selection.k_center import KCenter
from potstill.methods.selection.k_means import KMeans
from potstill.methods.selection.random import Random
from potstill.rng import generator
from potstill.testing import toy_problem


def solve(method, problem: Problem, seed: int = 0):  # type: ignore[no-untyped-def]
    rng = generator(seed)
    state = method.init(problem, rng)
    while not method.done(problem, state):
        state, _ = method.step(problem, state, rng)
    return method.result(problem, state)


def flat(problem: Problem, index: Tensor) -> Tensor:
    x = problem.train.fetch(index).x
    assert isinstance(x, Tensor)
    return x.flatten(1)


def test_herding_keeps_the_mean_nearer_than_random_does() -> None:
    source = load("digits").train
    problem = replace(toy_problem(), train=source, counts=(10,) * 10)
    herded, drawn = solve(Herding(), problem), [solve(Random(), problem, seed) for seed in range(20)]
    for c, index in enumerate(problem.by_class):
        mean = flat(problem, index).mean(0)

        def gap(chosen: Tensor, mean: Tensor = mean, c: int = c) -> float:
            return float((mean - flat(problem, chosen[10 * c : 10 * c + 10]).mean(0)).norm())

        assert gap(herded.index) < 0.5 * sum(gap(r.index) for r in drawn) / len(drawn)


def test_k_center_leaves_nothing_as_far_away_as_random_does() -> None:
    problem = toy_problem(ipc=4)

    def radius(index: Tensor) -> float:
        parts = index.split(4)
        return max(
            float(torch.cdist(flat(problem, every), flat(problem, part)).min(1).values.max())
            for every, part in zip(problem.by_class, parts, strict=True)
        )

    drawn = [radius(solve(Random(), problem, seed).index) for seed in range(10)]
    assert radius(solve(KCenter(), problem).index) <= min(drawn)


def test_centroids_are_averages_and_medoids_are_samples() -> None:
    problem = toy_problem(ipc=1)
    centroids = solve(KMeans(keep="centroid"), problem)
    for c, index in enumerate(problem.by_class):
        every = flat(problem, index)
        torch.testing.assert_close(centroids.payload["inputs"][c].flatten(), every.mean(0), rtol=1e-4, atol=1e-4)
    medoids = solve(KMeans(), problem).index
    for c, index in enumerate(problem.by_class):
        every = flat(problem, index)
        nearest = index[(every - every.mean(0)).norm(dim=1).argmin()]
        assert int(medoids[c]) == int(nearest)


@pytest.mark.parametrize("name", ["random", "herding", "k-center", "k-means", "random-soft"])
def test_too_few_samples_in_a_class_is_said_with_its_name(name: str) -> None:
    x, y = torch.rand(30, 1, 8, 8), torch.tensor([0] * 20 + [1] * 10)
    with pytest.raises(PotstillError, match=r"at least 9 samples of every class.*'1'.*has 8"):
        distill(load((x.numpy(), y.numpy()), seed=0), name, ipc=9)


def test_random_soft_labels_are_uncertain_and_mostly_right() -> None:
    made = distill(load("digits"), "random-soft", ipc=20, network="convnet-d1-w16", teacher_steps=60, seed=1)
    assert made.labels.shape == (200, 10)
    truth = torch.arange(10).repeat_interleave(20)
    assert float((made.labels.argmax(1) == truth).float().mean()) > 0.6
    assert 0.3 < float(made.labels.max(1).values.mean()) < 0.999
