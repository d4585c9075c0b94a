"""Selection by geometry on toy data: duplicates, features of a trained network, shares of classes, prefixes."""

from dataclasses import replace

import pytest
import torch

from potstill.core import Problem
from potstill.core.registry import make_method, names, resolve
from potstill.data import TensorSource
from potstill.errors import PotstillError
from potstill.functional.coreset import herding
from potstill.functional.sampling import proportional_allocation
from potstill.methods.selection import _features
from potstill.methods.selection._by_class import FeatureSelection
from potstill.methods.selection._features import class_features, read_class
from potstill.methods.selection.contextual_diversity import ContextualDiversity
from potstill.methods.selection.facility_location import FacilityLocation
from potstill.methods.selection.graph_cut import GraphCut
from potstill.methods.selection.herding import Herding
from potstill.methods.selection.k_center import KCenter
from potstill.methods.selection.k_means import KMeans
from potstill.methods.selection.k_median import KMedian
from potstill.methods.selection.knn_graph import KNNGraph
from potstill.methods.selection.moderate import Moderate
from potstill.methods.selection.stratified import Stratified
from potstill.methods.selection.zcore import ZCore
from potstill.rng import generator
from potstill.testing import toy_problem

GEOMETRY = (
    Herding(), KCenter(), KMeans(), KMedian(), KNNGraph(), FacilityLocation(), GraphCut(), Moderate(features="input"),
    ZCore(samples=50), FacilityLocation(neighbours=4), FacilityLocation(greedy="stochastic"),
)  # fmt: skip


def solve(method, problem: Problem, seed: int = 0):  # type: ignore[no-untyped-def]
    rng = generator(seed)
    state, metrics = method.init(problem, rng), {}
    while not method.done(problem, state):
        state, metrics = method.step(problem, state, rng)
    return method.result(problem, state), metrics


def with_repeats(problem: Problem, distinct: int) -> Problem:
    """Every class of the problem's source has ``distinct`` different samples, over and over."""
    index = torch.cat([i[torch.arange(len(i)) % distinct] for i in problem.class_indices])
    x, y = problem.train.raw(index), problem.train.labels[index]
    assert isinstance(x, torch.Tensor)
    inputs = (x * 255).round().to(torch.uint8)
    source = TensorSource.make(inputs, y, classes=problem.train.classes, name="repeats", kind="image")
    return replace(problem, train=source)


@pytest.mark.parametrize("method", [*GEOMETRY, Stratified()], ids=lambda m: type(m).__name__)
def test_equal_samples_are_counted_and_chosen_only_where_no_others_are_left(method) -> None:  # type: ignore[no-untyped-def]
    problem = with_repeats(toy_problem(ipc=5), distinct=5)
    found, metrics = solve(method, problem)
    assert metrics["duplicates"] == 4 * 7
    for chosen in found.index.split(5):
        x = problem.train.raw(chosen)
        assert len(x.flatten(1).unique(dim=0)) == 5
    found, _ = solve(method, replace(problem, counts=(7,) * 4))
    for chosen in found.index.split(7):
        assert len(set(chosen.tolist())) == 7
        assert len(problem.train.raw(chosen).flatten(1).unique(dim=0)) == 5


def test_near_duplicates_are_said() -> None:
    problem = toy_problem()
    x = problem.train.raw(torch.arange(48))
    assert isinstance(x, torch.Tensor)
    inputs = (x * 255).round().to(torch.uint8)
    inputs[1] = inputs[0]
    inputs[1, 0, 0, 0] += 1  # another picture, but hardly
    source = TensorSource.make(inputs, problem.train.labels, classes=problem.train.classes, name="near", kind="image")
    _, metrics = solve(Herding(), replace(problem, train=source))
    assert (metrics["duplicates"], metrics["near duplicates"]) == (0.0, 2.0)


@pytest.mark.parametrize("method", GEOMETRY, ids=lambda m: type(m).__name__)
def test_a_smaller_budget_is_a_prefix_where_the_mathematics_allows(method) -> None:  # type: ignore[no-untyped-def]
    large, small = (solve(method, toy_problem(ipc=ipc))[0].index for ipc in (6, 3))
    heads = torch.cat([part[:3] for part in large.split(6)])
    whole = isinstance(method, KMeans | KMedian) or getattr(method, "greedy", "lazy") == "stochastic"
    # a class's draws follow those of the classes before it
    assert whole or torch.equal(heads, small)


