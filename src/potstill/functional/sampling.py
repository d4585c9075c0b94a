"""Random draws of real samples by class, from a given generator; indices are on the CPU."""

import math
from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor

from potstill.errors import PotstillError
from potstill.rng import class_generators

__all__ = [
    "class_indices",
    "draw_per_class",
    "proportional_allocation",
    "random_per_class",
    "sample_distinct",
    "weighted_per_class",
]

_MANY = 2**14
"""Population size below which a draw is the first part of a permutation."""
_FEW = 64
"""Minimum ratio of population to draw for rejection sampling."""


def class_indices(labels: Int[Tensor, " n"], num_classes: int) -> tuple[Int[Tensor, " _"], ...]:
    """Return the ascending indices of every class's samples, in label order.

    Raises:
        PotstillError: a label is outside [0, num_classes).
    """
    labels = labels.cpu().long()
    if len(labels) and (int(labels.min()) < 0 or int(labels.max()) >= num_classes):
        raise PotstillError(
            f"labels must be in 0…{num_classes - 1}, but they are in {int(labels.min())}…{int(labels.max())}; "
            f"name {int(labels.max()) + 1} classes or renumber the labels"
        )
    counts = torch.bincount(labels, minlength=num_classes)
    return torch.split(torch.argsort(labels, stable=True), counts.tolist())


def draw_per_class(by_class: Mapping[str, Int[Tensor, " _"]], n: int, rng: Generator) -> tuple[Int[Tensor, " _"], ...]:
    """Draw up to ``n`` distinct random samples of each class.

    A class with fewer than ``n`` samples yields all of them in random order, as published (DC's ``get_images``).

    Args:
        by_class: indices of each class's samples by its name.
        n: number to draw per class.
        rng: generator, of which one number is used. A class's draw depends on it, the class's name and size alone.
    """
    return _draw(by_class, [n] * len(by_class), rng)


def random_per_class(
    by_class: Mapping[str, Int[Tensor, " _"]], counts: Sequence[int], rng: Generator
) -> tuple[Int[Tensor, " _"], ...]:
    """Draw exactly ``counts[c]`` distinct random samples of each class c.

    Args:
        by_class: indices of each class's samples by its name; the one name ``""`` if samples have no classes.
        counts: number to draw per class.
        rng: generator, of which one number is used. A class's draw depends on it, the class's name and size alone.

    Raises:
        PotstillError: a class has fewer samples than asked.
    """
    _check_sizes(by_class, counts)
    return _draw(by_class, counts, rng)


def _check_sizes(by_class: Mapping[str, Tensor], counts: Sequence[int]) -> None:
    for (name, index), count in zip(by_class.items(), counts, strict=True):
        if len(index) < count and not name:
            raise PotstillError(
                f"{count} distinct samples are required, but there are {len(index)}; ask for fewer, or fewer bytes"
            )
        if len(index) < count:
            raise PotstillError(
                f"{count} distinct samples of every class are required, but class {name!r} has {len(index)}; "
                f"ask for at most {len(index)} per class or fewer bytes, or add samples"
            )


def _draw(by_class: Mapping[str, Tensor], counts: Sequence[int], rng: Generator) -> tuple[Tensor, ...]:
    generators = class_generators(rng, tuple(by_class))
    return tuple(
        index[sample_distinct(len(index), n, g)]
        for index, n, g in zip(by_class.values(), counts, generators, strict=True)
    )


def weighted_per_class(
    by_class: Mapping[str, Int[Tensor, " _"]], weights: Float[Tensor, " n"], counts: Sequence[int], rng: Generator, *,
    distinct: bool,
) -> tuple[Int[Tensor, " _"], ...]:  # fmt: skip
    """Draw ``counts[c]`` random samples of each class c by weight.

    Args:
        by_class: indices of each class's samples by its name.
        weights: of every sample, above 0, on the CPU; those of a class need not sum to 1.
        counts: number to draw per class.
        rng: generator, of which one number is used. A class's draw depends on it, the class's name and its weights.
        distinct: without replacement: one after the other by weight among those that are left (the smallest of
            exponential numbers with the weights as rates); else with replacement.

    Raises:
        PotstillError: a class has fewer samples than the distinct ones to draw.
    """
    generators = class_generators(rng, tuple(by_class))
    if distinct:
        _check_sizes(by_class, counts)
    drawn = []
    for index, count, g in zip(by_class.values(), counts, generators, strict=True):
        own = weights[index].double()
        if distinct:
            keys = -torch.rand(len(index), generator=g, dtype=torch.float64).clamp_min(1e-300).log() / own
            drawn.append(index[torch.argsort(keys, stable=True)[:count]])
        else:
            cumulative = own.cumsum(0)
            at = torch.rand(count, generator=g, dtype=torch.float64) * cumulative[-1:]
            drawn.append(index[torch.searchsorted(cumulative, at, right=True).clamp_max(len(index) - 1)])
    return tuple(drawn)


def proportional_allocation(sizes: Sequence[int], total: int) -> tuple[int, ...]:
    """Allocate ``total`` items in proportion to class sizes: one each, the rest by largest remainders.

    No class gets more than its size; ties go to the first.

    Raises:
        PotstillError: ``total`` is smaller than the number of classes that have samples, or larger than all samples.
    """
    least = sum(size > 0 for size in sizes)
    if not least <= total <= sum(sizes):
        raise PotstillError(
            f"{sum(sizes)} samples of {least} classes can be shared out as {least} to {sum(sizes)} items, one of each "
            f"class at least, but {total} are requested; change the budget"
        )
    counts = [min(size, 1) for size in sizes]
    exact = [total * size / sum(sizes) for size in sizes]
    while (remaining := total - sum(counts)) > 0:
        # the class that is furthest below its share; whole items at once where shares are large
        short = [e - c if c < size else -math.inf for e, c, size in zip(exact, counts, sizes, strict=True)]
        whole = [min(int(s), size - c) if s > 1 else 0 for s, c, size in zip(short, counts, sizes, strict=True)]
        if 0 < sum(whole) <= remaining:
            counts = [c + w for c, w in zip(counts, whole, strict=True)]
        else:
            counts[max(range(len(counts)), key=lambda c: short[c])] += 1
    return tuple(counts)


def sample_distinct(size: int, n: int, rng: Generator) -> Int[Tensor, " _"]:
    """Draw ``min(n, size)`` distinct random numbers below ``size``, in random order.

    Few of many are drawn one by one without repeats, in time proportional to ``n``.
    """
    if size < _MANY or n > size // _FEW:
        return torch.randperm(size, generator=rng)[:n]
    drawn_numbers = torch.empty(0, dtype=torch.int64)
    while len(drawn_numbers) < n:  # so few are taken that one round suffices as a rule, and two always nearly
        drawn_numbers = torch.cat([drawn_numbers, torch.randint(size, (n,), generator=rng)])
        values, place = torch.unique(drawn_numbers, return_inverse=True)
        first = torch.full((len(values),), len(drawn_numbers)).scatter_reduce(
            0, place, torch.arange(len(drawn_numbers)), "amin"
        )
        drawn_numbers = drawn_numbers[first.sort().values]
    return drawn_numbers[:n]
