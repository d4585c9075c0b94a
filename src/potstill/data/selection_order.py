"""Orders in which real samples of each class are chosen: random, herding, k-means; of a series, one stretch; of pairs,
prototypes.

Every prefix of a class's order is itself a selection, so that a budget may cut it anywhere.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Int
from torch import Generator, Tensor

from potstill.core import Source
from potstill.core.nested import single_tensor
from potstill.data.real_data import RealData
from potstill.data.series import SeriesSource
from potstill.errors import PotstillError, unknown_name
from potstill.functional.coreset import herding, k_means_medoids
from potstill.functional.features import joint_rows
from potstill.rng import generator

__all__ = ["PAIR_SELECTIONS", "SELECTIONS", "SERIES_SELECTIONS", "order_samples", "selection_operations"]

SELECTIONS = ("random", "herding", "k-means")
"""Selections by name, the simplest first."""
SERIES_SELECTIONS = ("random", "stretch")
"""Selections of windows of a series: ``stretch`` takes windows that follow each other, which share their points."""
PAIR_SELECTIONS = ("random", "prototypes")
"""Selections of pairs: ``prototypes`` are nearest to centres of k-means in which both views weigh equally."""
_ITERATIONS = 10
"""Maximum moves of k-means."""
_FETCHED = 1024
"""Pairs that are fetched at once."""


def order_samples(source: Source, selection: str, most: Sequence[int], seed: int) -> list[Int[Tensor, " _"]]:
    """Return the samples of each class in the order in which a selection takes them.

    Args:
        source: real samples; herding and k-means read them normalised, as one tensor.
        selection: one of `SELECTIONS`, ``stretch`` or ``prototypes``.
        most: maximum number of samples of each class; a smaller class gives all it has.
        seed: of the draws. A class's order depends on it, the class's name and its samples alone.

    Returns:
        int64 positions in the source by class.

    Raises:
        PotstillError: there is no such selection, or inputs have several tensors and the selection compares them.
    """
    if selection == "stretch":
        return [_stretch(source, min(most[0], len(source)), generator(seed, selection))]
    if selection == "prototypes":
        return [_prototypes(source, min(most[0], len(source)), generator(seed, selection))]
    if selection not in SELECTIONS:
        raise unknown_name("selection of real samples", selection, (*SELECTIONS, "stretch", "prototypes"))
    real = RealData.of_source(source)
    if selection == "random":
        drawn = real.draw(len(source), generator(seed, "random"))
        return [index[:m] for index, m in zip(drawn, most, strict=True)]
    taken = []
    for (name, index), count in zip(real.by_class.items(), most, strict=True):
        m = min(count, len(index))
        if m == 0 or m == len(index):
            taken.append(index[:m])
            continue
        rows = single_tensor(source.fetch(index).x, selection).flatten(1)
        rng = generator(seed, selection, name)
        order = herding(rows, m) if selection == "herding" else k_means_medoids(rows, m, rng, _ITERATIONS)
        taken.append(index[order.cpu()])
    return taken


def _stretch(source: Source, n: int, rng: Generator) -> Int[Tensor, " _"]:
    """Return ``n`` windows that follow each other from a random one on; those of the longest stretches where none is so
    long."""
    if not isinstance(source, SeriesSource):
        raise PotstillError(
            f"selection stretch takes windows of one series, but {source.name} has none; take random or herding"
        )
    span = source.task.window + source.task.horizon
    low, high = 0, max(0, n - 1)  # of one window there is always a stretch
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if len(source.stretches(span + middle)) else (low, middle - 1)
    starts = source.stretches(span + low)
    points = starts[torch.randint(len(starts), (1,), generator=rng)] + torch.arange(low + 1)
    in_time, order = source.starts.sort(stable=True)
    return order[torch.searchsorted(in_time, points)]


def _prototypes(source: Source, n: int, rng: Generator) -> Int[Tensor, " _"]:
    """Return the ``n`` pairs nearest to centres of k-means in joint rows of both views."""
    if len(source.input.parts) < 2:
        raise PotstillError(
            f"selection prototypes takes pairs of several parts, but {source.name} has one; take k-means"
        )
    if n == len(source):
        return torch.arange(n)
    real = RealData.of_source(source)
    batches = [real.batch(some).x for some in torch.split(torch.arange(len(source)), _FETCHED)]
    return k_means_medoids(joint_rows(batches, source.input), n, rng, _ITERATIONS).cpu()


def selection_operations(source: Source, selection: str, most: Sequence[int]) -> float:
    """Return the approximate operations of `order_samples`: two per value and comparison."""
    sizes = [len(index) for index in RealData.of_source(source).by_class.values()]
    passes = {"random": 0, "herding": 1}.get(selection, _ITERATIONS + 4)
    return float(sum(2 * min(m, n) * n * source.input.num_values * passes for m, n in zip(most, sizes, strict=True)))
