"""Masks that show all classes equally: against trying all sets, a known answer, and what is refused."""

import itertools

import numpy as np
import pytest
import torch

import potstill
from potstill.core import Splits
from potstill.errors import PotstillError
from potstill.functional.balanced_shares import balanced_shares
from potstill.methods.selection.balanced_masks import class_shares
from potstill.rng import generator
from tests.mask_data import squares


def value(shares: torch.Tensor, chosen: tuple[int, ...]) -> float:
    return sum(sum(float(shares[i, c]) for i in chosen) ** 0.5 for c in range(shares.shape[1]))


@pytest.mark.parametrize("seed", range(4))
def test_each_choice_is_the_best_next_one_and_all_are_near_the_best_set(seed: int) -> None:
    shares = torch.rand(8, 3, generator=generator(seed, "shares"), dtype=torch.float64) ** 3
    found = balanced_shares(shares, 4).tolist()
    for t in range(4):
        others = [i for i in range(8) if i not in found[:t]]
        assert found[t] == max(others, key=lambda i: value(shares, (*found[:t], i)))
    best = max(value(shares, some) for some in itertools.combinations(range(8), 4))
    assert value(shares, tuple(found)) >= 0.95 * best
    assert sorted(balanced_shares(shares, 8).tolist()) == list(range(8))


def test_a_rare_class_comes_before_more_of_a_frequent_one() -> None:
    shares = torch.tensor([[0.9, 0.1, 0], [0.8, 0.2, 0], [0.95, 0, 0.05], [0.7, 0.3, 0]])
    assert balanced_shares(shares, 2).tolist() == [3, 2]


def test_shares_are_counted_without_pixels_that_have_no_class() -> None:
    masks = torch.tensor([[[0, 1], [1, 255]], [[2, 2], [0, 2]]], dtype=torch.uint8)
    assert class_shares(masks, 3).tolist() == [[0.25, 0.5, 0], [0.25, 0, 0.75]]


def few_dark() -> Splits:
    """Forty pictures, of which two have the third class."""
    x, y = squares(40)
    bright = y == 2
    bright[[5, 21]] = False
    y[bright] = 1
    return potstill.load_data((x, y), task="segmentation", test_fraction=0)


def test_a_set_has_the_rare_class_for_any_seed() -> None:
    splits = few_dark()
    sets = [potstill.distill(splits, "balanced-masks", items=4, seed=seed, progress=None) for seed in (0, 1)]
    assert {5, 21} <= set(sets[0].index.tolist())
    assert torch.equal(sets[0].index, sets[1].index)
    shares = np.bincount(sets[0].labels.flatten().numpy(), minlength=3) / sets[0].labels.numel()
    random = potstill.distill(splits, "random", items=4, progress=None).labels
    assert shares[2] > float((random == 2).float().mean())


def test_it_is_for_masks_alone_and_takes_no_more_than_there_are() -> None:
    with pytest.raises(PotstillError, match="balanced-masks does segmentation, but digits is classification"):
        potstill.distill("digits", "balanced-masks", ipc=1, progress=None)
    with pytest.raises(PotstillError, match="needs at least 41 samples, but arrays has 40"):
        potstill.distill(few_dark(), "balanced-masks", items=41, progress=None)
