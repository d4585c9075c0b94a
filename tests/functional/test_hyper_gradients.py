"""Hyper-gradients against finite differences of trainings, unrolled training, the closed form, and a number by hand."""

import re

import pytest
import torch
from torch import Tensor
from torch.func import grad, jacrev

from potstill.errors import NonFiniteError
from potstill.functional.hyper_gradients import (
    ConjugateGradients,
    Exact,
    Loss,
    Neumann,
    Solver,
    cosine_distance,
    hyper_gradient,
    moved_hyper_gradient,
    ridge_weights_by_decay,
    sensitivity,
)
from potstill.functional.linear_solvers import conjugate_gradients, neumann_series


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


X, Y, X_VAL, Y_VAL = draw(12, 4, seed=1), draw(12, 3, seed=2), draw(7, 4, seed=3), draw(7, 3, seed=4)
LAM = torch.tensor([-1.0, 0.5], dtype=torch.float64)


def hidden(theta: Tensor, x: Tensor) -> Tensor:
    """A network with one hidden layer of 3 tanh units that differ: the minimum is not flat."""
    return torch.tanh(x @ theta[:12].view(4, 3) + torch.tensor([-1.0, 0.0, 1.0])) @ theta[12:].view(3, 3)


def train_loss(theta: Tensor, lam: Tensor) -> Tensor:
    penalty = lam[0].exp() * theta[:12].square().sum() + lam[1].exp() * theta[12:].square().sum()
    return (hidden(theta, X) - Y).square().mean() + 0.1 * penalty


def validation_loss(theta: Tensor, lam: Tensor) -> Tensor:
    return (hidden(theta, X_VAL) - Y_VAL).square().mean() + 0.01 * lam.sum() * theta.sum()


def trained(lam: Tensor, steps: int = 500, rate: float = 1.2) -> Tensor:
    """Return the minimum by gradient descent, from the same start: the naive reference."""
    theta = 0.5 * draw(21, seed=5)
    for _ in range(steps):
        theta = theta.detach().requires_grad_()
        (slope,) = torch.autograd.grad(train_loss(theta, lam), theta)
        theta = theta - rate * slope
    return theta.detach()


@pytest.fixture(scope="module")
def minimum() -> Tensor:
    theta = trained(LAM)
    assert float(grad(train_loss)(theta, LAM).norm()) < 1e-10
    return theta


def test_finite_differences_of_whole_trainings_agree(minimum: Tensor) -> None:
    step, expected = 1e-4, []
    for n in range(2):
        moved = [LAM + sign * step * torch.eye(2, dtype=torch.float64)[n] for sign in (1, -1)]
        up, down = (validation_loss(trained(lam), lam) for lam in moved)
        expected.append((up - down) / (2 * step))
    found = hyper_gradient(train_loss, validation_loss, minimum, LAM, Exact())
    assert torch.allclose(found, torch.stack(expected), rtol=1e-5, atol=1e-8)


