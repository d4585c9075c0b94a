"""Greedy choices against exhaustive and step-by-step references, and the bounds that are promised."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from potstill.errors import PotstillError
from potstill.functional import submodular
from potstill.functional.neighbours import neighbours
from potstill.functional.submodular import facility_location, facility_location_sparse, graph_cut, row_similarity
from potstill.rng import generator

KERNELS = ("cosine", "rbf")


def points(seed: int, n: int = 50, d: int = 4) -> torch.Tensor:
    return torch.randn(n, d, generator=generator(seed, "points"), dtype=torch.float64)


def matrix(x: torch.Tensor, kernel: str) -> torch.Tensor:
    """All similarities, pair by pair."""
    if kernel == "cosine":
        return torch.stack([(1 + torch.cosine_similarity(row, x, dim=1)) / 2 for row in x])
    away = torch.stack([((row - x) ** 2).sum(1) for row in x])
    return torch.exp(-away / away.mean())


def served(k: torch.Tensor, chosen: list[int]) -> float:
    return float(k[:, chosen].max(1).values.sum()) if chosen else 0.0


def cut(k: torch.Tensor, chosen: list[int], weight: float = 2.0) -> float:
    return float(weight * k[:, chosen].sum() - k[chosen][:, chosen].sum())


def is_greedy(value, chosen: list[int], n: int = 50) -> bool:  # type: ignore[no-untyped-def]
    """Every element was as good as any that was left; two can tie, and rounding then decides."""
    steps = range(len(chosen))
    best = [max(value([*chosen[:t], i]) for i in range(n) if i not in chosen[:t]) for t in steps]
    return len(set(chosen)) == len(chosen) and all(value(chosen[: t + 1]) >= best[t] - 1e-9 for t in steps)


@pytest.mark.parametrize("kernel", KERNELS)
def test_similarities_are_those_of_the_formula(kernel: str) -> None:
    x = points(1)
    k = row_similarity(x, kernel)
    torch.testing.assert_close(k.of(slice(0, 50), torch.arange(50)), matrix(x, kernel))
    torch.testing.assert_close(k.totals(), matrix(x, kernel).sum(1))


@pytest.mark.parametrize("kernel", KERNELS)
@given(st.integers(0, 500))
@settings(max_examples=8, deadline=None)
def test_choices_are_the_naive_greedy_ones_and_prefixes_are_choices(kernel: str, seed: int) -> None:
    x = points(seed)
    k = matrix(x, kernel)
    found = facility_location(x, 9, kernel).tolist()
    assert is_greedy(lambda s: served(k, s), found)
    assert facility_location(x, 4, kernel).tolist() == found[:4]
    found = graph_cut(x, 9, kernel).tolist()
    assert is_greedy(lambda s: cut(k, s), found)
    assert graph_cut(x, 4, kernel).tolist() == found[:4]


@pytest.mark.parametrize("kernel", KERNELS)
def test_greedy_reaches_the_bound_of_the_best_and_the_best_itself_with_one_element_and_with_groups(kernel: str) -> None:
    bound = 1 - 1 / math.e
    for seed in range(20):
        x = points(seed, n=8, d=2)
        k = matrix(x, kernel)
        for m in (1, 2, 3, 4):
            sets = [list(s) for s in itertools.combinations(range(8), m)]
            best, best_cut = max(served(k, s) for s in sets), max(cut(k, s) for s in sets)
            found = served(k, facility_location(x, m, kernel).tolist())
            found_cut = cut(k, graph_cut(x, m, kernel).tolist())
            assert bound * best - 1e-9 <= found <= best + 1e-9
            assert bound * best_cut - 1e-9 <= found_cut <= best_cut + 1e-9
            if m == 1:
                assert found == pytest.approx(best)
                assert found_cut == pytest.approx(best_cut)
    corners = torch.tensor([[9.0, 0.0], [0.0, 9.0], [-9.0, 0.0], [0.0, -9.0]], dtype=torch.float64)
    x = corners.repeat_interleave(2, 0) + 0.1 * points(3, n=8, d=2)
    k = matrix(x, kernel)
    best = max(served(k, list(s)) for s in itertools.combinations(range(8), 4))
    assert served(k, facility_location(x, 4, kernel).tolist()) == pytest.approx(best)


def test_a_graph_cut_never_falls_with_weight_two_and_can_with_less() -> None:
    x = points(4, n=12)
    k = matrix(x, "cosine")
    order = graph_cut(x, 12).tolist()
    values = [cut(k, order[:m]) for m in range(1, 13)]
    assert all(b >= a - 1e-9 for a, b in itertools.pairwise(values))
    order = graph_cut(x, 12, weight=0.5).tolist()
    assert cut(k, order, 0.5) < max(cut(k, order[:m], 0.5) for m in range(1, 12))


@given(st.integers(0, 500))
@settings(max_examples=10, deadline=None)
def test_the_sparse_choice_is_naive_greedy_on_the_sparse_matrix(seed: int) -> None:
    x = points(seed)
    found = neighbours(x, 6)
    k = torch.eye(50, dtype=torch.float64)
    width = found.distance.square().mean()
    for i in range(50):
        for j, d in zip(found.others[i].tolist(), found.distance[i], strict=True):
            k[i, j] = torch.exp(-d * d / width)
    chosen = facility_location_sparse(found, 8).tolist()
    assert is_greedy(lambda s: served(k, s), chosen)
    assert facility_location_sparse(found, 3).tolist() == chosen[:3]


def test_stochastic_greedy_keeps_its_bound_on_average_and_is_repeated_by_its_generator() -> None:
    epsilon, ratios = 0.1, []
    for seed in range(30):
        x = points(seed, n=60)
        k = matrix(x, "rbf")
        drawn = facility_location(x, 6, "rbf", greedy="stochastic", epsilon=epsilon, rng=generator(seed)).tolist()
        again = facility_location(x, 6, "rbf", greedy="stochastic", epsilon=epsilon, rng=generator(seed)).tolist()
        assert drawn == again
        assert len(set(drawn)) == 6
        ratios.append(served(k, drawn) / served(k, facility_location(x, 6, "rbf").tolist()))
    assert sum(ratios) / len(ratios) >= 1 - epsilon
    assert min(ratios) >= 1 - 1 / math.e - epsilon
    everything = facility_location(x, 6, "rbf", greedy="stochastic", epsilon=1e-9, rng=generator(0)).tolist()
    assert everything == facility_location(x, 6, "rbf").tolist()


def test_lazy_greedy_evaluates_less_than_all() -> None:
    x = points(5, n=3000, d=3).float()
    asked: list[int] = []
    of = submodular.Similarity.of

    def counted(self, rows, columns):  # type: ignore[no-untyped-def]
        asked.append((rows.stop - rows.start) * len(columns) if len(columns) < 3000 and len(columns) > 1 else 0)
        return of(self, rows, columns)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(submodular.Similarity, "of", counted)
        facility_location(x, 20, "rbf")
    assert sum(asked) < 20 * 3000**2 / 2


def test_chunks_do_not_change_a_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    x = points(6)
    whole = facility_location(x, 9, "rbf"), graph_cut(x, 9, "rbf"), graph_cut(x, 9)
    monkeypatch.setattr(submodular, "CHUNK", 64)
    monkeypatch.setattr(submodular, "_BATCH", 5)
    assert all(
        torch.equal(a, b)
        for a, b in zip(whole, (facility_location(x, 9, "rbf"), graph_cut(x, 9, "rbf"), graph_cut(x, 9)), strict=True)
    )


def test_equal_rows_are_chosen_in_order_and_rows_of_zeros_are_allowed() -> None:
    for kernel in KERNELS:
        assert graph_cut(torch.ones(5, 2), 3, kernel).tolist() == [0, 1, 2]
        assert facility_location(torch.ones(5, 2), 3, kernel).tolist() == [0, 1, 2]
    assert len(set(facility_location(torch.zeros(4, 2), 4).tolist())) == 4


def test_what_cannot_be_chosen_is_refused() -> None:
    x = torch.ones(3, 2)
    for ask in (lambda: facility_location(x, 4), lambda: graph_cut(x, 0), lambda: facility_location(x, 0)):
        with pytest.raises(PotstillError, match="1 to 3 samples, but"):
            ask()
    with pytest.raises(PotstillError, match="give it a generator"):
        facility_location(x, 2, greedy="stochastic")
    with pytest.raises(PotstillError, match="epsilon must lie between 0 and 1"):
        facility_location(x, 2, greedy="stochastic", epsilon=1.0, rng=generator(0))
