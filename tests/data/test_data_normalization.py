"""A normalization that is given in place of a fit."""

import numpy as np
import pytest
import torch

from potstill.core import Normalization
from potstill.data import load
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
