"""A normalization that is given in place of a fit."""

import numpy as np
import pytest
import torch

from potstill.core import Normalization
from potstill.data import load
from potstill.data.in_memory import fit_normalization
from potstill.errors import PotstillError


def test_the_normalization_of_an_earlier_set_is_used() -> None:
    rng = np.random.default_rng(0)
    before = load((rng.normal(3, 2, (20, 4)), [0, 1] * 10))
    after = load((rng.normal(9, 1, (20, 4)), [0, 1] * 10), normalization=before.train)
    assert torch.equal(after.train.normalization.mean, before.train.normalization.mean)
    assert after.reading == {}


def test_a_normalization_of_other_columns_is_refused() -> None:
    other = Normalization(torch.zeros(3), torch.ones(3))
    with pytest.raises(PotstillError, match="inputs have 4 channels or columns, but the given normalization is for 3"):
        load((np.ones((4, 4)), [0, 1] * 2), normalization=other)
    with pytest.raises(PotstillError, match="not a str"):
        load((np.ones((4, 4)), [0, 1] * 2), normalization="fitted")


def test_normalization_of_pixels_does_not_depend_on_their_order():
    rng = torch.Generator().manual_seed(0)
    for _ in range(300):
        x = torch.randint(256, (3, 2, 8, 3), generator=rng, dtype=torch.uint8)
        order = torch.randperm(72, generator=rng)
        shuffled = x.transpose(0, 1).flatten(1)[:, order].reshape(2, 3, 8, 3).transpose(0, 1)
        first, second = fit_normalization(x), fit_normalization(shuffled.contiguous())
        assert torch.equal(first.mean, second.mean)
        assert torch.equal(first.std, second.std)