def test_unrolled_training_agrees(minimum: Tensor) -> None:
    """Steps from the minimum, differentiated one through the other: their limit is the implicit gradient."""
    lam = LAM.clone().requires_grad_()
    theta = minimum
    for _ in range(300):
        theta = theta - 1.2 * grad(train_loss)(theta, lam)
    (unrolled,) = torch.autograd.grad(validation_loss(theta, lam), lam)
    found = hyper_gradient(train_loss, validation_loss, minimum, LAM, Exact())
    assert torch.allclose(found, unrolled, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize(
    ("solver", "tolerance"), [(ConjugateGradients(steps=60), 1e-7), (Neumann(steps=400, rate=1.2), 1e-6)]
)
def test_iterative_solvers_agree_with_the_exact_one(minimum: Tensor, solver: Solver, tolerance: float) -> None:
    for measured in (
        lambda s: hyper_gradient(train_loss, validation_loss, minimum, LAM, s),
        lambda s: sensitivity(train_loss, minimum, LAM, s),
    ):
        exact = measured(Exact())
        assert float((measured(solver) - exact).norm() / exact.norm()) < tolerance
    few = type(solver)(steps=1)
    exact = hyper_gradient(train_loss, validation_loss, minimum, LAM, Exact())
    assert float((hyper_gradient(train_loss, validation_loss, minimum, LAM, few) - exact).norm() / exact.norm()) > 0.01


def test_forward_and_reverse_give_the_same_gradient(minimum: Tensor) -> None:
    moved = sensitivity(train_loss, minimum, LAM, Exact())
    found = moved_hyper_gradient(validation_loss, minimum, LAM, moved)
    assert torch.allclose(found, hyper_gradient(train_loss, validation_loss, minimum, LAM, Exact()), atol=1e-12)


def test_the_gradient_by_validation_samples_is_that_of_finite_differences(minimum: Tensor) -> None:
    moved = sensitivity(train_loss, minimum, LAM, Exact())

    def distance(x: Tensor) -> Tensor:
        loss: Loss = lambda theta, lam: (hidden(theta, x) - Y_VAL).square().mean()  # noqa: E731
        return cosine_distance(moved_hyper_gradient(loss, minimum, LAM, moved), torch.tensor([1.0, 2.0]).double())

    assert torch.autograd.gradcheck(distance, (X_VAL.clone().requires_grad_(),), eps=1e-6, atol=1e-6)


def test_ridge_is_exact() -> None:
    lam = draw(4, seed=6)

    def loss(theta: Tensor, lam: Tensor) -> Tensor:
        weights = theta.view(4, 3)
        return ((X @ weights - Y).square().sum() / len(X) + (lam.exp()[:, None] * weights.square()).sum()) / 2

    theta = ridge_weights_by_decay(X, Y, lam.exp()).flatten()
    assert float(grad(loss)(theta, lam).norm()) < 1e-12
    closed = jacrev(lambda at: ridge_weights_by_decay(X, Y, at.exp()).flatten())(lam)
    assert torch.allclose(sensitivity(loss, theta, lam, Exact()), closed, atol=1e-10)


def test_a_number_by_hand() -> None:
    """θ = 1 / (1 + d) with d = exp λ = 1, and d/dλ of θ² / 2 is −θ d / (1 + d)² = −1/8."""
    one = torch.ones(1, dtype=torch.float64)
    found = hyper_gradient(
        lambda theta, lam: ((theta - 1).square() + lam.exp() * theta.square()).sum() / 2,
        lambda theta, lam: theta.square().sum() / 2, 0.5 * one, 0 * one, Exact(),
    )  # fmt: skip
    assert found.item() == pytest.approx(-0.125, abs=1e-15)
    pairs = torch.tensor([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0]]), torch.tensor([[3.0, 0.0], [0.0, 2.0], [-1.0, 0.0]])
    assert cosine_distance(*pairs).tolist() == pytest.approx([0, 1, 2])


def test_damping_is_added_to_the_hessian(minimum: Tensor) -> None:
    exact = sensitivity(train_loss, minimum, LAM, Exact(damping=0.3))
    assert not torch.allclose(exact, sensitivity(train_loss, minimum, LAM, Exact()), rtol=0.05)
    for solver in (ConjugateGradients(steps=60, damping=0.3), Neumann(steps=400, rate=1.2, damping=0.3)):
        assert torch.allclose(sensitivity(train_loss, minimum, LAM, solver), exact, atol=1e-6)


def test_a_series_that_diverges_is_refused(minimum: Tensor) -> None:
    with pytest.raises(NonFiniteError, match=re.escape("but Neumann found NaN or infinity; take a smaller rate")):
        hyper_gradient(train_loss, validation_loss, minimum, LAM, Neumann(steps=400, rate=50.0))


def test_conjugate_gradients_end_at_negative_curvature() -> None:
    m = torch.diag(torch.tensor([-1.0, 2.0], dtype=torch.float64))
    b = {"": torch.tensor([1.0, 0.0], dtype=torch.float64)}
    assert conjugate_gradients(lambda v: {"": m @ v[""]}, b, 5)[""].tolist() == [0, 0]


def test_the_series_is_the_truncated_sum() -> None:
    m, b, rate = torch.tensor([[2.0, 0.5], [0.5, 1.0]]).double(), torch.tensor([1.0, -1.0]).double(), 0.25
    step = torch.eye(2).double() - rate * m
    expected = rate * sum((torch.linalg.matrix_power(step, i) @ b for i in range(4)), torch.zeros(2).double())
    assert torch.allclose(neumann_series(lambda v: {"": m @ v[""]}, {"": b}, 3, rate)[""], expected)
