"""Fresh weights: PyTorch's distributions bit for bit, from a seed alone."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import nn

from potstill.core import InputSpec, Network
from potstill.nn import factory, initialise
from potstill.nn.convnet import ConvNet
from potstill.nn.init import build_network
from potstill.nn.resnet import ResNet
from potstill.rng import generator

MAKERS: dict[str, Callable[[], Network]] = {
    "convnet": lambda: ConvNet((3, 16, 16), 5, depth=2, width=8),
    "convnet-layer": lambda: ConvNet((1, 8, 8), 5, depth=1, width=4, norm="layer", activation="leaky"),
    "resnet": lambda: ResNet((1, 16, 16), 3, batch=True),
}


@pytest.mark.parametrize("name", MAKERS)
def test_weights_are_those_of_torch_for_the_same_generator(name: str) -> None:
    make = MAKERS[name]
    rng = torch.Generator().manual_seed(11)
    got = build_network(make, torch.device("cpu"), rng).state_dict()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(11)
        want = make().state_dict()
    assert list(got) == list(want)
    for key, value in want.items():
        assert torch.equal(got[key], value), key


def test_bounds_and_moments_are_kaimings() -> None:
    layer = nn.Conv2d(16, 64, 3)
    initialise(layer, generator(2))
    bound = 1 / math.sqrt(16 * 9)
    for values in (layer.weight.detach().flatten(), layer.bias.detach()):
        assert float(values.abs().max()) <= bound
        assert float(values.abs().max()) > 0.9 * bound
    flat = layer.weight.detach().flatten()
    # the mean of n draws of U(−b, b) has deviation b/√(3n); five of them are never seen
    assert abs(float(flat.mean())) < 5 * bound / math.sqrt(3 * len(flat))
    assert float(flat.std()) == pytest.approx(bound / math.sqrt(3), rel=0.02)
    quarters = torch.histc(flat, bins=4, min=-bound, max=bound) / len(flat)
    assert torch.allclose(quarters, torch.full((4,), 0.25), atol=0.03)


def test_vit_starts_from_a_cut_normal() -> None:
    network = factory("vit-tiny", InputSpec(kind="image", shape=(3, 16, 16)), 4)(0)
    layers = [m for m in network.modules() if isinstance(m, nn.Linear)]
    assert len(layers) > 8
    for layer in layers:
        assert not bool(layer.bias.any())
    flat = torch.cat([m.weight.detach().flatten() for m in layers])
    assert float(flat.std()) == pytest.approx(0.02, rel=0.02)
    assert float(flat.abs().max()) > 0.08  # not clamped at two deviations: cut at ±2, as published


def test_an_unknown_layer_is_refused() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.zeros(3))

    class Kept(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("table", torch.zeros(3))

    for module in (nn.Sequential(Odd()), Kept()):
        with pytest.raises(TypeError, match=r"Odd|Kept"):
            initialise(module, generator(0))


def test_a_layer_may_answer_for_itself() -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.zeros(3))

        def initialise(self, rng: torch.Generator) -> None:
            self.scale.fill_(float(torch.rand((), generator=rng)))

    module = nn.Sequential(Own())
    initialise(module, generator(0))
    assert torch.equal(module[0].scale, torch.rand((), generator=generator(0)).expand(3))


@pytest.mark.parametrize("name", ["convnet-w8", "mlp", "lenet", "resnet18-batch", "vit-tiny", "linear"])
def test_a_seed_decides_all_and_the_global_generator_is_untouched(name: str) -> None:
    make = factory(name, InputSpec(kind="image", shape=(1, 16, 16)), 3)
    before = torch.get_rng_state()
    first, again, other = make(7), make(7), make(8)
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(123)
    later = make(7)
    for a, b, c in zip(first.parameters(), again.parameters(), later.parameters(), strict=True):
        assert torch.equal(a, b)
        assert torch.equal(a, c)
    assert any(not torch.equal(a, b) for a, b in zip(first.parameters(), other.parameters(), strict=True))


def test_weights_are_finite_and_ready_to_train() -> None:
    network = factory("resnet18-batch", InputSpec(kind="image", shape=(3, 16, 16)), 3)(0)
    assert network.training
    assert all(p.requires_grad and bool(p.isfinite().all()) for p in network.parameters())
    assert all(bool(b.isfinite().all()) for b in network.buffers())
