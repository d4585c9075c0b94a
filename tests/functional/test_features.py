"""Embeddings in parts: the same as in one pass, and in one pass where the batch itself counts."""

import pytest
import torch
from torch import Tensor, nn

from potstill.core import InputSpec, Network
from potstill.functional import features
from potstill.functional.features import embed_real, uses_batch_statistics
from potstill.nn import factory
from potstill.rng import generator


def network(name: str) -> Network:
    return factory(name, InputSpec(kind="image", shape=(3, 8, 8)), 4)(1)


class Counting(Network):
    """Squares its inputs, and remembers how many came at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.classifier = nn.Identity()
        self.seen: list[int] = []

    def embed(self, x: Tensor) -> Tensor:
        self.seen.append(len(x))
        return x.flatten(1).square()


@pytest.mark.parametrize(
    ("shape", "passes"), [((10, 3, 8, 8), [4, 4, 2]), ((10, 256), [10]), ((3, 1, 16, 32), [1] * 3)]
)
def test_parts_hold_so_many_pixels(monkeypatch: pytest.MonkeyPatch, shape: tuple[int, ...], passes: list[int]) -> None:
    monkeypatch.setattr(features, "_PIXELS", 256)  # channels do not count, and a picture too large goes alone
    net, x = Counting(), torch.randn(shape, generator=generator(0)).requires_grad_()
    made = embed_real(net, x)
    assert net.seen == passes
    assert not made.requires_grad
    assert torch.equal(made, x.detach().flatten(1).square())


def test_parts_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    net, x = network("convnet-d1-w8"), torch.randn(7, 3, 8, 8, generator=generator(0))
    whole = embed_real(net, x)
    torch.testing.assert_close(whole, net.embed(x).detach())
    monkeypatch.setattr(features, "_PIXELS", 2 * 64)
    torch.testing.assert_close(embed_real(net, x), whole)


def test_a_batch_that_counts_is_not_parted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "_PIXELS", 2 * 64)
    x = torch.randn(7, 3, 8, 8, generator=generator(0))
    net = network("convnet-d1-w8-batch").train()
    assert uses_batch_statistics(net)
    torch.testing.assert_close(embed_real(net, x), net.embed(x).detach())
    net.eval()
    assert not uses_batch_statistics(net)
    torch.testing.assert_close(embed_real(net, x), net.embed(x).detach())
    assert not uses_batch_statistics(network("convnet-d1-w8").train())
