"""Students that classify a frozen backbone's features: what is computed once gives what is computed every time."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from potstill.augment.names import named_augmentation
from potstill.core.registry import resolve
from potstill.evaluation import frozen_feature_cache
from potstill.evaluation.protocol import Protocol
from potstill.evaluation.student import StudentJob, predict, train
from potstill.nn import factory
from potstill.nn import pretrained as module
from potstill.testing import toy_source


class Counted(nn.Module):
    """A trunk that counts the pictures that it sees."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = 0

    def forward(self, x: Tensor) -> Tensor:
        self.seen += len(x)
        return nn.functional.adaptive_avg_pool2d(x, 4).flatten(1)


@pytest.fixture
def trunk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Counted]:
    made = Counted()
    about = module.Backbone(
        title="t", paper="p", features=48, side=32, step=1, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), load=lambda: made
    )
    monkeypatch.setitem(module.BACKBONES, "counted", about)
    module._trunk.cache_clear()
    frozen_feature_cache._cache.clear()
    yield made
    module._trunk.cache_clear()
    frozen_feature_cache._cache.clear()


def _job(augment: str) -> StudentJob:
    source = toy_source()
    protocol: Protocol = resolve("protocols", "dc")
    protocol = protocol.override(epochs=3, augment=augment)
    make = factory("counted", source.input, 4, normalization=source.normalization)
    batch = source.fetch(torch.arange(0, 48, 5))
    assert batch.y is not None
    return StudentJob(
        make=make, x=batch.x, y=batch.y, protocol=protocol, lr=0.1, steps=None, seed=1,
        augment=named_augmentation(augment, source),
    )  # fmt: skip


def test_pictures_that_stay_pass_once(trunk: Counted, monkeypatch: pytest.MonkeyPatch) -> None:
    job = _job("none")
    once = train(job)
    assert trunk.seen == len(job.y)
    monkeypatch.setattr("potstill.evaluation.student.classifier_and_features", lambda *_: None)
    every = train(job)
    assert trunk.seen > 4 * len(job.y)
    for a, b in zip(once.parameters(), every.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)
    assert any(not torch.equal(a, b) for a, b in zip(once.parameters(), job.make(2).parameters(), strict=True))


def test_pictures_that_are_augmented_pass_at_every_step(trunk: Counted) -> None:
    job = _job("dsa")
    train(job)
    assert trunk.seen >= 3 * len(job.y)


def test_test_pictures_pass_once_for_all_students(trunk: Counted, monkeypatch: pytest.MonkeyPatch) -> None:
    job, source = _job("none"), toy_source()
    nets = [job.make(seed) for seed in range(3)]
    found = [predict(net, source) for net in nets]
    assert trunk.seen == len(source)
    monkeypatch.setattr(frozen_feature_cache, "_MOST", 0)
    assert all(torch.equal(a, predict(net, source)) for a, net in zip(found, nets, strict=True))
    assert trunk.seen == 4 * len(source)


def test_features_are_of_the_units_that_were_fetched(trunk: Counted) -> None:
    """A source under another normalization is another one."""
    source = toy_source()
    net = _job("none").make(0)
    same = frozen_feature_cache.cached_features(net, source, 50, "float32")
    other = type(source).make(
        source.inputs.numpy(), source.labels.numpy(), source.classes, name=source.name,
        normalization=type(source.normalization)(source.normalization.mean + 1, source.normalization.std),
    )  # fmt: skip
    assert other.content_hash == source.content_hash
    moved = frozen_feature_cache.cached_features(net, other, 50, "float32")
    assert same is not None
    assert moved is not None
    assert not torch.allclose(same, moved)
