"""The fused block equals the three plain modules: values, derivatives of three orders, forward mode, vmap."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from potstill.nn import fused_norm_relu_pool
from potstill.nn.fused_norm_relu_pool import InstanceReluPool, instance_relu_pool
from potstill.rng import generator


def plain(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return F.avg_pool2d(F.relu(F.group_norm(x, x.shape[1], weight, bias)), 2)


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fast form at any size, two samples at a time and the last alone."""
    monkeypatch.setattr(fused_norm_relu_pool, "_WORTH", 0)
    monkeypatch.setattr(fused_norm_relu_pool, "_CHUNK", 2 * 2 * 4 * 6)


def leaves(dtype: torch.dtype = torch.float64, n: int = 3) -> tuple[Tensor, Tensor, Tensor]:
    rng = generator(5, "fused")
    x = torch.randn(n, 2, 4, 6, generator=rng, dtype=dtype)
    weight = torch.rand(2, generator=rng, dtype=dtype) + 0.5
    bias = torch.randn(2, generator=rng, dtype=dtype)
    return x.requires_grad_(), weight.requires_grad_(), bias.requires_grad_()


def derivatives(f: Callable[..., Tensor], inputs: tuple[Tensor, ...]) -> list[Tensor]:
    """Value, gradient, and the gradient of the gradient's size."""
    y = f(*inputs)
    first = torch.autograd.grad(y.square().sum(), inputs, create_graph=True)
    second = torch.autograd.grad(torch.stack([g.square().sum() for g in first]).sum(), inputs)
    alone = torch.autograd.grad(f(*inputs).square().sum(), inputs)
    return [y, *first, *second, *alone]


@pytest.mark.usefixtures("always")
def test_float32_agrees_with_the_plain_modules() -> None:
    for got, want in zip(derivatives(instance_relu_pool, leaves(torch.float32)),
                         derivatives(plain, leaves(torch.float32)), strict=True):  # fmt: skip
        assert (got - want).norm() / want.norm() < 2e-6


# torch's own forward mode loads a module that warns so
forward_mode = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")


@forward_mode
@pytest.mark.usefixtures("always")
def test_first_derivatives() -> None:
    assert torch.autograd.gradcheck(instance_relu_pool, leaves(), check_forward_ad=True)


@pytest.mark.usefixtures("always")
def test_second_derivatives() -> None:
    assert torch.autograd.gradgradcheck(instance_relu_pool, leaves())


@pytest.mark.usefixtures("always")
def test_third_derivatives() -> None:
    def gradient(*inputs: Tensor) -> tuple[Tensor, ...]:
        return torch.autograd.grad(instance_relu_pool(*inputs).square().sum(), inputs, create_graph=True)

    assert torch.autograd.gradgradcheck(gradient, leaves(n=1))


@pytest.mark.usefixtures("always")
@pytest.mark.parametrize("wanted", [(0,), (1,), (2,), (0, 2)])
def test_gradients_of_some_inputs_only(wanted: tuple[int, ...]) -> None:
    results = []
    for f in (instance_relu_pool, plain):
        inputs = [t.detach().requires_grad_(n in wanted) for n, t in enumerate(leaves())]
        asked = [inputs[n] for n in wanted]
        first = torch.autograd.grad(f(*inputs).square().sum(), asked, create_graph=True)
        results.append([*first, *torch.autograd.grad(first[0].square().sum(), asked)])
    for got, want in zip(*results, strict=True):
        torch.testing.assert_close(got, want)


@forward_mode
@pytest.mark.usefixtures("always")
def test_functional_transforms() -> None:
    x, weight, bias = (t.detach() for t in leaves())
    weights = torch.stack([weight, weight + 1])

    def loss(f: Callable[..., Tensor]) -> Callable[..., Tensor]:
        return lambda *inputs: f(*inputs).square().sum()

    for transform in (
        lambda f: torch.func.grad(loss(f), argnums=(0, 1, 2))(x, weight, bias),
        lambda f: torch.func.hessian(loss(f), argnums=1)(x, weight, bias),
        lambda f: torch.func.jacfwd(torch.func.grad(loss(f), argnums=2), argnums=1)(x, weight, bias),
        lambda f: torch.func.vmap(f, (None, 0, None))(x, weights, bias),
        lambda f: torch.func.vmap(torch.func.grad(loss(f), argnums=1), (None, 0, None))(x, weights, bias),
    ):
        torch.testing.assert_close(transform(instance_relu_pool), transform(plain))


@pytest.mark.usefixtures("always")
def test_made_in_inference_mode_and_trained_after() -> None:
    fused_norm_relu_pool.pool_matrix.cache_clear()
    fused_norm_relu_pool.spread_matrix.cache_clear()
    x, weight, bias = leaves()
    with torch.inference_mode():
        shown = instance_relu_pool(x, weight, bias)
    trained = instance_relu_pool(x, weight, bias)
    trained.sum().backward()
    assert torch.equal(shown, trained.detach())
    assert bias.grad is not None


@pytest.mark.usefixtures("always")
@pytest.mark.parametrize("shape", [(2, 4, 5, 4), (2, 4, 4, 7), (2, 4, 4, 4)])
def test_what_the_fast_form_does_not_cover_is_plain(shape: tuple[int, ...]) -> None:
    """Odd sizes, other memory formats and mixed precision give what the modules give."""
    x = torch.randn(shape, generator=generator(1)).contiguous(memory_format=torch.channels_last)
    module = InstanceReluPool(4)
    want = nn.Sequential(nn.GroupNorm(4, 4), nn.ReLU(), nn.AvgPool2d(2))
    torch.testing.assert_close(module(x), want(x))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(module(x.contiguous()), want(x.contiguous()))


def test_large_batches_take_the_fast_form_and_small_ones_do_not() -> None:
    module = InstanceReluPool(2)
    for n, used in ((64, True), (1, False)):
        x = torch.randn(n, 2, 32, 32, generator=generator(n), requires_grad=True)
        y = module(x)
        assert (fused_norm_relu_pool._First.__name__ in type(y.grad_fn).__name__) is used
        torch.testing.assert_close(y, plain(x, module.weight, module.bias))
