"""Philox gives the published words, and what is made of them is even."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from potstill.functional.counter_rng import philox, random_below, random_permutation, uniform

FULL = 0xFFFFFFFF
PUBLISHED = [
    # Random123's kat_vectors, philox4x32 with 10 rounds: counter, key, words
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((FULL,) * 4, (FULL,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


@pytest.mark.parametrize(("counter", "key", "words"), PUBLISHED)
def test_published_words(counter: tuple[int, ...], key: tuple[int, int], words: tuple[int, ...]) -> None:
    assert tuple(int(w) for w in philox(key[0] | key[1] << 32, *counter)) == words


def test_words_depend_on_their_own_counter_only() -> None:
    many = philox(7, np.arange(100), 3, np.arange(4)[:, None])
    for i, j in ((0, 0), (41, 2), (99, 3)):
        assert [int(w[j, i]) for w in many] == [int(w) for w in philox(7, i, 3, j)]
    assert len({int(w) for a in many for w in a.flatten()}) == 4 * 400


def test_numbers_are_even_and_in_range() -> None:
    words = philox(1, np.arange(20_000))[2]
    assert stats.kstest(uniform(words), "uniform").pvalue > 1e-3
    assert 0 < uniform(np.zeros(1, np.uint64))[0] < uniform(np.full(1, FULL, np.uint64))[0] < 1
    counts = np.bincount(random_below(words, 7), minlength=7)
    assert stats.chisquare(counts).pvalue > 1e-3
    assert random_below(np.full(1, FULL, np.uint64), 2**31)[0] == 2**31 - 1


@given(st.integers(0, 2**63), st.integers(1, 200), st.integers(0, 5))
@settings(max_examples=30, deadline=None)
def test_a_permutation_is_one(key: int, n: int, epoch: int) -> None:
    order = random_permutation(key, n, epoch)
    assert sorted(order.tolist()) == list(range(n))
    assert np.array_equal(order, random_permutation(key, n, epoch))


def test_permutations_of_three_are_equally_likely() -> None:
    found = [tuple(random_permutation(5, 3, e).tolist()) for e in range(1200)]
    counts = [found.count(order) for order in set(found)]
    assert len(counts) == 6
    assert stats.chisquare(counts).pvalue > 1e-3
