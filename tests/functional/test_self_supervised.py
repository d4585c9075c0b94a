"""The loss of Barlow Twins: against loops, a number worked out by hand, and its gradient."""

import math

import pytest
import torch

from potstill.functional.self_supervised import barlow_twins_loss, cross_correlation


def naive_correlation(a: list[list[float]], b: list[list[float]]) -> list[list[float]]:
    """Pearson's correlation of every column with every column, one number at a time; 1e-5 beside the variances."""
    n, d = len(a), len(a[0])

    def column(rows: list[list[float]], j: int) -> list[float]:
        values = [row[j] for row in rows]
        mean = sum(values) / n
        spread = math.sqrt(sum((v - mean) ** 2 for v in values) / n + 1e-5)
        return [(v - mean) / spread for v in values]

    return [
        [sum(p * q for p, q in zip(column(a, i), column(b, j), strict=True)) / n for j in range(d)] for i in range(d)
    ]


def naive_loss(a: list[list[float]], b: list[list[float]], weight: float) -> float:
    c = naive_correlation(a, b)
    return sum(
        (1 - value) ** 2 if i == j else weight * value**2 for i, row in enumerate(c) for j, value in enumerate(row)
    )


def test_the_loss_is_that_of_the_loops() -> None:
    rng = torch.Generator().manual_seed(0)
    a, b = (torch.randn(7, 4, generator=rng, dtype=torch.float64) * 3 + 1 for _ in range(2))
    torch.testing.assert_close(
        cross_correlation(a, b), torch.tensor(naive_correlation(a.tolist(), b.tolist())).double()
    )
    assert float(barlow_twins_loss(a, b, 0.3)) == pytest.approx(naive_loss(a.tolist(), b.tolist(), 0.3), rel=1e-9)


def test_golden() -> None:
    """Columns (1, −1) and (1, −1) of both views: all four correlations are 1 / (1 + 1e-5), by hand."""
    a = torch.tensor([[1.0, 1.0], [-1.0, -1.0]], dtype=torch.float64)
    c = 1 / 1.00001
    assert float(barlow_twins_loss(a, a, 0.25)) == pytest.approx(2 * (1 - c) ** 2 + 0.25 * 2 * c**2, rel=1e-12)
    assert float(barlow_twins_loss(a, -a, 0.25)) == pytest.approx(2 * (1 + c) ** 2 + 0.25 * 2 * c**2, rel=1e-12)


def test_scale_and_shift_change_nothing_and_swapped_views_neither() -> None:
    rng = torch.Generator().manual_seed(1)
    a, b = (torch.randn(50, 3, generator=rng, dtype=torch.float64) for _ in range(2))
    once = barlow_twins_loss(a, b)
    torch.testing.assert_close(barlow_twins_loss(b, a), once)
    torch.testing.assert_close(barlow_twins_loss(100 * a + 7, 100 * b - 3), once, rtol=1e-4, atol=1e-4)


def test_gradient() -> None:
    rng = torch.Generator().manual_seed(2)
    a, b = (torch.randn(5, 3, generator=rng, dtype=torch.float64).requires_grad_() for _ in range(2))
    assert torch.autograd.gradcheck(barlow_twins_loss, (a, b))
