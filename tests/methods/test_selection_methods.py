"""Selection methods on real digits: known properties, not only that they run."""

from dataclasses import fields, replace

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from potstill.api.distill import distill
from potstill.augment.names import named_augmentation
from potstill.core import Problem, Splits
from potstill.data import load
from potstill.errors import PotstillError
from potstill.methods.selection.herding import Herding
from potstill.methods.selection.k_center import KCenter
from potstill.methods.selection.k_means import KMeans
from potstill.methods.selection.random import Random
from potstill.methods.selection.random_soft import RandomSoft
from potstill.nn import factory
from potstill.pretraining import build_assets, training_part
from potstill.rng import derive_seed, generator
from potstill.testing import check_method, toy_problem, toy_source


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
    for c, index in enumerate(problem.class_indices):
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
            for every, part in zip(problem.class_indices, parts, strict=True)
        )

    drawn = [radius(solve(Random(), problem, seed).index) for seed in range(10)]
    assert radius(solve(KCenter(), problem).index) <= min(drawn)


def test_centroids_are_averages_and_medoids_are_samples() -> None:
    problem = toy_problem(ipc=1)
    centroids = solve(KMeans(keep="centroid"), problem)
    for c, index in enumerate(problem.class_indices):
        every = flat(problem, index)
        torch.testing.assert_close(centroids.payload["inputs"][c].flatten(), every.mean(0), rtol=1e-4, atol=1e-4)
    medoids = solve(KMeans(), problem).index
    for c, index in enumerate(problem.class_indices):
        every = flat(problem, index)
        nearest = index[(every - every.mean(0)).norm(dim=1).argmin()]
        assert int(medoids[c]) == int(nearest)


