"""Equal and nearly equal rows that were planted are found, and no others."""

import pytest
import torch

from potstill.functional import duplicates
from potstill.functional.duplicates import Digests, near_duplicates
from potstill.rng import generator


def test_equal_samples_point_to_the_first() -> None:
    x = torch.rand(6, 1, 2, 2, generator=generator(0))
    x[3], x[5] = x[1], x[1]
    found = Digests(6)
    found.add(torch.tensor([4, 0, 5]), x[[4, 0, 5]])  # as a pass over a disk may find them
    found.add(torch.tensor([3, 2, 1]), x[[3, 2, 1]])
    assert found.first_positions().tolist() == [0, 1, 2, 1, 4, 1]


def planted(n: int) -> tuple[torch.Tensor, list[int]]:
    x = torch.randn(n, 24, generator=generator(1))
    twins = list(range(0, n, n // 20))[:20]
    others = [t + 7 for t in twins]
    x[others] = x[twins] + 0.02 * torch.randn(20, 24, generator=generator(2))
    return x, sorted(twins + others)


@pytest.mark.parametrize("few", [10**9, 0])
def test_near_rows_are_found_by_pairs_and_by_hashing(few: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duplicates, "_FEW", few)
    x, expected = planted(1500)
    assert near_duplicates(x).nonzero().flatten().tolist() == expected
    assert near_duplicates(x * 1e3 + 50).nonzero().flatten().tolist() == expected  # a matter of shape, not of units
    assert not bool(near_duplicates(torch.randn(400, 24, generator=generator(3))).any())


def test_rows_that_all_coincide_are_all_near_and_one_row_is_not() -> None:
    assert near_duplicates(torch.ones(4, 3)).tolist() == [True] * 4
    assert near_duplicates(torch.ones(1, 3)).tolist() == [False]
