"""Augmentation that follows validation data: batches, loaders, and the comparison beside training on both parts."""

from typing import Any

import pytest
import torch
from torch import Generator, Tensor, nn

import potstill
from potstill.augment.names import load_augmentation
from potstill.core import Splits
from potstill.data import TensorSource
from potstill.errors import PotstillError
from potstill.rng import generator
from potstill.uses.augmentation import (
    WAYS,
    AdaptedLoader,
    adapt_batch,
    as_upstream,
    compare_augmentation,
    validation_gradient,
)


def two_clouds(n: int, seed: int) -> TensorSource:
    rng = generator(seed, "clouds")
    labels = torch.arange(n) % 2
    x = torch.randn(n, 4, generator=rng) + 2.0 * (2 * labels - 1)[:, None]
    return TensorSource.make(x, [f"class {c}" for c in labels.tolist()], name="clouds", classes=["class 0", "class 1"])


def mirror(x: Tensor, y: Tensor, rng: Generator) -> tuple[Tensor, Tensor]:
    """Turn 60 % of the samples into samples of the other class, with the labels of before."""
    return torch.where(torch.rand(len(x), 1, generator=rng) < 0.6, -x, x), y


def compare(upstream: Any = mirror, **more: Any) -> dict[str, Any]:
    data = Splits(train=two_clouds(80, 0), test=two_clouds(200, 1))
    given: dict[str, Any] = {"seeds": 3, "steps": 60, "batch": 32, "network": "mlp-w16"}
    return compare_augmentation(data, upstream, **{**given, **more})


def test_a_broken_augmentation_is_repaired() -> None:
    """It turns the classes around, so that a network learns the opposite; with adapted labels it learns the classes."""
    result = compare()
    means = {row["way"]: row["accuracy"]["mean"] for row in result["rows"]}
    assert tuple(means) == WAYS
    assert means["none"] > 0.98
    assert means["raw"] < 0.7
    assert means["adapted"] > 0.95
    assert means["weights"] > 0.95
    assert 0.3 < result["zero"] < 0.8
    assert "Training on both parts without augmentation is" in result["sentence"]


def test_the_seed_decides_everything() -> None:
    one, again, other = (compare(seeds=1, steps=10, seed=seed) for seed in (0, 0, 1))
    assert one == again
    assert one["rows"] != other["rows"]


def test_labels_of_samples_of_the_other_class_are_corrected() -> None:
    source = two_clouds(64, 0)
    x, y = source.fetch(torch.arange(64)).x, source.labels
    network = nn.Linear(4, 2)
    nn.init.zeros_(network.weight)
    nn.init.zeros_(network.bias)
    gradient = validation_gradient(network, x, y)
    before = {name: p.clone() for name, p in network.named_parameters()}
    weights, labels = adapt_batch(network, x, 1 - y, gradient, pull=0.5)
    assert (labels.argmax(1) == y).float().mean() > 0.9
    assert float(weights.mean()) == pytest.approx(1.0)
    half_wrong = torch.where(torch.arange(64) < 32, 1 - y, y)
    fixed, same = adapt_batch(network, x, half_wrong, gradient, fixed=True)
    assert torch.equal(same.argmax(1), half_wrong)
    assert int((fixed[:32] == 0).sum()) > 28
    assert int((fixed[32:] == 0).sum()) < 4
    assert all(torch.equal(before[name], p) for name, p in network.named_parameters()), "the network stays as it is"
    assert all(p.grad is None for p in network.parameters())


def test_a_network_with_batch_norm_keeps_its_statistics() -> None:
    network = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 2))
    source = two_clouds(16, 0)
    x, y = source.fetch(torch.arange(16)).x, source.labels
    gradient = validation_gradient(network, x, y)
    statistics = network[1].running_mean.clone()
    adapt_batch(network, x, y, gradient)
    assert torch.equal(statistics, network[1].running_mean)


def test_a_loader_adapts_each_batch_to_the_network_of_that_moment() -> None:
    source = two_clouds(32, 0)
    x, y = source.fetch(torch.arange(32)).x, source.labels
    network = nn.Linear(4, 2)

    def loader(**more: Any) -> AdaptedLoader:
        return AdaptedLoader(
            loader=[(x[:16], y[:16]), (x[16:], y[16:])], network=network, upstream=mirror, validation=(x, y),
            rng=generator(0, "loader"), **more,
        )  # fmt: skip

    first, again = list(loader()), list(loader())
    assert [tuple(t.shape for t in row) for row in first] == [((16, 4), (16, 2), (16,))] * 2
    assert all(torch.equal(a, b) for one, two in zip(first, again, strict=True) for a, b in zip(one, two, strict=True))
    with torch.no_grad():
        network.weight.mul_(-3)
    assert not torch.equal(first[0][1], next(iter(loader()))[1]), "other weights, other labels"


def test_an_augmentation_of_potstill_is_an_upstream_one() -> None:
    data = potstill.load_data("digits")
    x, y = data.train.fetch(torch.arange(8)).x, data.train.labels[:8]
    upstream = as_upstream(load_augmentation("dsa", data.train))
    changed, labels = upstream(x, y, generator(0, "dsa"))
    assert changed.shape == x.shape
    assert not torch.equal(changed, x)
    assert torch.equal(labels, y)


@pytest.mark.parametrize(
    ("more", "match"),
    [
        ({"validation": 0.0}, "validation must lie between 0 and 1"),
        ({"validation": 1.0}, "validation must lie between 0 and 1"),
        ({"seeds": 0}, "seeds and steps be at least 1"),
        ({"steps": 0}, "seeds and steps be at least 1"),
        ({"pull": -1.0}, "pull and temperature must be at least 0"),
    ],
)
def test_bad_settings_are_refused(more: dict[str, Any], match: str) -> None:
    with pytest.raises(PotstillError, match=match):
        compare(**more)


def test_data_without_a_test_split_or_with_one_class_are_refused() -> None:
    with pytest.raises(PotstillError, match="two classes or more and a test split"):
        compare_augmentation(Splits(train=two_clouds(20, 0), test=None), mirror)
    one = TensorSource.make(torch.randn(20, 4), ["a"] * 20, name="one", classes=["a"])
    with pytest.raises(PotstillError, match="two classes or more and a test split"):
        compare_augmentation(Splits(train=one, test=one), mirror)


def test_a_validation_part_of_one_class_is_refused() -> None:
    labels = ["a"] * 19 + ["b"]
    few = TensorSource.make(torch.randn(20, 4, generator=generator(0, "few")), labels, name="few", classes=["a", "b"])
    with pytest.raises(PotstillError, match="validation part has one class alone"):
        compare_augmentation(Splits(train=few, test=two_clouds(10, 1)), mirror, network="mlp-w4", steps=1)