def test_centroids_of_clusters_of_features_are_averages_of_inputs() -> None:
    problem = toy_problem(ipc=2)
    found = solve(KMeans(keep="centroid", features="untrained"), problem).payload["inputs"].flatten(1)
    for c, index in enumerate(problem.class_indices):
        every, (a, b) = flat(problem, index), found[2 * c : 2 * c + 2]
        share = float((every.mean(0) - b) @ (a - b) / (a - b).square().sum())  # of the samples in the first cluster
        torch.testing.assert_close(share * a + (1 - share) * b, every.mean(0), rtol=1e-4, atol=1e-4)
        assert 0 < share < 1
        assert abs(share * len(index) - round(share * len(index))) < 1e-3
    one = solve(KMeans(keep="centroid", features="untrained"), toy_problem(ipc=1)).payload["inputs"].flatten(1)
    for c, index in enumerate(problem.class_indices):
        torch.testing.assert_close(one[c], flat(problem, index).mean(0), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("features", ["input", "trained"])
def test_centroids_of_a_table_with_categories_are_rows_that_it_can_hold(features: str) -> None:
    at = np.arange(60)
    frame = pd.DataFrame({"age": at % 7 + at / 60, "coat": np.array(["a", "b", "c"])[at % 3], "kind": at // 30})
    data = load(frame, label="kind", test_fraction=0)
    made = distill(data, "k-means", ipc=4, keep="centroid", features=features, pretrain_epochs=1, progress=None)
    coats = made.inputs[:, 1:]
    assert torch.equal(coats, (coats == 1).float())
    assert torch.equal(coats.sum(1), torch.ones(8))


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


def auto(**changes):  # type: ignore[no-untyped-def]
    settings = {"stops": (3, 60), "students": 2, "student_steps": 4, "batch": 8, "validation": 0.25, **changes}
    return RandomSoft(teacher_steps="auto", **settings)


def chosen_from(method, source, monkeypatch, wrong: int | None = None):  # type: ignore[no-untyped-def]
    """The problem with the teachers of its stops, of which ``wrong`` says the opposite of what it knows."""
    problem = replace(toy_problem(ipc=3), train=source)
    problem = replace(problem, network=factory("convnet-d1-w8", source.input, 4))
    (spec,) = method.assets(problem)
    stops, _ = build_assets([spec], source, problem.network, lambda name: named_augmentation(name, source))
    if wrong is not None:
        upside_down = {n: -p if n.startswith("classifier") else p for n, p in stops["stops"][wrong].parameters.items()}
        stops["stops"] = tuple(
            replace(s, parameters=upside_down) if i == wrong else s for i, s in enumerate(stops["stops"])
        )
    return replace(problem, assets=stops)


@pytest.fixture
def cache(tmp_path, monkeypatch):  # type: ignore[no-untyped-def]
    monkeypatch.setenv("POTSTILL_CACHE", str(tmp_path))


@pytest.mark.usefixtures("cache")
@pytest.mark.parametrize("wrong", [0, 1])
def test_random_soft_chooses_the_stop_whose_labels_teach(wrong: int, monkeypatch: pytest.MonkeyPatch) -> None:
    source = toy_source("image", per_class=40)
    method = auto(student_steps=25, lr=0.03, stops=(100, 300))
    problem = chosen_from(method, source, monkeypatch, wrong)
    assert [s.epoch for s in problem.assets["stops"]] == [7, 20]  # of 120 samples in batches of 8
    rng = generator(0)
    state = method.init(problem, rng)
    while not method.done(problem, state):
        state, _ = method.step(problem, state, rng)
    means = state.choice.scores.mean(1)
    assert means[1 - wrong] > 0.6 > 0.4 > means[wrong]
    found = method.result(problem, state)
    assert torch.equal(found.soft_labels, state.choice.rows[1 - wrong])
    truth = torch.arange(4).repeat_interleave(3)
    assert float((found.soft_labels.argmax(1) == truth).float().mean()) > 0.9


@pytest.mark.usefixtures("cache")
def test_what_a_stop_is_chosen_on_is_in_neither_teacher_nor_set_and_never_of_the_test_split(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source = toy_source("image", per_class=20)
    method = auto()
    seen: list[int] = []
    fetch = type(source).fetch
    monkeypatch.setattr(type(source), "fetch", lambda self, index: (seen.extend(index.tolist()), fetch(self, index))[1])
    problem = chosen_from(method, source, monkeypatch)
    held = set(range(80)) - set(training_part(source, 0.25).tolist())
    assert len(held) == 20
    assert not held & set(seen)
    state = method.init(problem, generator(0))
    assert set(state.choice.validation.tolist()) == held
    assert not held & set(state.index.tolist())
    assert not held & set(seen)
    for _ in range(4):
        assert not held & set(seen)
        state, _ = method.step(problem, state, generator(0))
    assert held <= set(seen)  # scored after its last update

    class Untouchable(type(source)):  # type: ignore[misc]
        def _refuse(self, *_: object) -> None:
            raise AssertionError("the test split was asked for samples")

        fetch = raw = subset = _refuse

        def to(self, device: object) -> "Untouchable":
            return self

    test = Untouchable(**{f.name: getattr(source, f.name) for f in fields(source)})
    made = distill(Splits(train=source, test=test), method, ipc=2, network="convnet-d1-w8")
    assert made.labels.shape == (8, 4)


@pytest.mark.usefixtures("cache")
def test_students_are_sgd_on_the_rows_and_start_alike_at_every_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    source = toy_source("image", per_class=20)
    method = auto(students=1, student_steps=3, batch=5, momentum=0.8, weight_decay=0.01)
    problem = chosen_from(method, source, monkeypatch)
    state = method.init(problem, generator(5))
    for stop in range(2):
        net = problem.network(derive_seed(state.seed, "student", 0)).train()
        sgd = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.8, weight_decay=0.01)
        for at in range(3):
            batch = torch.randperm(12, generator=generator(state.seed, "batch", 0, at))[:5]
            loss = torch.nn.functional.cross_entropy(
                net(source.fetch(state.index[batch]).x), state.choice.rows[stop][batch]
            )
            sgd.zero_grad()
            loss.backward()
            sgd.step()
            state, metrics = method.step(problem, state, generator(0))
            assert metrics["loss"] == pytest.approx(float(loss.detach()), rel=1e-5)
        for name, p in net.named_parameters():
            torch.testing.assert_close(state.choice.student.params[name], p.detach(), rtol=1e-4, atol=1e-6)
        expected = (
            net.eval()(source.fetch(state.choice.validation).x).argmax(1) == source.labels[state.choice.validation]
        ).float()
        assert float(state.choice.scores[stop, 0]) == pytest.approx(float(expected.mean()))
    assert method.done(problem, state)


@pytest.mark.usefixtures("cache")
def test_a_choice_survives_a_checkpoint_and_a_budget_of_time_and_its_options_are_checked() -> None:
    check_method(auto(), steps=5)
    data = Splits(train=toy_source("image", per_class=20), test=None)
    early = distill(data, auto(), ipc=2, network="convnet-d1-w8", steps=1)  # nothing scored yet: the earliest stop
    assert torch.allclose(early.labels.sum(1), torch.ones(8))
    assert distill(data, auto(), ipc=2, network="convnet-d1-w8").metadata["config"]["teacher_steps"] == "auto"
    for changes, said in (
        ({"stops": ()}, "a stop is chosen from steps above 0"),
        ({"validation": 0.0}, "validation is 0;"),
    ):
        with pytest.raises(PotstillError, match=said):
            distill(data, auto(**changes), ipc=2, network="convnet-d1-w8")
    with pytest.raises(PotstillError, match="teacher_steps must be at least 1, but it is 0"):
        distill(data, "random-soft", ipc=2, teacher_steps=0)
    with pytest.raises(PotstillError, match="16 distinct samples of every class are required"):
        distill(data, auto(), ipc=16, network="convnet-d1-w8")
