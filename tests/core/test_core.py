"""Budgets, normalization and seeds."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from potstill.core import Budget, Normalization
from potstill.errors import unknown_name
from potstill.rng import derive_seed, generator


@given(st.integers(1, 50), st.integers(1, 40))
def test_ipc_gives_every_class_the_same(ipc: int, k: int) -> None:
    assert Budget(unit="ipc", amount=ipc).counts(k, 100) == (ipc,) * k


@given(st.integers(1, 30), st.integers(0, 500))
def test_items_are_spent_and_spread_evenly(k: int, extra: int) -> None:
    counts = Budget(unit="items", amount=k + extra).counts(k, 1)
    assert sum(counts) == k + extra
    assert max(counts) - min(counts) <= 1


def test_bytes_buy_whole_items() -> None:
    assert Budget(unit="bytes", amount=1000).counts(3, 100) == (4, 3, 3)
    with pytest.raises(ValueError, match=r"at least one item of each of 3 classes.*keep 2 in all"):
        Budget(unit="bytes", amount=299).counts(3, 100)


@settings(deadline=None)  # the first draw pays for starting torch
@given(st.integers(1, 4), st.integers(1, 5))
def test_normalization_inverts(c: int, side: int) -> None:
    rng = generator(c * 10 + side)
    n = Normalization(torch.rand(c, generator=rng), torch.rand(c, generator=rng) + 0.1)
    x = torch.rand(3, c, side, side, generator=rng)
    torch.testing.assert_close(n.invert(n.apply(x)), x)


def test_seeds_are_a_frozen_function_of_their_path() -> None:
    assert derive_seed(0, "distill", "dm") == 661677330573753731
    assert derive_seed(0, "a", "b") != derive_seed(0, "a/b")
    before = torch.get_rng_state()
    assert torch.equal(torch.rand(3, generator=generator(4)), torch.rand(3, generator=generator(4)))
    assert torch.equal(before, torch.get_rng_state())


def test_an_unknown_name_gets_the_nearest_ones() -> None:
    assert str(unknown_name("method", "herdin", ["herding", "dm"])) == "unknown method 'herdin'; did you mean herding?"
    assert "known: dm, herding" in str(unknown_name("method", "zzz", ["herding", "dm"]))
