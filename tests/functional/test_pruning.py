"""What a score keeps: by hand, and coverage-centric selection against a plain loop of its algorithm."""

import math

import pytest
import torch

from potstill.errors import PotstillError
from potstill.functional.pruning import choose_by_score, clamp_infinite, proportional_counts
from potstill.rng import generator

HARD = torch.tensor([5.0, 1.0, 4.0, 2.0, 3.0])


def kept(m: int, keep: str, **more: float) -> list[int]:
    return choose_by_score(HARD, m, generator(0), keep=keep, **more).tolist()  # type: ignore[arg-type]


def test_the_ends_and_the_middle_by_hand() -> None:
    assert kept(2, "hardest") == [0, 2]
    assert kept(2, "easiest") == [1, 3]
    assert kept(1, "middle") == [4]
    assert set(kept(3, "middle")) == {3, 4, 2}


def test_the_cut_goes_first_but_never_below_the_budget() -> None:
    assert kept(2, "hardest", cut=0.4) == [4, 3]
    assert set(kept(5, "hardest", cut=0.4)) == set(range(5))
    assert set(kept(4, "easiest", cut=1.0)) == {1, 2, 3, 4}


def test_equals_are_drawn_and_every_one_can_be() -> None:
    same = torch.zeros(6)
    firsts = {int(choose_by_score(same, 1, generator(seed), keep="hardest")) for seed in range(60)}
    assert firsts == set(range(6))
    assert (
        choose_by_score(same, 3, generator(1), keep="hardest").tolist()
        == choose_by_score(same, 3, generator(1), keep="hardest").tolist()
    )


def test_strata_get_equal_shares_as_in_the_published_algorithm() -> None:
    rng = torch.Generator().manual_seed(4)
    hardness = torch.cat([torch.rand(100, generator=rng), 3 + torch.rand(30, generator=rng), torch.tensor([9.0] * 4)])
    for m in (1, 7, 20, 60, 120, 134):
        chosen = choose_by_score(hardness, m, generator(m), keep="stratified", bins=9)
        assert len(set(chosen.tolist())) == m
        width = (9.0 - float(hardness.min())) / 9
        bins = [min(8, int((h - float(hardness.min())) / width)) for h in hardness.tolist()]
        sizes = sorted([bins.count(b), b] for b in set(bins))
        todo, left = m, len(sizes)
        for size, b in sizes:
            share = min(size, todo // left)
            assert sum(bins[i] == b for i in chosen.tolist()) == share
            todo, left = todo - share, left - 1


def test_equal_scores_are_one_stratum() -> None:
    assert len(choose_by_score(torch.ones(8), 3, generator(0), keep="stratified")) == 3


def test_infinite_scores_stay_last_and_nan_is_refused() -> None:
    assert clamp_infinite(torch.tensor([0.0, math.inf, 2.0, -math.inf])).tolist() == [0.0, 3.0, 2.0, -1.0]
    assert clamp_infinite(torch.tensor([math.inf, math.inf])).tolist() == [1.0, 1.0]
    with pytest.raises(PotstillError, match="NaN"):
        clamp_infinite(torch.tensor([math.nan]))


def test_shares_are_in_proportion_and_none_is_empty() -> None:
    assert proportional_counts([50, 30, 20], 10) == (5, 3, 2)
    assert proportional_counts([98, 1, 1], 10) == (8, 1, 1)
    assert proportional_counts([2, 5], 7) == (2, 5)
    for total in range(3, 30):
        made = proportional_counts([3, 7, 19], total)
        assert sum(made) == total
        assert all(1 <= x <= size for x, size in zip(made, [3, 7, 19], strict=True))
    with pytest.raises(PotstillError, match=r"between 3 .* and 29 samples, not 2"):
        proportional_counts([3, 7, 19], 2)


def test_more_than_there_is_is_refused() -> None:
    with pytest.raises(PotstillError, match="5 samples can give 0 to 5, but 6"):
        kept(6, "hardest")
