"""Distances between sets of features, each beside a naive way to the same, and where they are known."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import linalg

from potstill.functional.sample_quality import compare_manifolds, frechet_distance, kernel_distance
from potstill.rng import generator


def rows(n: int, d: int, seed: int = 0, shift: float = 0.0) -> torch.Tensor:
    rng = generator(seed)
    return torch.randn(n, d, generator=rng, dtype=torch.float64) @ torch.diag(torch.arange(1.0, d + 1).double()) + shift


@pytest.mark.parametrize(("n", "m", "d"), [(40, 60, 5), (6, 9, 30), (6, 50, 20)])
def test_the_frechet_distance_is_that_of_the_square_root_of_a_matrix(n: int, m: int, d: int) -> None:
    x, y = rows(n, d), rows(m, d, 1, 0.5)
    c_x, c_y = (np.atleast_2d(np.cov(v.numpy(), rowvar=False)) for v in (x, y))
    root = linalg.sqrtm(c_x @ c_y)
    naive = ((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(c_x + c_y - 2 * np.real(root))
    assert frechet_distance(x, y) == pytest.approx(float(naive), rel=1e-4)


def test_the_frechet_distance_of_diagonal_covariances_is_known() -> None:
    base = torch.tensor([[1.0, 0], [-1, 0], [0, 1], [0, -1]], dtype=torch.float64)
    x, y = base * math.sqrt(1.5), base * 2 * math.sqrt(1.5) + torch.tensor([3.0, 4.0], dtype=torch.float64)
    assert frechet_distance(x, y) == pytest.approx(25 + 2 * (1 - 2) ** 2)
    assert frechet_distance(x, x) == pytest.approx(0, abs=1e-12)


def test_the_kernel_distance_is_the_mean_over_pairs() -> None:
    x, y = rows(7, 4), rows(5, 4, 1)

    def kernel(a: torch.Tensor, b: torch.Tensor) -> float:
        return (float(a @ b) / 4 + 1) ** 3

    within = [
        sum(kernel(v[i], v[j]) for i in range(len(v)) for j in range(len(v)) if i != j) / (len(v) * (len(v) - 1))
        for v in (x, y)
    ]
    across = sum(kernel(a, b) for a in x for b in y) / 35
    assert kernel_distance(x, y) == pytest.approx(sum(within) - 2 * across, rel=1e-12)


def test_it_is_0_on_average_for_samples_of_one_distribution_and_above_for_others() -> None:
    every = [kernel_distance(rows(20, 3, 2 * n), rows(30, 3, 2 * n + 1)) for n in range(200)]
    mean, error = np.mean(every), np.std(every) / math.sqrt(200)
    assert abs(mean) < 3 * error
    assert kernel_distance(rows(20, 3), rows(30, 3, 1, 4.0)) > 10 * np.std(every)


@given(st.integers(0, 1000), st.integers(1, 3), st.integers(4, 12), st.integers(5, 12))
@settings(max_examples=30, deadline=None)
def test_overlaps_are_counts_of_balls(seed: int, k: int, n: int, m: int) -> None:
    items, real = rows(n, 2, seed), rows(m, 2, seed + 1)
    found = compare_manifolds(items, real, k)

    def radius(v: torch.Tensor, i: int) -> float:
        return sorted(float((v[i] - v[j]).norm()) for j in range(len(v)) if j != i)[k - 1]

    gaps = [[float((a - b).norm()) for a in items] for b in real]
    balls, own = [radius(real, j) for j in range(m)], [radius(items, i) for i in range(n)]
    inside = [[gaps[j][i] <= balls[j] + 1e-9 for i in range(n)] for j in range(m)]
    assert found.precision == pytest.approx(sum(any(inside[j][i] for j in range(m)) for i in range(n)) / n)
    assert found.coverage == pytest.approx(sum(map(any, inside)) / m)
    assert found.density == pytest.approx(sum(map(sum, inside)) / (n * k))
    assert found.recall == pytest.approx(sum(any(gaps[j][i] <= own[i] + 1e-9 for i in range(n)) for j in range(m)) / m)


def test_too_few_rows_are_refused() -> None:
    one, many = rows(1, 3), rows(9, 3)
    for distance in (frechet_distance, kernel_distance):
        with pytest.raises(ValueError, match="two rows"):
            distance(one, many)
    with pytest.raises(ValueError, match="need more rows"):
        compare_manifolds(many, many, 9)
