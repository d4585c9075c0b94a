"""Increasing numbers in few bits: they come back, in as many bytes as said, and damage is refused."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from potstill.errors import PotstillError
from potstill.labels.delta_coding import increasing_bytes, pack_increasing, unpack_increasing


@st.composite
def rows(draw: st.DrawFn) -> tuple[np.ndarray, int]:
    below = draw(st.integers(1, 3000))
    count = draw(st.integers(1, below))
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    made = [np.sort(rng.choice(below, count, replace=False)) for _ in range(draw(st.integers(0, 4)))]
    return np.array(made, np.int64).reshape(-1, count), below


@given(rows())
@settings(deadline=None)
def test_they_come_back_in_the_bytes_that_were_said(given_rows: tuple[np.ndarray, int]) -> None:
    index, below = given_rows
    packed = pack_increasing(index, below)
    assert (packed.dtype, packed.shape) == (np.uint8, (len(index), increasing_bytes(index.shape[1], below)))
    assert np.array_equal(unpack_increasing(packed, index.shape[1], below), index)


@pytest.mark.parametrize(("count", "below"), [(1, 2), (10, 1000), (100, 1000), (500, 1000), (1000, 1000), (5, 21_841)])
def test_no_code_of_one_length_takes_much_less(count: int, below: int) -> None:
    least = math.log2(math.comb(below, count))
    assert least <= 8 * increasing_bytes(count, below) <= least + count + 8


def test_by_hand() -> None:
    # 3 of 20, two low bits each: 1, 6, 19 have the low parts 1, 2, 3 and the high parts 0, 1, 4
    assert unpack_increasing(pack_increasing(np.array([[1, 6, 19]]), 20), 3, 20).tolist() == [[1, 6, 19]]
    low, unary = [1, 0, 0, 1, 1, 1], [1, 0, 1, 0, 0, 0, 1]  # bits 0 + 0, 1 + 1, 4 + 2
    assert np.unpackbits(pack_increasing(np.array([[1, 6, 19]]), 20), bitorder="little")[:13].tolist() == low + unary
    assert increasing_bytes(10, 1000) == 11


@pytest.mark.parametrize("packed", [[0, 0], [255, 255], [0b11000000, 0b00000101], [0b00111111, 0b00011100]])
def test_what_no_numbers_give_is_refused(packed: list[int]) -> None:
    with pytest.raises(PotstillError, match="increasing numbers"):
        unpack_increasing(np.array([packed], np.uint8), 3, 20)
