"""The mechanism: sensitivity of released sums, noise and its source, composition, and the budget that is kept."""

import math
import sys

import pytest
import torch
from scipy.stats import kstest, norm
from torch import Tensor

from potstill.errors import PotstillError
from potstill.private import door as door_module
from potstill.private.accounting import Query, calibrate, composed_epsilon
from potstill.private.cells import COUNT, find_cells, low_resolution, noisy_means, unit_rows
from potstill.private.door import PrivateDoor
from potstill.private.features import label_features, moment_features
from potstill.private.labeller import learning_rate
from potstill.private.noise import gaussian_noise
from potstill.private.options import PrivateOptions, parse_private
from potstill.private.release import SPLIT, plan_queries
from potstill.testing import toy_source


def silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door_module, "gaussian_noise", lambda shape, generator=None: torch.zeros(shape).double())


def opened(x: Tensor, y: Tensor, **queries: int) -> PrivateDoor:
    planned = [Query(name=name, noise=1.0, times=times) for name, times in queries.items()]
    return PrivateDoor(lambda at: x[at], y, planned, torch.Generator().manual_seed(0))


def delta_of(noise: float, epsilon: float) -> float:
    """δ of one Gaussian mechanism in closed form (Balle and Wang 2018)."""
    return norm.cdf(0.5 / noise - epsilon * noise) - math.exp(epsilon) * norm.cdf(-0.5 / noise - epsilon * noise)


def test_epsilon_of_one_gaussian_is_that_of_its_closed_form():
    epsilon = composed_epsilon((Query(name="q", noise=3.73),), 1e-5)
    assert delta_of(3.73, epsilon) <= 1e-5  # the accountant rounds upwards …
    assert delta_of(3.73, epsilon * 0.999) > 1e-5  # … by little
    assert epsilon == pytest.approx(1.0000, abs=2e-3)


def test_gaussian_mechanisms_compose_to_one():
    many = (Query(name="a", noise=10.0, times=7), Query(name="b", noise=4.0))
    one = 1 / math.sqrt(7 / 10**2 + 1 / 4**2)
    assert composed_epsilon(many, 1e-5) == pytest.approx(
        composed_epsilon((Query(name="q", noise=one),), 1e-5), rel=3e-3
    )


@pytest.mark.parametrize("epsilon", [0.2, 1.0, 8.0])
def test_the_plan_is_within_its_epsilon_and_hardly_below(epsilon: float):
    options = PrivateOptions(epsilon=epsilon, delta=1e-5, labeller=0.5, steps=10)
    queries = plan_queries(options)
    found = composed_epsilon(queries, 1e-5)
    assert 0.995 * epsilon < found <= epsilon
    cost = {q.name: q.times / q.noise**2 for q in queries}
    total = sum(cost.values())
    assert cost["labeller"] + cost["labeller mean"] == pytest.approx(0.5 * total)
    assert cost["pictures"] == pytest.approx(0.5 * SPLIT["pictures"] * total)


def test_less_noise_than_the_plan_is_more_than_epsilon():
    queries = calibrate({"a": (0.5, 3), "b": (0.5, 1)}, 1.0, 1e-5)
    weaker = tuple(Query(name=q.name, noise=0.99 * q.noise, times=q.times) for q in queries)
    assert composed_epsilon(weaker, 1e-5) > 1.0


def test_one_record_changes_released_sums_by_one_at_most(monkeypatch: pytest.MonkeyPatch):
    silent(monkeypatch)
    x = 50 * torch.randn(30, 6, generator=torch.Generator().manual_seed(1))
    y = torch.arange(30) % 3

    def sums(x: Tensor, y: Tensor) -> Tensor:
        return opened(x, y, q=1).noisy_sums("q", lambda x, y: (x, y), 3)

    def products(x: Tensor, y: Tensor) -> Tensor:
        return opened(x, y, q=1).noisy_products("q", lambda x: x, lambda z, y: torch.eye(3)[y] * 5)

    for release in (sums, products):
        whole = release(x, y)
        for i in (0, 7, 29):
            rest = torch.arange(30) != i
            change = float((whole - release(x[rest], y[rest])).norm())
            assert change == pytest.approx(1.0, abs=1e-5)  # they are all longer than 1


