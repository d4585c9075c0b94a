"""The product with ReLU and pooling against its three operations: values, three derivatives, transforms."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import grad, jvp, vmap

from potstill.nn import gemm_relu_pool
from potstill.nn.gemm_relu_pool import relu_pool_of_product
from potstill.rng import generator

WIDTH, ROWS = 6, 4


def plain(s: Tensor, patches: Tensor) -> Tensor:
    y = s @ patches
    return F.avg_pool2d(F.relu(y).view(*y.shape[:2], ROWS, WIDTH), 2)


def fast(s: Tensor, patches: Tensor) -> Tensor:
    return relu_pool_of_product(s, patches, WIDTH)


def drawn(n: int = 3) -> tuple[Tensor, Tensor]:
    rng = generator(7)
    s = torch.randn(n, 5, 4, generator=rng, dtype=torch.float64)
    return s, torch.randn(n, 4, ROWS * WIDTH, generator=rng, dtype=torch.float64)


@pytest.fixture(params=[2**17, 5 * ROWS * WIDTH], ids=["at once", "one by one"])
def chunk(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gemm_relu_pool, "_CHUNK", request.param)


@pytest.mark.usefixtures("chunk")
def test_values_and_three_derivatives_are_those_of_the_operations() -> None:
    found = []
    for f in (plain, fast):
        s, patches = (t.clone().requires_grad_() for t in drawn())
        y = f(s, patches)
        first = torch.autograd.grad(
            (y * torch.linspace(-1, 1, y.numel()).view_as(y)).sum(), [s, patches], create_graph=True
        )
        second = torch.autograd.grad(sum((v**3).sum() for v in first), [s, patches], create_graph=True)
        third = torch.autograd.grad(sum((v**2).sum() for v in second), [s, patches])
        found.append([y, *first, *second, *third])
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(b, a, rtol=1e-10, atol=1e-10)


@pytest.mark.usefixtures("chunk")
def test_derivatives_are_those_of_differences() -> None:
    inputs = tuple(t.requires_grad_() for t in drawn(2))
    assert torch.autograd.gradcheck(fast, inputs)
    assert torch.autograd.gradgradcheck(fast, inputs)


@pytest.mark.parametrize("wanted", [(True, False), (False, True)])
def test_what_is_not_wanted_is_not_computed(wanted: tuple[bool, bool]) -> None:
    s, patches = (t.requires_grad_(w) for t, w in zip(drawn(), wanted, strict=True))
    leaf = s if wanted[0] else patches
    slope = torch.autograd.grad(fast(s, patches).square().sum(), leaf)[0]
    expected = torch.autograd.grad(plain(s, patches).square().sum(), leaf)[0]
    torch.testing.assert_close(slope, expected)


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:DeprecationWarning")  # torch's own, in forward mode
def test_it_maps_and_moves_forward_as_the_operations_do() -> None:
    s, patches = drawn(4)
    some = (s.view(2, 2, *s.shape[1:]), patches.view(2, 2, *patches.shape[1:]))
    torch.testing.assert_close(vmap(fast)(*some), vmap(plain)(*some))
    each = [vmap(grad(lambda a, b, f=f: f(a, b).square().sum(), argnums=(0, 1)))(*some) for f in (fast, plain)]
    torch.testing.assert_close(*each)
    moved = [jvp(f, (s, patches), (patches[:, :1, :4].expand_as(s), patches.cos())) for f in (fast, plain)]
    torch.testing.assert_close(*moved)
    twice = [jvp(grad(lambda a, f=f: f(a, patches).square().sum()), (s,), (s.sin(),)) for f in (fast, plain)]
    torch.testing.assert_close(*twice)
