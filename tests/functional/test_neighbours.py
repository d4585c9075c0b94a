"""Neighbours against all distances, recall of the approximate searches, and the graph that neighbours make."""

import sys

import pytest
import torch

from potstill.errors import PotstillError
from potstill.functional import neighbours as module
from potstill.functional.neighbours import Neighbours, neighbours, symmetric_graph
from potstill.rng import generator


def points(seed: int, n: int = 50, d: int = 5) -> torch.Tensor:
    return torch.randn(n, d, generator=generator(seed, "points"), dtype=torch.float64)


def grouped(n: int, d: int = 16) -> torch.Tensor:
    centres = 3 * points(1, n=12, d=d)
    return (centres[torch.arange(n) % 12] + points(2, n=n, d=d)).float()


def reference(x: torch.Tensor, k: int, p: float) -> tuple[list[list[int]], torch.Tensor]:
    found, away = [], []
    for i in range(len(x)):
        gaps = [(float(((x[i] - x[j]).abs() ** p).sum() ** (1 / p)), j) for j in range(len(x)) if j != i]
        found.append([j for _, j in sorted(gaps)[:k]])
        away.append([g for g, _ in sorted(gaps)[:k]])
    return found, torch.tensor(away, dtype=x.dtype)


@pytest.mark.parametrize(("metric", "p"), [("l2", 2.0), ("l1", 1.0)])
def test_exact_neighbours_are_those_of_all_distances(metric: str, p: float) -> None:
    x = points(0)
    index, distance = reference(x, 7, p)
    found = neighbours(x, 7, metric=metric)
    assert found.others.tolist() == index
    torch.testing.assert_close(found.distance, distance)


def test_chunks_do_not_change_neighbours(monkeypatch: pytest.MonkeyPatch) -> None:
    x = grouped(300)
    whole = neighbours(x, 5), neighbours(x, 5, search="cells", rng=generator(0))
    for where in (module, sys.modules["potstill.functional.distances"]):
        monkeypatch.setattr(where, "CHUNK", 400)
    assert torch.equal(whole[0].others, neighbours(x, 5).others)
    parts = neighbours(x, 5, search="cells", rng=generator(0))
    assert float((whole[1].others == parts.others).float().mean()) > 0.99


@pytest.mark.parametrize("search", ["cells", "faiss"])
def test_approximate_searches_find_nearly_all_and_the_same_again(search: str) -> None:
    if search == "faiss":
        pytest.importorskip("faiss")
    x = grouped(3000)
    exact = neighbours(x, 5).others
    found = neighbours(x, 5, search=search, rng=generator(3))
    hits = sum(len(set(a) & set(b)) for a, b in zip(exact.tolist(), found.others.tolist(), strict=True))
    assert hits / exact.numel() > 0.9
    assert bool((found.others != torch.arange(3000).unsqueeze(1)).all())
    assert torch.equal(found.others, neighbours(x, 5, search=search, rng=generator(3)).others)
    assert bool((found.distance.diff(dim=1) >= 0).all())


def test_cells_with_fewer_rows_than_neighbours_are_completed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PROBES", 1)
    x = torch.cat([grouped(40), grouped(40) + 1000])
    found = neighbours(x, 45, search="cells", rng=generator(0))
    assert [set(row) for row in found.others.tolist()] == [set(row) for row in neighbours(x, 45).others.tolist()]


def test_equal_rows_are_at_zero() -> None:
    x = points(3, n=6).float() + 1e4
    x = torch.cat([x, x])
    found = neighbours(x, 1)
    assert found.others.flatten().tolist() == [6, 7, 8, 9, 10, 11, 0, 1, 2, 3, 4, 5]
    assert float(found.distance.max()) == 0.0


def test_the_graph_joins_both_ways_and_once() -> None:
    index, distance = torch.tensor([[1], [0], [1], [0]]), torch.tensor([[1.0], [1.0], [2.0], [3.0]])
    graph = symmetric_graph(Neighbours(index, distance))
    assert graph.offset.tolist() == [0, 2, 4, 5, 6]
    assert graph.target.tolist() == [1, 3, 0, 2, 1, 0]
    assert graph.distance.tolist() == [1.0, 3.0, 1.0, 2.0, 2.0, 3.0]


def test_what_cannot_be_found_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    x = points(0, n=4)
    with pytest.raises(PotstillError, match="1 to 3 neighbours among 4 rows, but 4"):
        neighbours(x, 4)
    with pytest.raises(PotstillError, match="'cells' measures l2 distances only"):
        neighbours(x, 2, search="cells", metric="l1", rng=generator(0))
    with pytest.raises(PotstillError, match="give it a generator"):
        neighbours(x, 2, search="cells")
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(PotstillError, match=r"pip install 'potstill\[neighbours\]'"):
        neighbours(x, 2, search="faiss", rng=generator(0))