def test_released_sums_are_those_of_short_vectors(monkeypatch: pytest.MonkeyPatch):
    silent(monkeypatch)
    x, y = torch.rand(5000, 4) / 4, torch.randint(3, (5000,))  # over several chunks
    found = opened(x, y, q=1).noisy_sums("q", lambda x, y: (x, y), 3)
    assert torch.allclose(found, torch.stack([x[y == c].sum(0) for c in range(3)]), rtol=1e-4)
    rows = torch.eye(3)[y]
    found = opened(x, y, q=1).noisy_products("q", lambda x: x, lambda z, y: torch.eye(3)[y])
    assert torch.allclose(found, x.T @ rows, rtol=1e-4)


def test_noise_has_the_standard_deviation_of_its_query():
    x, y = torch.zeros(4, 20_000), torch.zeros(4, dtype=torch.int64)
    door = PrivateDoor(lambda at: x[at], y, [Query(name="q", noise=3.0)])
    noise = door.noisy_sums("q", lambda x, y: (x, y), 1)
    assert float(noise.std()) == pytest.approx(3.0, rel=0.03)


def test_noise_is_normal_and_of_the_operating_system():
    drawn = gaussian_noise((20_001,))
    assert drawn.dtype == torch.float64
    assert kstest(drawn.numpy(), "norm").pvalue > 1e-6
    torch.manual_seed(0)
    first = gaussian_noise((3,))
    torch.manual_seed(0)
    assert not torch.equal(first, gaussian_noise((3,)))  # no seed of the process repeats it
    fixed = [gaussian_noise((3,), torch.Generator().manual_seed(5)) for _ in range(2)]
    assert torch.equal(*fixed)


def test_a_release_is_drawn_as_often_as_it_is_paid_for():
    door = opened(torch.rand(5, 2), torch.zeros(5, dtype=torch.int64), q=2)
    for _ in range(2):
        door.noisy_sums("q", lambda x, y: (x, y), 1)
    with pytest.raises(PotstillError, match="no release 'q' left"):
        door.noisy_sums("q", lambda x, y: (x, y), 1)
    with pytest.raises(PotstillError, match="no release 'other' left"):
        door.noisy_products("other", lambda x: x, lambda z, y: z)


@pytest.mark.parametrize("kind", ["image", "table"])
def test_public_features_look_at_each_record_alone_and_are_bounded(kind: str):
    source = toy_source(kind)
    x = source.raw(torch.arange(len(source)))
    x = x if kind == "image" else x.clamp(-1, 1)
    for make in (label_features, moment_features):
        features = make(source.input, 0)
        whole = features(x)
        assert float(whole.norm(dim=1).max()) <= 1 + 1e-5
        assert torch.allclose(whole[:3], features(x[:3]), atol=1e-5)  # of a record alone, whichever others there are
        assert torch.equal(make(source.input, 0)(x[:3]), features(x[:3]))
        assert not torch.equal(make(source.input, 1)(x[:3]), features(x[:3]))


def test_rows_that_count_have_norm_one_at_most_and_give_back_means():
    x = torch.rand(200, 1, 9, 9).round()  # extreme pictures have the largest norm
    rows = unit_rows(low_resolution(x))
    assert float(rows.norm(dim=1).max()) <= 1 + 1e-6
    means, counts = noisy_means(rows.sum(0, keepdim=True), 0.0)
    assert float(counts) == pytest.approx(200, rel=1e-4)
    assert torch.allclose(means[0], low_resolution(x).mean(0), atol=1e-4)


