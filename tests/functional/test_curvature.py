"""Curvature along the gradient: a loop over samples, a number worked by hand, and its derivatives."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from potstill.functional.curvature import Curvature, gradient_differences
from potstill.functional.train import copy_parameters, gradients, network_loss, regularization
from potstill.rng import generator


def network(inputs: int, hidden: int = 5, classes: int = 3) -> nn.Sequential:
    net = nn.Sequential(nn.Linear(inputs, hidden), nn.Tanh(), nn.Linear(hidden, classes)).double()
    rng = generator(0, "net")
    with torch.no_grad():
        for p in net.parameters():
            p.copy_(torch.randn(p.shape, generator=rng, dtype=p.dtype))
    return net


def samples(n: int, d: int) -> tuple[Tensor, Tensor]:
    rng = generator(1, "samples")
    return torch.randn(n, d, generator=rng, dtype=torch.float64), torch.randint(3, (n,), generator=rng)


def input_gradient(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Gradient of one sample's loss by its values, by central differences."""
    found = torch.zeros_like(x)
    for i in range(len(x)):
        step = torch.zeros_like(x)
        step[i] = 1e-6
        with torch.no_grad():
            up, down = (float(F.cross_entropy(net(x + s * step)[None], y[None])) for s in (1, -1))
        found[i] = (up - down) / 2e-6
    return found


def test_it_equals_a_loop_over_samples_and_values() -> None:
    net, (x, y), h = network(4), samples(6, 4), 1.5
    found = gradient_differences(lambda some: F.cross_entropy(net(some), y, reduction="sum"), x, h).detach()
    for i in range(6):
        before = input_gradient(net, x[i], y[i])
        after = input_gradient(net, x[i] + h * before / before.norm(), y[i])
        assert float(found[i]) == pytest.approx(math.sqrt(sum(float(d) ** 2 for d in after - before)), abs=1e-6)
    alone = gradient_differences(lambda some: F.cross_entropy(net(some), y[2:3], reduction="sum"), x[2:3], h)
    assert float(alone.detach()) == pytest.approx(float(found[2]), rel=1e-12)


def test_one_value_by_hand() -> None:
    # logits (x, 0), class 0, x = 0: the slope is −1/2, so that z = −1; at −3 it is −σ(3) = −0.952574
    x = torch.zeros(1, 1, dtype=torch.float64)

    def loss(some: Tensor) -> Tensor:
        return F.cross_entropy(torch.cat([some, torch.zeros_like(some)], 1), torch.tensor([0]), reduction="sum")

    assert gradient_differences(loss, x, 3.0).item() == pytest.approx(0.4525741268224333, rel=1e-12)
    assert Curvature(weight=100.0).terms(loss, x).item() == pytest.approx(45.25741268224333, rel=1e-12)


def test_a_linear_loss_has_no_curvature_and_a_finite_gradient() -> None:
    x = torch.randn(3, 2, generator=generator(0)).requires_grad_()
    r = gradient_differences(lambda some: (2 * some).sum(), x, 3.0)
    assert r.tolist() == [0, 0, 0]
    flat = gradient_differences(lambda some: (0 * some).square().sum(), x, 3.0)
    (slope,) = torch.autograd.grad(flat.sum(), x)
    assert flat.tolist() == [0, 0, 0]
    assert slope.count_nonzero() == 0


def test_derivatives_by_inputs_and_parameters() -> None:
    # inputs of one value each: there z is 1 or −1 nearby, too, and the derivative has nothing that is held constant
    net, (x, y) = network(1), samples(5, 1)
    params = copy_parameters(net)
    names = list(params)

    def term(x: Tensor, *values: Tensor) -> Tensor:
        used = dict(zip(names, values, strict=True))
        return regularization(Curvature(weight=0.7, h=0.8), net, used, x, y)

    ends = (x.requires_grad_(), *(p.requires_grad_() for p in params.values()))
    assert torch.autograd.gradcheck(term, ends)


def test_the_direction_is_held_constant() -> None:
    net, (x, y), h = network(3), samples(2, 3), 0.9

    def slope(at: Tensor) -> Tensor:
        return torch.stack([input_gradient(net, a, b) for a, b in zip(at, y, strict=True)])

    z = slope(x) / slope(x).norm(dim=1, keepdim=True)

    def frozen(at: Tensor) -> float:
        return float((slope(at + h * z) - slope(at)).norm(dim=1).sum())

    at = x.clone().requires_grad_()
    r = gradient_differences(lambda some: F.cross_entropy(net(some), y, reduction="sum"), at, h)
    (found,) = torch.autograd.grad(r.sum(), at)
    for i, j in ((0, 0), (1, 2)):
        step = torch.zeros_like(x)
        step[i, j] = 1e-3
        assert float(found[i, j]) == pytest.approx((frozen(x + step) - frozen(x - step)) / 2e-3, abs=1e-4)


def test_gradients_of_a_network_have_the_mean_term() -> None:
    net, (x, y), curvature = network(4), samples(6, 4), Curvature(weight=0.5, h=1.0)
    params = {n: p.requires_grad_() for n, p in copy_parameters(net).items()}
    whole = network_loss(net, params, x, y) + regularization(curvature, net, params, x, y).sum() / 6
    expected = torch.autograd.grad(whole, tuple(params.values()))
    for a, b in zip(gradients(net, params, x, y, regularizer=curvature), expected, strict=True):
        assert torch.allclose(a, b)


@pytest.mark.parametrize("values", [{"weight": 0.0}, {"h": -1.0}, {"h": math.inf}])
def test_numbers_out_of_range(values: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="weight and h must be above 0"):
        Curvature(**values)
