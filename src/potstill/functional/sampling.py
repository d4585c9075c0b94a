"""Draws of real samples by class. All draws come from the generator that is given; indices live on the CPU."""

from collections.abc import Sequence

import torch
from jaxtyping import Int
from torch import Generator, Tensor

from potstill.errors import PotstillError

__all__ = ["class_indices", "distinct", "draw_per_class", "random_per_class"]

_MANY = 2**14
"""Numbers from which a permutation of all of them costs more than drawing again where one came twice. Below it a draw
is the first part of a permutation, as it always was."""
_FEW = 64
"""One number in so many, at most, is drawn that way."""


def class_indices(labels: Int[Tensor, " n"], num_classes: int) -> tuple[Int[Tensor, " _"], ...]:
    """The indices of every class's samples, ascending, in label order.

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


def draw_per_class(class_idx: Sequence[Int[Tensor, " _"]], n: int, rng: Generator) -> tuple[Int[Tensor, " _"], ...]:
    """Up to ``n`` distinct random samples of each class, a fresh draw at each call.

    A class with fewer than ``n`` samples yields all of them in random order, as published (DC's ``get_images``).
    """
    return tuple(_distinct(index, n, rng) for index in class_idx)


def random_per_class(
    class_idx: Sequence[Int[Tensor, " _"]], counts: Sequence[int], rng: Generator, classes: Sequence[str] | None = None
) -> tuple[Int[Tensor, " _"], ...]:
    """Exactly ``counts[c]`` distinct random samples of each class c.

    Args:
        class_idx: the indices of each class (`class_indices`).
        counts: how many to draw of each.
        rng: where the draws come from.
        classes: class names, for the error.

    Raises:
        PotstillError: a class has fewer samples than asked.
    """
    for c, (index, count) in enumerate(zip(class_idx, counts, strict=True)):
        if len(index) < count:
            named = f"class {c}" if classes is None else f"class {c} ({classes[c]!r})"
            raise PotstillError(
                f"{count} distinct samples of every class are required, but {named} has {len(index)}; "
                f"ask for at most {len(index)} per class or add samples"
            )
    return tuple(_distinct(index, count, rng) for index, count in zip(class_idx, counts, strict=True))


def distinct(size: int, n: int, rng: Generator) -> Int[Tensor, " _"]:
    """``min(n, size)`` distinct random numbers below ``size``, in random order.

    Few from many are drawn one by one, and repeated ones are left out: the work is that of ``n``, not of ``size``.
    """
    if size < _MANY or n > size // _FEW:
        return torch.randperm(size, generator=rng)[:n]
    found = torch.empty(0, dtype=torch.int64)
    while len(found) < n:  # so few are taken that one round suffices as a rule, and two always nearly
        found = torch.cat([found, torch.randint(size, (n,), generator=rng)])
        values, place = torch.unique(found, return_inverse=True)
        first = torch.full((len(values),), len(found)).scatter_reduce(0, place, torch.arange(len(found)), "amin")
        found = found[first.sort().values]
    return found[:n]


def _distinct(index: Tensor, n: int, rng: Generator) -> Tensor:
    return index[distinct(len(index), n, rng)]