def test_trained_features_are_the_embedding_of_the_trained_network() -> None:
    method = Herding(features="trained", pretrain_epochs=1)
    problem = toy_problem(method)
    (made,) = problem.assets["networks"]
    net = problem.network(made.seed)
    net.load_state_dict({**made.parameters, **made.buffers})
    index = problem.class_indices[2]
    with torch.no_grad():
        expected = net.eval().embed(problem.train.fetch(index).x)
    torch.testing.assert_close(class_features(problem, index, "trained", 0), expected)
    assert solve(method, problem)[0].index[4:6].tolist() == index[herding(expected, 2)].tolist()
    assert not torch.equal(expected, class_features(problem, index, "untrained", made.seed))
    with pytest.raises(PotstillError, match="has none in assets"):
        solve(method, toy_problem())


def test_contextual_diversity_compares_predictions_and_refuses_inputs() -> None:
    method = ContextualDiversity(pretrain_epochs=1)
    problem = toy_problem(method)
    rows = read_class(problem, problem.class_indices[0], "trained", 0, "log-probabilities").rows
    torch.testing.assert_close(rows.exp().sum(1), torch.ones(12))
    assert len(solve(method, problem)[0].index) == 8
    with pytest.raises(PotstillError, match="compares a network's predictions"):
        ContextualDiversity(features="input").init(problem, generator(0))


def test_features_in_a_mapped_file_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = toy_problem()
    in_memory = class_features(problem, problem.class_indices[0], "input", 0)
    monkeypatch.setattr(_features, "IN_MEMORY", 0)
    monkeypatch.setattr(_features, "CHUNK", 5)
    assert torch.equal(class_features(problem, problem.class_indices[0], "input", 0), in_memory)


def test_every_class_wise_method_can_take_any_features() -> None:
    kinds = [resolve("methods", name) for name in names("methods")]
    class_wise = [kind for kind in kinds if issubclass(kind, FeatureSelection | KMeans)]
    assert len(class_wise) >= 10
    for kind in class_wise:
        assert make_method(kind(), {"features": "trained", "pretrain_epochs": 3})[1].features == "trained"


def test_stratified_follows_the_sizes_of_classes() -> None:
    problem = toy_problem(ipc=3)
    index = torch.cat([i[:n] for i, n in zip(problem.class_indices, (12, 6, 3, 1), strict=True)])
    x = (problem.train.raw(index) * 255).round().to(torch.uint8)  # type: ignore[operator]
    y = problem.train.labels[index]
    source = TensorSource.make(x, y, classes=problem.train.classes, name="uneven", kind="image")
    problem = replace(problem, train=source)
    found, _ = solve(Stratified(), problem)
    assert torch.bincount(source.labels[found.index]).tolist() == [6, 3, 2, 1]
    assert bool((source.labels[found.index].diff() >= 0).all())
    with pytest.raises(PotstillError, match="at least 3 samples of every class"):
        solve(Stratified(shares="equal"), problem)


def test_shares_are_the_largest_remainders() -> None:
    assert proportional_allocation((50, 30, 20), 10) == (5, 3, 2)
    assert proportional_allocation((1, 1, 1), 3) == (1, 1, 1)
    assert proportional_allocation((1000, 1, 1), 10) == (8, 1, 1)
    assert proportional_allocation((4, 4, 4), 5) == (2, 2, 1)
    assert proportional_allocation((2, 100), 102) == (2, 100)
    assert proportional_allocation((0, 5), 3) == (0, 3)
    for sizes in ((3, 17, 91, 400), (7, 7, 7), (1, 2, 3, 4, 5)):
        for total in range(len(sizes), sum(sizes) + 1):
            shares = proportional_allocation(sizes, total)
            assert sum(shares) == total
            assert all(1 <= c <= s for c, s in zip(shares, sizes, strict=True))
            assert all(
                abs(c - total * s / sum(sizes)) < 1 or c == 1 or 1 in shares for c, s in zip(shares, sizes, strict=True)
            )
    with pytest.raises(PotstillError, match="2 to 7 items"):
        proportional_allocation((3, 4), 1)


@pytest.mark.parametrize("method", GEOMETRY, ids=lambda m: type(m).__name__)
def test_the_generator_decides(method) -> None:  # type: ignore[no-untyped-def]
    problem = toy_problem(ipc=3)
    assert torch.equal(solve(method, problem, 3)[0].index, solve(method, problem, 3)[0].index)
