"""Inputs of one tensor and of several are handled alike."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from potstill.core.nested import concat, flatten_rows, index, iter_batches, num_samples, single_tensor, tree_map


def sentences(lengths: list[int]) -> dict[str, Tensor]:
    """Words 0, 1, 2 … in sentences of these lengths, and the number of each sentence."""
    n = torch.tensor(lengths, dtype=torch.int64)
    return {
        "text/values": torch.arange(int(n.sum())), "text/offsets": n.cumsum(0) - n, "x": torch.arange(len(lengths)),
    }  # fmt: skip


def words(x: dict[str, Tensor]) -> list[list[int]]:
    begins = x["text/offsets"].tolist()
    ends = [*begins[1:], len(x["text/values"])][: len(begins)]
    return [x["text/values"][a:b].tolist() for a, b in zip(begins, ends, strict=True)]


@given(st.lists(st.integers(0, 4), min_size=1, max_size=8), st.data())
def test_samples_are_taken_with_their_words_in_any_order(lengths: list[int], data: st.DataObject) -> None:
    x = sentences(lengths)
    at = data.draw(st.lists(st.integers(0, len(lengths) - 1), max_size=10))
    taken = index(x, torch.tensor(at, dtype=torch.int64))
    assert words(taken) == [words(x)[i] for i in at]
    assert taken["x"].tolist() == at
    assert num_samples(taken) == len(at)


@given(st.lists(st.integers(0, 4), min_size=1, max_size=8), st.integers(1, 5))
def test_what_was_split_is_joined_again(lengths: list[int], size: int) -> None:
    x = sentences(lengths)
    again = concat(list(iter_batches(x, size)))
    assert words(again) == words(x)
    assert torch.equal(again["x"], x["x"])


def test_one_tensor_stays_one_tensor() -> None:
    x = torch.randn(5, 2)
    assert torch.equal(index(x, torch.tensor([3, 1])), x[[3, 1]])
    assert torch.equal(concat(list(iter_batches(x, 2))), x)
    assert torch.equal(tree_map(torch.neg, x), -x)
    assert single_tensor(x, "a test") is x


def test_several_tensors_are_not_taken_for_one() -> None:
    with pytest.raises(ValueError, match="a test needs inputs of one tensor, but these have a, b"):
        single_tensor({"a": torch.zeros(1), "b": torch.zeros(1)}, "a test")


def test_rows_tell_sentences_of_other_lengths_apart() -> None:
    a = flatten_rows(sentences([1, 2]) | {"x": torch.zeros(2)})
    assert a.tolist() == [[0, -1, 0], [1, 2, 0]]
