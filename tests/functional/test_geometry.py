"""Medians, density, moderation, divergences and coverage scores against naive or by-hand versions."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from potstill.errors import PotstillError
from potstill.functional.coreset import k_center
from potstill.functional.distances import cluster_sums, nearest_centres
from potstill.functional.geometry import (
    divergence_center,
    geometric_medians,
    graph_density,
    k_median,
    moderate,
    zcore_scores,
)
from potstill.functional.neighbours import neighbours, symmetric_graph
from potstill.rng import generator


def points(seed: int, n: int = 50, d: int = 3) -> torch.Tensor:
    return torch.randn(n, d, generator=generator(seed, "points"), dtype=torch.float64)


def distances(x: torch.Tensor) -> torch.Tensor:
    return torch.stack([(x - row).norm(dim=1) for row in x])


def test_sums_and_nearest_centres_are_those_of_a_loop() -> None:
    x = points(0)
    centres = points(1, n=4)
    owner, gap = nearest_centres(x, centres)
    for i, row in enumerate(x):
        away = [float((row - c).square().sum()) for c in centres]
        assert int(owner[i]) == away.index(min(away))
        assert float(gap[i]) == pytest.approx(min(away))
    weights = torch.rand(50, generator=generator(2), dtype=torch.float64)
    total = torch.stack([(weights[owner == c, None] * x[owner == c]).sum(0) for c in range(6)])
    torch.testing.assert_close(cluster_sums(x, owner, 6, weights), total)


@given(st.integers(0, 300))
@settings(max_examples=15, deadline=None)
def test_one_median_is_the_best_sample(seed: int) -> None:
    x = points(seed)
    assert k_median(x, 1, generator(seed)).tolist() == [int(distances(x).sum(0).argmin())]


def test_the_geometric_median_is_where_unit_vectors_cancel_and_outliers_do_not_move_it() -> None:
    x = points(1, n=201, d=2)
    centre, _ = geometric_medians(x, 1, generator(0), 1000)
    away = x - centre
    assert float((away / away.norm(dim=1, keepdim=True)).sum(0).norm()) < 1.0
    far = torch.cat([x, torch.full((40, 2), 1e6, dtype=torch.float64)])
    moved, _ = geometric_medians(far, 1, generator(0), 1000)
    assert float((moved - centre).norm()) < 2.0 < float((far.mean(0) - centre).norm())


def test_k_median_finds_groups_and_is_near_the_best_of_all_sets() -> None:
    centres = torch.tensor([[0.0, 0.0], [20.0, 0.0], [0.0, 20.0]], dtype=torch.float64)
    x = centres.repeat_interleave(10, 0) + points(1, n=30, d=2)
    assert sorted(i // 10 for i in k_median(x, 3, generator(0)).tolist()) == [0, 1, 2]
    gaps = []
    for seed in range(20):
        x = points(seed, n=10, d=2)
        d = distances(x)
        best = min(float(d[:, s].min(1).values.sum()) for s in itertools.combinations(range(10), 3))
        gaps.append(float(d[:, k_median(x, 3, generator(seed))].min(1).values.sum()) / best)
    assert sum(gaps) / len(gaps) < 1.15
    assert min(gaps) >= 1 - 1e-9


def test_k_median_with_fewer_distinct_rows_than_asked() -> None:
    x = torch.tensor([[0.0], [0.0], [0.0], [4.0]])
    assert len(set(k_median(x, 4, generator(0)).tolist())) == 4


@given(st.integers(0, 500))
@settings(max_examples=15, deadline=None)
def test_density_is_ralfs_rule_on_the_whole_matrix(seed: int) -> None:
    x = points(seed)
    graph = symmetric_graph(neighbours(x, 5, metric="l1"))
    away = torch.stack([(x - row).abs().sum(1) for row in x])
    joined = torch.zeros(50, 50, dtype=torch.bool)
    for i in range(50):
        others = sorted((float(away[i, j]), j) for j in range(50) if j != i)[:5]
        for _, j in others:
            joined[i, j] = joined[j, i] = True
    for sigma in (None, 0.8):
        scale = float(away[joined].mean()) if sigma is None else 2 * sigma**2
        density = (torch.exp(-away / scale) * joined).sum(1) / joined.sum(1)
        order: list[int] = []
        for _ in range(12):
            best = max((i for i in range(50) if i not in order), key=lambda i: float(density[i]))
            order.append(best)
            density = density - max(float(density[best]), 0.0) * joined[best]
        assert graph_density(graph, 12, sigma).tolist() == order
        assert graph_density(graph, 5, sigma).tolist() == order[:5]


def test_moderate_keeps_the_median_distance() -> None:
    x = torch.tensor([[-10.0], [-4.0], [-1.0], [0.0], [2.0], [3.0], [10.0]])  # the mean is 0; distances 10 4 1 0 2 3 10
    assert moderate(x, 3).tolist() == [5, 1, 4]
    x = points(3)
    away = (x - x.mean(0)).norm(dim=1)
    middle = sorted(away.tolist())[24]
    assert moderate(x, 50).tolist() == sorted(range(50), key=lambda i: (abs(float(away[i]) - middle), i))


@given(st.integers(0, 500))
@settings(max_examples=15, deadline=None)
def test_divergence_center_is_the_naive_traversal(seed: int) -> None:
    p = points(seed, d=4).softmax(1)

    def away(a: torch.Tensor, b: torch.Tensor) -> float:
        return float((a * (a / b).log()).sum() + (b * (b / a).log()).sum()) / 2

    order = [min(range(50), key=lambda i: away(p[i], p.mean(0)))]
    while len(order) < 10:
        left = [i for i in range(50) if i not in order]
        order.append(max(left, key=lambda i: min(away(p[i], p[j]) for j in order)))
    assert divergence_center(p.log(), 10).tolist() == order
    assert divergence_center(p.log(), 4).tolist() == order[:4]


def naive_zcore(x: torch.Tensor, seed: int, samples: int, together: int, k: int, exponent: float) -> torch.Tensor:
    """The published rule, sample by sample and row by row, on the same draws."""
    n, d = x.shape
    rng = generator(seed)
    score = torch.rand(n, generator=rng, dtype=torch.float64)
    made = 0
    while made < samples:
        count = min(together, samples - made)
        made += count
        dims = torch.randperm(d, generator=rng)[:2].tolist()
        u = torch.rand(count, 2, generator=rng, dtype=torch.float64)
        for draw in u:
            point = []
            for dim, v in zip(dims, draw.tolist(), strict=True):
                column = sorted(x[:, dim].tolist())
                a, c, b = column[0], column[(n - 1) // 2], column[-1]
                low = v < (c - a) / (b - a)
                side = a + math.sqrt(v * (b - a) * (c - a)) if low else b - math.sqrt((1 - v) * (b - a) * (b - c))
                point.append(side)

            def away(i: int, to: list[float], dims: list[int] = dims) -> float:
                return sum(abs(float(x[i, dim]) - t) for dim, t in zip(dims, to, strict=True))

            best = min(range(n), key=lambda i: away(i, point))
            score[best] += 1
            others = sorted((away(i, x[best, dims].tolist()), i) for i in range(n) if i != best)[:k]
            whole = sum(g**-exponent for g, _ in others)
            for g, i in others:
                score[i] -= g**-exponent / whole
    return score


def test_zcore_is_the_published_rule() -> None:
    x = points(2, d=5)
    for together, k in ((1, 49), (7, 10)):
        found = zcore_scores(x, generator(4), samples=40, neighbours=k, draws_per_tree=together)
        torch.testing.assert_close(found, naive_zcore(x, 4, 40, together, k, 4.0))
    assert torch.equal(
        zcore_scores(x, generator(4), samples=40, draws_per_tree=7),
        zcore_scores(x, generator(4), samples=40, draws_per_tree=7),
    )


def test_zcore_takes_from_a_duplicate_what_its_twin_wins() -> None:
    x = torch.tensor([[0.0, 0.0], [0.0, 0.0], [9.0, 9.0], [8.0, 7.0]])
    rng = generator(0)
    begin = torch.rand(4, generator=rng, dtype=torch.float64)
    score = zcore_scores(x, generator(0), samples=200) - begin
    assert float(score[:2].sum()) == pytest.approx(0, abs=0.5 * 200)  # what one twin wins the other loses
    assert float(score.sum()) == pytest.approx(0, abs=1e-9)


def test_k_center_lies_within_twice_the_best_radius() -> None:
    for seed in range(20):
        x = points(seed, n=10, d=2)
        d = distances(x)
        for m in (2, 3):
            best = min(float(d[:, s].min(1).values.max()) for s in itertools.combinations(range(10), m))
            assert float(d[:, k_center(x, m)].min(1).values.max()) <= 2 * best + 1e-12


def test_too_many_are_refused() -> None:
    x = torch.ones(3, 2)
    graph = symmetric_graph(neighbours(points(0, n=3), 1))
    for ask in (
        lambda: k_median(x, 4, generator(0)),
        lambda: moderate(x, 0),
        lambda: divergence_center(x, 4),
        lambda: graph_density(graph, 4),
    ):
        with pytest.raises(PotstillError, match="can have 1 to 3 samples"):
            ask()
