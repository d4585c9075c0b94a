"""Draws by class: distinct, of the right class, repeatable, and complete where a class is small."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from potstill.errors import PotstillError
from potstill.functional.sampling import class_indices, draw_per_class, random_per_class, sample_distinct
from potstill.rng import generator


def named(labels: list[int]) -> dict[str, Tensor]:
    names = ("cat", "dog")[: max(labels) + 1]
    return dict(zip(names, class_indices(torch.tensor(labels), len(names)), strict=True))


@given(st.lists(st.integers(0, 4), max_size=40))
def test_indices_partition_the_labels(values: list[int]) -> None:
    labels = torch.tensor(values, dtype=torch.int64)
    groups = class_indices(labels, 5)
    assert [g.tolist() for g in groups] == [[i for i, v in enumerate(values) if v == c] for c in range(5)]


def test_labels_outside_the_classes_are_refused() -> None:
    with pytest.raises(PotstillError, match=r"labels must be in 0…1, but they are in 0…2"):
        class_indices(torch.tensor([0, 2]), 2)


@given(st.integers(0, 12), st.integers(0, 1000))
def test_draws_are_distinct_and_all_of_a_small_class(n: int, seed: int) -> None:
    groups = named([0] * 3 + [1] * 9)
    small, large = draw_per_class(groups, n, generator(seed, "draw"))
    assert len(set(small.tolist())) == len(small) == min(n, 3)
    assert len(set(large.tolist())) == len(large) == min(n, 9)
    assert set(small.tolist()) <= {0, 1, 2}
    assert set(large.tolist()) <= set(range(3, 12))


def test_draws_move_on_and_repeat_by_seed() -> None:
    groups = named([0] * 50)
    rng = generator(0, "draw")
    first, second = draw_per_class(groups, 10, rng)[0], draw_per_class(groups, 10, rng)[0]
    assert not torch.equal(first, second)
    assert torch.equal(first, draw_per_class(groups, 10, generator(0, "draw"))[0])


def test_draws_are_uniform() -> None:
    groups = named([0] * 10)
    rng = generator(4, "uniform")
    hits = torch.zeros(10)
    for _ in range(2000):
        hits[draw_per_class(groups, 3, rng)[0]] += 1
    # binomial(2000, .3): six standard deviations are 123
    assert ((hits - 600).abs() < 123).all()


def test_exact_counts_and_the_error_that_names_the_class() -> None:
    groups = named([0, 1, 1, 1])
    assert [len(g) for g in random_per_class(groups, (1, 2), generator(0, "r"))] == [1, 2]
    with pytest.raises(PotstillError, match=r"class 'cat' has 1; ask for at most 1"):
        random_per_class(groups, (2, 2), generator(0, "r"))
    with pytest.raises(PotstillError, match=r"5 distinct samples are required, but there are 4; ask for fewer"):
        random_per_class({"": torch.arange(4)}, (5,), generator(0, "r"))


@given(st.integers(0, 2**40), st.integers(1, 9), st.integers(1, 30), st.integers(1, 30))
def test_a_draw_depends_on_name_size_and_step_alone(seed: int, n: int, cats: int, dogs: int) -> None:
    groups = named([0] * cats + [1] * dogs)
    rng, alone = generator(seed), generator(seed)
    for _ in range(2):  # the second step, too: as much of the generator is used whatever the classes are
        drawn = draw_per_class(groups, n, rng)[1] - cats
        assert torch.equal(drawn, draw_per_class({"dog": torch.arange(dogs)}, n, alone)[0])


@pytest.mark.parametrize(("size", "n"), [(20_000, 1), (20_000, 300), (10**6, 15_000), (20_000, 5_000), (7, 20), (0, 3)])
def test_distinct_numbers_are_distinct_and_in_range(size: int, n: int) -> None:
    drawn = sample_distinct(size, n, generator(0, "draw"))
    assert len(drawn) == len(drawn.unique()) == min(n, size)
    assert n == 0 or size == 0 or 0 <= int(drawn.min()) <= int(drawn.max()) < size
    assert torch.equal(drawn, sample_distinct(size, n, generator(0, "draw")))


@pytest.mark.parametrize(("size", "n"), [(100, 10), (16_383, 1), (16_384, 257)])
def test_few_numbers_come_from_a_permutation_as_they_always_did(size: int, n: int) -> None:
    expected = torch.randperm(size, generator=generator(3))[:n]
    assert torch.equal(sample_distinct(size, n, generator(3)), expected)


def test_few_of_many_are_uniform_in_number_and_in_order() -> None:
    size, n, rounds, rng = 2**14, 256, 400, generator(0, "draw")
    draws = torch.stack([sample_distinct(size, n, rng) for _ in range(rounds)])
    hits = torch.bincount(draws.flatten() // (size // 16), minlength=16).double()
    expected = rounds * n / 16
    assert float(((hits - expected) ** 2 / expected).sum()) < 37.7  # chi-square with 15 degrees of freedom, p = 0.001
    first = draws[:, 0].double().mean() / size
    assert abs(float(first) - 0.5) < 4 * (1 / 12 / rounds) ** 0.5


def test_few_of_many_cost_no_permutation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "randperm", None)
    assert len(sample_distinct(10**7, 256, generator(0))) == 256
