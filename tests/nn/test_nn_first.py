"""The first block as a matrix product against the plain modules: values, two derivatives, and where it is used."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from potstill.core import InputSpec
from potstill.nn import factory, gemm_relu_pool
from potstill.nn.first_block_gemm import first_block, supports_first_block
from potstill.rng import generator


def modules(channels: int, padding: int, *, bias: bool = True, width: int = 5) -> tuple[nn.Conv2d, nn.GroupNorm]:
    rng = generator(4, channels, padding)
    conv = nn.Conv2d(channels, width, 3, padding=padding, bias=bias).double()
    norm = nn.GroupNorm(width, width).double()
    with torch.no_grad():
        for p in (*conv.parameters(), *norm.parameters()):
            p.copy_(torch.randn(p.shape, generator=rng, dtype=torch.float64))
    return conv, norm


def plain(x: Tensor, conv: nn.Conv2d, norm: nn.GroupNorm) -> Tensor:
    return F.avg_pool2d(F.relu(norm(conv(x))), 2)


@pytest.mark.parametrize(("channels", "padding", "side"), [(1, 3, (8, 6)), (3, 1, (6, 10)), (2, 0, (8, 8))])
@pytest.mark.parametrize("bias", [True, False])
def test_values_and_both_derivatives_are_those_of_the_modules(
    channels: int, padding: int, side: tuple[int, int], bias: bool
) -> None:
    conv, norm = modules(channels, padding, bias=bias)
    x = torch.randn(4, channels, *side, generator=generator(1), dtype=torch.float64)
    parameters = [*conv.parameters(), *norm.parameters()]
    found = []
    for block in (plain, first_block):
        leaf = x.clone().requires_grad_()
        y = block(leaf, conv, norm)
        weights = torch.randn(y.shape, generator=generator(2), dtype=torch.float64)
        g = torch.autograd.grad((y * weights).sum(), [leaf, *parameters], create_graph=True)
        second = torch.autograd.grad(sum((v * v).sum() for v in g), [leaf, *parameters])
        found.append([y, *g, *second])
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(b, a, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("channels", "padding", "side"), [(1, 3, (8, 6)), (3, 1, (6, 10)), (2, 0, (8, 8))])
def test_values_do_not_depend_on_what_will_be_differentiated(
    channels: int, padding: int, side: tuple[int, int]
) -> None:
    conv, norm = modules(channels, padding)
    x = torch.randn(4, channels, *side, generator=generator(1), dtype=torch.float64)
    seen = []
    for leaf in (x, x.clone().requires_grad_()):
        y = first_block(leaf, conv, norm)
        seen.append([y, *torch.autograd.grad(y.cos().sum(), [conv.weight, norm.weight, norm.bias])])
    for a, b in zip(*seen, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)
    with torch.no_grad():
        torch.testing.assert_close(first_block(x, conv, norm), seen[0][0], rtol=1e-12, atol=1e-12)


def test_a_constant_picture_is_finite_and_as_in_the_modules() -> None:
    conv, norm = modules(1, 0)
    x = torch.full((2, 1, 8, 8), 0.3, dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close(first_block(x, conv, norm), plain(x, conv, norm), rtol=1e-6, atol=1e-6)
    slope = torch.autograd.grad(first_block(x, conv, norm).sum(), x)[0]
    assert torch.isfinite(slope).all()


def test_parts_do_not_change_the_values(monkeypatch: pytest.MonkeyPatch) -> None:
    conv, norm = modules(1, 3)
    x = torch.randn(7, 1, 8, 8, generator=generator(1), dtype=torch.float64)
    whole = first_block(x, conv, norm)
    monkeypatch.setattr(gemm_relu_pool, "_CHUNK", 2 * 5 * 12 * 12)
    # a product of fewer pictures may be another kernel's; a part that is lost or doubled would show as 1
    torch.testing.assert_close(first_block(x, conv, norm), whole, rtol=1e-12, atol=1e-12)


def test_the_convolutions_bias_has_a_gradient_of_zero() -> None:
    conv, norm = modules(1, 3)
    assert conv.bias is not None
    y = first_block(torch.randn(3, 1, 8, 8, generator=generator(1), dtype=torch.float64), conv, norm)
    assert torch.equal(torch.autograd.grad(y.square().sum(), conv.bias)[0], torch.zeros(5, dtype=torch.float64))


def test_it_is_used_where_it_pays_and_nowhere_else(monkeypatch: pytest.MonkeyPatch) -> None:
    grey = nn.Conv2d(1, 128, 3, padding=3)
    x = torch.zeros(2, 1, 28, 28)
    assert supports_first_block(x, grey)
    assert not supports_first_block(x[:, :, :8, :8], grey)  # too little work
    assert not supports_first_block(torch.zeros(2, 1, 29, 28), grey)  # an odd side
    assert not supports_first_block(x.double(), grey)
    assert not supports_first_block(x.to("meta"), grey)
    assert not supports_first_block(torch.zeros(2, 4, 32, 32), nn.Conv2d(4, 128, 3, padding=1))  # patches of 36 numbers
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert not supports_first_block(x, grey)
    called = []
    monkeypatch.setattr("potstill.nn.convnet.first_block", lambda *a: called.append(a) or first_block(*a))
    make = factory("convnet-w32", InputSpec(kind="image", shape=(1, 28, 28)), 10)
    make(0)(torch.zeros(8, 1, 28, 28))
    factory("convnet-w32-batch", InputSpec(kind="image", shape=(1, 28, 28)), 10)(0)(torch.zeros(8, 1, 28, 28))
    assert len(called) == 1


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32)])
def test_a_network_is_the_same_network(shape: tuple[int, int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    net = factory("convnet-w32", InputSpec(kind="image", shape=shape), 10)(3).double()
    x = torch.randn(6, *shape, generator=generator(1), dtype=torch.float64)
    y = torch.arange(6)

    def both(n: nn.Module) -> list[Tensor]:
        return [n(x), *torch.autograd.grad(F.cross_entropy(n(x), y), list(n.parameters()))]

    fast = both(net)
    monkeypatch.setattr("potstill.nn.convnet.supports_first_block", lambda *a: False)
    for a, b in zip(both(copy.deepcopy(net)), fast, strict=True):
        torch.testing.assert_close(b, a, rtol=1e-7, atol=1e-9)


def test_networks_can_be_stacked() -> None:
    make = factory("convnet-w32", InputSpec(kind="image", shape=(1, 28, 28)), 10)
    nets = [make(seed).double() for seed in range(2)]
    params, _ = stack_module_state(nets)  # type: ignore[arg-type]
    x = torch.randn(8, 1, 28, 28, generator=generator(1), dtype=torch.float64)
    stacked = vmap(lambda p: functional_call(nets[0], p, (x,)))(params)
    torch.testing.assert_close(stacked, torch.stack([net(x) for net in nets]))