def test_cells_without_noise_are_those_of_k_means(monkeypatch: pytest.MonkeyPatch):
    silent(monkeypatch)
    centres = torch.tensor([[-0.6, -0.6], [-0.6, 0.6], [0.6, -0.6], [0.6, 0.6]])  # two far groups in each class
    y = torch.arange(400) % 2
    x = centres[2 * y + (torch.arange(400) // 2) % 2] + 0.02 * torch.randn(400, 2)
    cells = find_cells(opened(x, y, cells=6), "cells", 6, 2, 2, 1.0, 0).centres
    for c in range(2):
        means = centres[2 * c : 2 * c + 2]
        assert float(torch.cdist(cells[c], means).min(0).values.max()) < 0.05


def test_the_learning_rate_keeps_the_noise_of_logits():
    rate, noise = learning_rate(40, 30.0, 2_000.0)
    few, few_noise = learning_rate(40, 30.0, 200.0)
    assert noise == pytest.approx(few_noise)
    assert rate == pytest.approx(10 * few)
    # the noise of a logit by simulation: the same recursion on noise alone
    rng = torch.Generator().manual_seed(0)
    weight, velocity, average = torch.zeros(4000), torch.zeros(4000), torch.zeros(4000)
    for t in range(40):
        velocity = 0.9 * velocity + 30.0 * torch.randn(4000, generator=rng) / 2_000
        weight = weight - rate * velocity
        average += weight / 20 * (t >= 20)
    assert float(average.std()) == pytest.approx(noise, rel=0.05)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("epsilon=0,delta=1e-5", "epsilon must be above 0"),
        ("epsilon=-1,delta=1e-5", "epsilon must be above 0"),
        ("epsilon=nan,delta=1e-5", "epsilon must be a number"),
        ("epsilon=1,delta=0", "delta must be above 0"),
        ("epsilon=1,delta=1", "delta must be above 0"),
        ("epsilon=1", "delta is missing"),
        ("epsilon=one,delta=1e-5", "must be a number, but it is 'one'"),
        ("epsilon=1,delta=1e-5,cells=2.5", "must be a whole number"),
        ("epsilon=1,delta=1e-5,cells=0", "whole number from 1"),
        ("epsilon=1,delta=1e-5,labeller=1", "share of the budget"),
        ("epsilon=1,delta=1e-5,epsilon=2", "stands there twice"),
        ("epsilon=1,delta", "has no ="),
        ("epsilon=1,delta=1e-5,noise=0", "setting 'noise'"),
        ("epsilon=1,delta=1e-5,public=no/such.json", "cannot be read"),
        ({"epsilon": "1", "delta": 1e-5}, "must be a number"),
        ({"epsilon": 1, "delta": 1e-5, "public": [1]}, "must be a mapping"),
    ],
)
def test_bad_options_are_one_line(given: object, message: str):
    with pytest.raises(PotstillError, match=message) as error:
        parse_private(given)  # type: ignore[arg-type]
    assert "\n" not in str(error.value)


def test_options_by_text_mapping_and_value_are_one(tmp_path):
    (tmp_path / "facts.json").write_text('{"classes": ["a", "b"]}')
    value = PrivateOptions(epsilon=1.0, delta=1e-5, cells=4, public={"classes": ["a", "b"]})
    text = f"epsilon=1,delta=1e-5,cells=4,public={tmp_path / 'facts.json'}"
    mapping = {"epsilon": 1.0, "delta": 1e-5, "cells": 4, "public": tmp_path / "facts.json"}
    assert parse_private(text) == parse_private(mapping) == parse_private(value) == value
    assert parse_private(None) is None


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "dp_accounting", None)
    with pytest.raises(PotstillError, match=r"pip install 'potstill\[private\]'"):
        plan_queries(PrivateOptions(epsilon=1.0, delta=1e-5))


def test_the_count_is_a_fixed_part_of_the_norm():
    assert COUNT == 0.3
    assert unit_rows(torch.zeros(1, 5)).tolist()[0] == pytest.approx([0, 0, 0, 0, 0, 0.3])
