"""The gradient of a linear classifier in closed form."""

import pytest
import torch
from torch import nn

from potstill.functional.gradient import linear_gradient


@pytest.mark.parametrize("rows", [False, True])
def test_it_is_the_gradient_that_autograd_finds(rows: bool) -> None:
    rng = torch.Generator().manual_seed(0)
    h, weight = torch.randn(7, 5, generator=rng).double(), torch.randn(4, 5, generator=rng).double()
    y = torch.rand(7, 4, generator=rng).double().softmax(1) if rows else torch.randint(4, (7,), generator=rng)
    layer = nn.Linear(5, 4).double()
    with torch.no_grad():
        layer.weight.copy_(weight)
        layer.bias.zero_()
    by_weight, by_bias = torch.autograd.grad(nn.functional.cross_entropy(layer(h), y), list(layer.parameters()))
    torch.testing.assert_close(linear_gradient(h, y, weight), torch.cat([by_weight, by_bias[:, None]], 1))


def test_a_known_case() -> None:
    """Two samples of two classes under a classifier of zeros: softmax is one half, so half of the difference."""
    found = linear_gradient(torch.tensor([[2.0], [6.0]]), torch.tensor([0, 1]), torch.zeros(2, 1))
    torch.testing.assert_close(found, torch.tensor([[1.0, 0.0], [-1.0, 0.0]]))


def test_its_slopes_are_right() -> None:
    rng = torch.Generator().manual_seed(1)
    h = torch.randn(3, 4, generator=rng).double().requires_grad_()
    y = torch.rand(3, 2, generator=rng).double().requires_grad_()
    weight = torch.randn(2, 4, generator=rng).double()
    assert torch.autograd.gradcheck(lambda a, b: linear_gradient(a, b, weight), (h, y))
