"""Gains of labels: against gradients of single samples, finite differences, and numbers worked by hand."""

import math

import pytest
import torch
from torch import Tensor, nn

from potstill.errors import PotstillError
from potstill.functional.label_gains import adapted_labels, label_gains
from potstill.rng import generator

CLASSES = 4


def problem() -> tuple[nn.Module, Tensor, dict[str, Tensor], dict[str, Tensor]]:
    """A float64 network, five inputs, its parameters and the gradient of a validation loss."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 6), nn.Tanh(), nn.Linear(6, CLASSES)).double()
    rng = generator(0, "gains")
    x = torch.randn(5, 3, generator=rng, dtype=torch.float64)
    held, labels = torch.randn(8, 3, generator=rng, dtype=torch.float64), torch.arange(8) % CLASSES
    parameters = dict(network.named_parameters())
    loss = nn.functional.cross_entropy(network(held), labels)
    gradient = dict(zip(parameters, torch.autograd.grad(loss, list(parameters.values())), strict=True))
    return network, x, {name: p.detach() for name, p in parameters.items()}, gradient


def gains() -> Tensor:
    network, x, parameters, gradient = problem()
    return label_gains(lambda p: torch.func.functional_call(network, dict(p), (x,)), parameters, gradient)


def test_gains_are_products_of_two_gradients() -> None:
    network, x, _, gradient = problem()
    found = gains()
    for b in range(len(x)):
        for k in range(CLASSES):
            loss = nn.functional.cross_entropy(network(x[b : b + 1]), torch.tensor([k]))
            own = torch.autograd.grad(loss, list(network.parameters()))
            product = sum(float((g * v).sum()) for g, v in zip(own, gradient.values(), strict=True))
            assert float(found[b, k]) == pytest.approx(product, rel=1e-10)


def test_gains_are_how_much_a_small_step_lowers_the_validation_loss() -> None:
    """One step on sample b with label k, against the loss before: to first order."""
    network, x, parameters, gradient = problem()
    rng = generator(0, "gains")
    torch.randn(5, 3, generator=rng, dtype=torch.float64)
    held, labels = torch.randn(8, 3, generator=rng, dtype=torch.float64), torch.arange(8) % CLASSES

    def loss_at(p: dict[str, Tensor]) -> float:
        return float(nn.functional.cross_entropy(torch.func.functional_call(network, p, (held,)), labels))

    step, found = 1e-6, gains()
    for b, k in ((0, 1), (3, 2)):
        own = torch.autograd.grad(
            nn.functional.cross_entropy(network(x[b : b + 1]), torch.tensor([k])), list(network.parameters())
        )
        there = {name: p - step * g for (name, p), g in zip(parameters.items(), own, strict=True)}
        assert (loss_at(parameters) - loss_at(there)) / step == pytest.approx(float(found[b, k]), rel=1e-3, abs=1e-7)
    assert set(gradient) == set(parameters)


def test_the_greatest_gain_is_never_below_zero_so_that_free_labels_weigh_nothing_out() -> None:
    network, x, _, _ = problem()
    found = gains()
    probabilities = network(x).softmax(1)
    assert torch.allclose((probabilities * found).sum(1), torch.zeros(len(x), dtype=torch.float64), atol=1e-12)
    given = torch.eye(CLASSES, dtype=torch.float64)[torch.arange(5) % CLASSES]
    weights, labels = adapted_labels(found, given, pull=0.0, temperature=0.0)
    assert weights.tolist() == [1.0] * 5
    assert labels.argmax(1).tolist() == found.argmax(1).tolist()
    held_weights, _ = adapted_labels(found, given, fixed=True)
    assert 0 < int((held_weights == 0).sum()) < 5, "labels that stay can hurt"


def test_weights_and_labels_of_known_gains() -> None:
    # root mean square of the gains: sqrt((9 + 1 + 1 + 1) / 4) = sqrt(3)
    found = torch.tensor([[3.0, -1.0], [1.0, -1.0]], dtype=torch.float64)
    given = torch.tensor([[1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    weights, labels = adapted_labels(found, given, pull=2.0, temperature=0.5)
    first = 1 / (1 + math.exp(-(4 / math.sqrt(3) + 2) / 0.5))
    second = 1 / (1 + math.exp(-(2 / math.sqrt(3) - 2) / 0.5))
    assert labels[:, 0].tolist() == pytest.approx([first, second])
    # the gain of the second is second · 1 − (1 − second) = 2 · second − 1, below 0
    assert second < 0.5
    assert weights.tolist() == [2.0, 0.0]
    kept, same = adapted_labels(found, given, fixed=True)
    assert torch.equal(same, given)
    assert kept.tolist() == [2.0, 0.0]


def test_where_every_sample_would_be_left_out_all_count() -> None:
    found = torch.tensor([[-1.0, 0.5], [-2.0, 0.1]])
    weights, _ = adapted_labels(found, torch.tensor([[1.0, 0.0], [1.0, 0.0]]), fixed=True)
    assert weights.tolist() == [1.0, 1.0]


@pytest.mark.parametrize("bad", [{"pull": -1.0}, {"temperature": -0.1}])
def test_settings_below_zero_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(PotstillError, match="must be at least 0"):
        adapted_labels(torch.zeros(2, 2), torch.eye(2), **bad)
