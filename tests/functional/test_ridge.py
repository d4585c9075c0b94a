"""Closed forms: against inverses, both forms, gradients, and matrices that have none."""

import math

import pytest
import torch

from potstill.errors import NonFiniteError
from potstill.functional.ridge import predict, ridge_weights, solve


def _kernel(n: int, d: int = 9, seed: int = 0) -> torch.Tensor:
    x = torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return x @ x.T


def test_it_is_the_inverse_with_a_ridge_relative_to_the_trace() -> None:
    k, y = _kernel(6), _kernel(6, seed=1)[:, :3]
    by_hand = torch.linalg.inv(k + 0.1 * k.trace() / 6 * torch.eye(6, dtype=torch.float64)) @ y
    assert torch.allclose(solve(k, y, 0.1), by_hand, rtol=1e-12, atol=1e-12)
    assert torch.allclose(solve(1000 * k, y, 0.1), by_hand / 1000, rtol=1e-12, atol=1e-15)
    k_ts = _kernel(8)[:2, :6]
    assert torch.allclose(predict(k_ts, k, y, 0.1), k_ts @ by_hand, rtol=1e-12, atol=1e-12)
    assert torch.allclose(predict(k, k, y, 0.0), y, rtol=1e-9, atol=1e-9)
    assert solve(k.float(), y.float(), 0.1).dtype == torch.float64


def test_golden_numbers() -> None:
    k = torch.tensor([[2.0, 1.0], [1.0, 2.0]])
    y = torch.tensor([[1.0], [0.0]])
    assert solve(k, y, 0.0).flatten().tolist() == pytest.approx([2 / 3, -1 / 3], abs=1e-15)
    assert solve(k, y, 0.5).flatten().tolist() == pytest.approx([3 / 8, -1 / 8], abs=1e-15)  # λ = 1


@pytest.mark.parametrize(("n", "d"), [(4, 9), (9, 9), (40, 9)])
def test_the_primal_form_has_the_weights_of_the_dual_one(n: int, d: int) -> None:
    g = torch.Generator().manual_seed(n)
    x, y = torch.randn(n, d, generator=g).double(), torch.randn(n, 2, generator=g).double()
    dual = x.T @ solve(x @ x.T, y, 1e-3)
    assert torch.allclose(ridge_weights(x, y, 1e-3), dual, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("n", [3, 12])
def test_gradients_by_features_and_targets(n: int) -> None:
    g = torch.Generator().manual_seed(n)
    x = torch.randn(n, 5, generator=g, dtype=torch.float64, requires_grad=True)
    y = torch.randn(n, 2, generator=g, dtype=torch.float64, requires_grad=True)
    t = torch.randn(4, 5, generator=g, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x, y: predict(t @ x.T, x @ x.T, y, 0.05), (x, y))
    assert torch.autograd.gradcheck(lambda x, y: ridge_weights(x, y, 0.05), (x, y))


def test_two_equal_items_are_solved_with_a_larger_ridge() -> None:
    x = torch.randn(5, 9, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x = torch.cat([x, x[:2]])
    y = torch.eye(7, dtype=torch.float64)[:, :5]
    y[5:] = y[:2]
    found = predict(x @ x.T, x @ x.T, y, 0.0)
    assert torch.allclose(found, y, atol=1e-3)
    two = torch.ones(2, 2, dtype=torch.float64)
    assert torch.allclose(predict(two, two, torch.tensor([[1.0], [1.0]]), 0.0), torch.ones(2, 1).double(), atol=1e-6)


def test_what_has_no_solution_is_refused_in_one_line() -> None:
    y = torch.ones(2, 1)
    cases = {
        "hold NaN or infinity": torch.tensor([[1.0, math.nan], [math.nan, 1.0]]),
        "diagonal above 0": torch.zeros(2, 2),
        "singular even with a ridge": torch.tensor([[1.0, 3.0], [3.0, 1.0]]),
    }
    for said, k in cases.items():
        with pytest.raises(NonFiniteError, match=said) as refused:
            solve(k, y, 0.0)
        assert "of 2 items" in str(refused.value)
        assert "\n" not in str(refused.value)
    with pytest.raises(NonFiniteError, match="hold NaN or infinity"):
        solve(torch.eye(2), torch.tensor([[math.inf], [0.0]]))
