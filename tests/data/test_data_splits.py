"""Stratified splits: properties that hold for any labels."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from potstill.data import TensorSource, holdout, stratify
from potstill.errors import PotstillError

labels = st.lists(st.integers(0, 6), min_size=1, max_size=80).map(torch.tensor)
fractions = st.floats(0.01, 0.99)
seeds = st.integers(0, 2**40)


@settings(max_examples=60, deadline=None)
@given(labels, fractions, seeds)
def test_a_split_is_disjoint_covers_everything_and_is_stratified(y, fraction, seed):
    kept, held = stratify(y, fraction, seed)
    assert torch.equal(torch.cat([kept, held]).sort().values, torch.arange(len(y)))
    assert torch.equal(kept, kept.sort().values)
    assert torch.equal(held, held.sort().values)
    for label in y.unique():
        n, out = int((y == label).sum()), int((y[held] == label).sum())
        if n == 1:
            assert out == 0
        else:
            assert 1 <= out <= n - 1
            assert abs(out - n * fraction) <= max(0.5, 1 - n * fraction, n * fraction - (n - 1))


@settings(max_examples=30, deadline=None)
@given(labels, fractions, seeds)
def test_equal_seeds_split_equally_and_touch_no_global_generator(y, fraction, seed):
    before = torch.random.get_rng_state()
    first, second = stratify(y, fraction, seed), stratify(y.clone(), fraction, seed)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_other_seeds_split_otherwise():
    y = torch.arange(200) % 4
    assert len({tuple(stratify(y, 0.2, seed)[1].tolist()) for seed in range(5)}) == 5


@pytest.mark.parametrize("fraction", [0.0, 1.0, -1.0, 2.0])
def test_a_fraction_outside_is_refused(fraction):
    with pytest.raises(PotstillError, match="must lie between 0 and 1"):
        stratify(torch.zeros(4, dtype=torch.int64), fraction, 0)


def test_holdout_cuts_a_source_in_two():
    source = TensorSource.make(torch.arange(40).float().reshape(20, 2), torch.arange(20) % 2)
    kept, held = holdout(source, 0.3, 1)
    assert (len(kept), len(held)) == (14, 6)
    assert held.labels.bincount().tolist() == [3, 3]
    assert kept.normalization is held.normalization is source.normalization
    rows = torch.cat([kept.inputs, held.inputs])
    assert torch.equal(rows[rows[:, 0].argsort()], source.inputs)


def test_holdout_needs_two_samples_of_some_class():
    source = TensorSource.make(torch.rand(3, 2), [0, 1, 2])
    with pytest.raises(PotstillError, match="every class has a single sample"):
        holdout(source, 0.5, 0)
