"""Coresets against exhaustive references, on ties, and with duplicates."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from potstill.errors import PotstillError
from potstill.functional import coreset
from potstill.functional.coreset import herding, k_center, k_means, medoids
from potstill.rng import generator


def points(seed: int, n: int = 12, d: int = 3) -> torch.Tensor:
    return torch.randn(n, d, generator=generator(seed, "points"), dtype=torch.float64)


@given(st.integers(0, 500), st.integers(1, 12))
@settings(max_examples=30, deadline=None)
def test_herding_is_the_greedy_choice(seed: int, m: int) -> None:
    x = points(seed)
    chosen: list[int] = []
    for _ in range(m):
        left = [i for i in range(12) if i not in chosen]
        chosen.append(min(left, key=lambda i: float((x.mean(0) - x[[*chosen, i]].mean(0)).norm())))
    assert herding(x, m).tolist() == chosen


def test_herding_takes_the_nearest_first_and_brings_the_mean_near() -> None:
    x = torch.tensor([[0.0], [1.0], [5.0], [10.0]])
    assert herding(x, 1).tolist() == [2]  # the mean is 4; the farthest would be 3
    x = points(7, n=200, d=2)
    gap = [(x[herding(x, m)].mean(0) - x.mean(0)).norm() for m in (1, 20)]
    random = x[torch.randperm(200, generator=generator(7, "r"))[:20]].mean(0) - x.mean(0)
    assert gap[1] < gap[0]
    assert gap[1] < random.norm() / 4


@given(st.integers(0, 500), st.integers(1, 12))
@settings(max_examples=30, deadline=None)
def test_k_center_is_the_farthest_point_traversal(seed: int, m: int) -> None:
    x = points(seed)
    chosen = [min(range(12), key=lambda i: float((x[i] - x.mean(0)).norm()))]
    while len(chosen) < m:
        left = [i for i in range(12) if i not in chosen]
        chosen.append(max(left, key=lambda i: min(float((x[i] - x[j]).norm()) for j in chosen)))
    assert k_center(x, m).tolist() == chosen
    assert k_center(x, m, first=3)[0] == 3


def test_ties_go_to_the_lowest_index_and_duplicates_stay_distinct() -> None:
    same = torch.ones(5, 2)
    for choice in (herding(same, 4), k_center(same, 4), medoids(same, torch.ones(4, 2))):
        assert choice.tolist() == [0, 1, 2, 3]
    corners = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    assert herding(corners, 4).tolist() == [0, 1, 2, 3]
    assert k_center(corners, 2).tolist() == [0, 1]


def test_k_means_finds_well_separated_groups() -> None:
    rng = generator(1, "blobs")
    centres = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]])
    x = centres.repeat_interleave(20, 0) + 0.3 * torch.randn(60, 2, generator=rng)
    found, owner = k_means(x, 3, generator(2, "k"))
    for group in owner.reshape(3, 20):
        assert (group == group[0]).all()
    means = x.reshape(3, 20, 2).mean(1)
    torch.testing.assert_close(found[owner[::20]], means)
    picks = medoids(x, found)
    assert sorted((picks // 20).tolist()) == [0, 1, 2]
    assert torch.equal(found, k_means(x, 3, generator(2, "k"))[0])


@given(st.integers(0, 300), st.integers(1, 10))
@settings(max_examples=30, deadline=None)
def test_k_means_ends_in_a_fixed_point(seed: int, m: int) -> None:
    x = points(seed, n=25, d=2)
    found, owner = k_means(x, m, generator(seed, "k"), 200)
    nearest = torch.tensor([min(range(m), key=lambda c: float((row - found[c]).norm())) for row in x])
    assert torch.equal(owner, nearest)
    assert set(owner.tolist()) == set(range(m))
    torch.testing.assert_close(found, torch.stack([x[owner == c].mean(0) for c in range(m)]))


def test_k_means_with_fewer_distinct_rows_than_clusters() -> None:
    x = torch.tensor([[0.0], [0.0], [0.0], [4.0]])
    found, owner = k_means(x, 3, generator(0, "k"))
    assert sorted(set(found.flatten().tolist())) == [0.0, 4.0]
    torch.testing.assert_close(found[owner], x)
    assert len(set(medoids(x, found).tolist())) == 3


def test_an_emptied_cluster_takes_the_farthest_row() -> None:
    x = torch.tensor([[0.0], [1.0], [2.0], [9.0]])
    owner, gaps = torch.tensor([0, 0, 0, 0]), torch.tensor([3.0, 2.0, 1.0, 6.0])
    torch.testing.assert_close(coreset._move(x, owner, gaps, 2), torch.tensor([[1.0], [9.0]]))


def test_chunks_do_not_change_a_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    x = points(3, n=40, d=4).float()
    whole = herding(x, 9), k_center(x, 9), *k_means(x, 5, generator(0, "k"))
    monkeypatch.setattr(coreset, "_CHUNK", 12)
    parts = herding(x, 9), k_center(x, 9), *k_means(x, 5, generator(0, "k"))
    assert torch.equal(whole[0], parts[0])
    assert torch.equal(whole[1], parts[1])
    assert torch.equal(whole[3], parts[3])
    torch.testing.assert_close(whole[2], parts[2])


def test_too_many_are_refused() -> None:
    for ask in (lambda: herding(torch.ones(3, 1), 4), lambda: k_center(torch.ones(3, 1), 0)):
        with pytest.raises(PotstillError, match="can have 1 to 3 samples"):
            ask()
    with pytest.raises(PotstillError, match=r"first centre must be a row in 0…2"):
        k_center(torch.ones(3, 1), 1, first=3)


@given(st.integers(0, 300))
@settings(max_examples=15, deadline=None)
def test_large_features_get_the_same_choices_by_products(seed: int) -> None:
    x = points(seed, n=60, d=4) + 3
    small = herding(x, 9), k_center(x, 9), medoids(x, x[::7]), *k_means(x, 5, generator(0, "k"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(coreset, "_LARGE", 0)
        large = herding(x, 9), k_center(x, 9), medoids(x, x[::7]), *k_means(x, 5, generator(0, "k"))
    for a, b in zip(small, large, strict=True):
        torch.testing.assert_close(a, b)


def test_medoids_of_large_features_stay_distinct(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coreset, "_LARGE", 0)
    monkeypatch.setattr(coreset, "_CHUNK", 64)
    x = points(1, n=40, d=2)
    centroids = x.mean(0).repeat(15, 1)
    expected = (x - x.mean(0)).norm(dim=1).argsort()[:15]
    assert medoids(x, centroids).tolist() == expected.tolist()
