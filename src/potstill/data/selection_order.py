"""Orders in which real samples of each class are chosen: random, herding, k-means.

Every prefix of a class's order is itself a selection, so that a budget may cut it anywhere.
"""

from collections.abc import Sequence

from jaxtyping import Int
from torch import Tensor

from potstill.core import Source
from potstill.core.nested import single_tensor
from potstill.data.real_data import RealData
from potstill.errors import unknown_name
from potstill.functional.coreset import herding, k_means_medoids
from potstill.rng import generator

__all__ = ["SELECTIONS", "order_samples", "selection_operations"]

SELECTIONS = ("random", "herding", "k-means")
"""Selections by name, the simplest first."""
_ITERATIONS = 10
"""Maximum moves of k-means."""


def order_samples(source: Source, selection: str, most: Sequence[int], seed: int) -> list[Int[Tensor, " _"]]:
    """Return the samples of each class in the order in which a selection takes them.

    Args:
        source: real samples; herding and k-means read them normalised, as one tensor.
        selection: one of `SELECTIONS`.
        most: maximum number of samples of each class; a smaller class gives all it has.
        seed: of the draws. A class's order depends on it, the class's name and its samples alone.

    Returns:
        int64 positions in the source by class.

    Raises:
        PotstillError: there is no such selection, or inputs have several tensors and the selection compares them.
    """
    if selection not in SELECTIONS:
        raise unknown_name("selection of real samples", selection, SELECTIONS)
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


def selection_operations(source: Source, selection: str, most: Sequence[int]) -> float:
    """Return the approximate operations of `order_samples`: two per value and comparison."""
    sizes = [len(index) for index in RealData.of_source(source).by_class.values()]
    passes = {"random": 0, "herding": 1}.get(selection, _ITERATIONS + 4)
    return float(sum(2 * min(m, n) * n * source.input.num_values * passes for m, n in zip(most, sizes, strict=True)))
