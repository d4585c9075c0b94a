"""Networks as functions: gradients and steps equal the usual training loop, and leave the network alone."""

import copy
import math

import pytest
import torch
from torch import nn

from potstill.functional.gradient import cosine_rows
from potstill.functional.train import copy_parameters, cross_entropy, gradients, network_loss, train_step
from potstill.rng import generator


def small(norm: bool, seed: int = 0) -> nn.Module:
    rng = generator(seed, "net")
    layers = [nn.Conv2d(1, 3, 3, padding=1), nn.BatchNorm2d(3) if norm else nn.Identity(), nn.Sigmoid(), nn.Flatten()]
    net = nn.Sequential(*layers, nn.Linear(48, 4)).double()
    with torch.no_grad():
        for p in net.parameters():
            p.copy_(0.5 * torch.randn(p.shape, generator=rng, dtype=torch.float64))
    return net


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(6, 1, 4, 4, generator=generator(0, "x"), dtype=torch.float64), torch.tensor([0, 1, 2, 3, 0, 1])


def test_cross_entropy_of_classes_and_rows() -> None:
    logits = torch.tensor([[0.0, math.log(3.0)], [math.log(4.0), 0.0]], dtype=torch.float64)
    hard = cross_entropy(logits, torch.tensor([1, 1]))
    assert float(hard) == pytest.approx((math.log(4 / 3) + math.log(5)) / 2)
    assert float(cross_entropy(logits, torch.tensor([[0.0, 1.0], [0.0, 1.0]]))) == pytest.approx(float(hard))
    assert float(cross_entropy(logits, torch.tensor([[0.5, 0.5], [0.25, 0.75]]))) == pytest.approx(
        (0.5 * math.log(4) + 0.5 * math.log(4 / 3) + 0.25 * math.log(5 / 4) + 0.75 * math.log(5)) / 2
    )


def test_gradients_equal_backward_even_without_grad_mode() -> None:
    net, (x, y) = small(norm=False), batch()
    nn.functional.cross_entropy(net(x), y).backward()
    with torch.no_grad():
        made = gradients(net, copy_parameters(net), x, y)
    for g, p in zip(made, net.parameters(), strict=True):
        torch.testing.assert_close(g, p.grad, rtol=1e-12, atol=1e-14)  # float64: rounding is 1e-16
        assert not g.requires_grad


def test_gradient_matching_is_differentiable_in_the_pictures() -> None:
    net, (x, y) = small(norm=False), batch()
    params = copy_parameters(net)
    real = gradients(net, params, x, y)

    def objective(s: torch.Tensor) -> torch.Tensor:
        return cosine_rows(gradients(net, params, s, y[:2], create_graph=True), real)

    syn = torch.randn(2, 1, 4, 4, generator=generator(1, "syn"), dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(objective, (syn,))


def test_gradients_reach_what_the_parameters_came_from() -> None:
    net, (x, y) = small(norm=False), batch()
    scale = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)

    def through(scale: torch.Tensor) -> torch.Tensor:
        moved = {name: p * scale for name, p in copy_parameters(net).items()}
        return sum((g**2).sum() for g in gradients(net, moved, x, y, create_graph=True))

    assert torch.autograd.gradcheck(through, (scale,))


def test_steps_equal_the_usual_loop_with_batch_norm() -> None:
    net, (x, y) = small(norm=True), batch()
    before = copy.deepcopy(net.state_dict())
    params, velocity, buffers = copy_parameters(net), None, None
    values = []
    for _ in range(3):
        params, velocity, buffers, value, _ = train_step(
            net, params, velocity, x, y, lr=0.1, momentum=0.9, weight_decay=5e-4, buffers=buffers
        )
        values.append(float(value))
    for name, tensor in net.state_dict().items():
        assert torch.equal(tensor, before[name])
    optimiser = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
    for expected in values:
        optimiser.zero_grad()
        value = nn.functional.cross_entropy(net(x), y)
        value.backward()
        optimiser.step()
        assert float(value.detach()) == pytest.approx(expected, rel=1e-12)  # float64: rounding is 1e-16
    for name, p in net.named_parameters():
        torch.testing.assert_close(params[name], p.detach(), rtol=1e-12, atol=1e-14)
        assert not params[name].requires_grad
    for name, b in net.named_buffers():
        torch.testing.assert_close(buffers[name], b, rtol=1e-12, atol=1e-14)


def test_loss_and_gradients_do_not_move_running_statistics() -> None:
    net, (x, y) = small(norm=True), batch()
    before = copy.deepcopy(net.state_dict())
    params = copy_parameters(net)
    network_loss(net, params, x, y)
    gradients(net, params, x, y)
    for name, tensor in net.state_dict().items():
        assert torch.equal(tensor, before[name])
