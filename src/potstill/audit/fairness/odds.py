"""Equalised odds: differences between groups in how often each class is recognised."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from potstill.errors import PotstillError
from potstill.rng import generator

__all__ = ["Cells", "OddsGap", "equalised_odds", "make_cells", "odds_by_chance"]

LEAST = 10
"""Smallest number of test samples of a class and group that counts."""


@dataclass(frozen=True)
class OddsGap:
    """Equalised-odds gap of one model: mean and maximum over classes, each in [0, 1]."""

    mean: float
    max: float


@dataclass(frozen=True)
class Cells:
    """Test samples by class and group, without cells of too few samples and classes with fewer than two cells."""

    cell: Int[Tensor, " n"]
    """Number of each sample's cell; −1 for those that are left out."""
    classes: tuple[int, ...]
    """Class of each cell, ascending."""
    groups: tuple[int, ...]
    """Group of each cell."""
    left_out: tuple[tuple[int, int, int], ...]
    """Class, group and number of samples of cells with too few samples, but not none."""


def make_cells(labels: Int[Tensor, " n"], groups: Int[Tensor, " n"], least: int = LEAST) -> Cells:
    """Return the cells with at least ``least`` samples, of classes that have two of them.

    Raises:
        PotstillError: there is no such class.
    """
    k = int(groups.max()) + 1
    number, counts = labels * k + groups, torch.bincount(labels * k + groups)
    large = [n for n, count in enumerate(counts.tolist()) if count >= least]
    of_class = [n // k for n in large]
    used = [n for n in large if of_class.count(n // k) > 1]
    if not used:
        raise PotstillError(
            f"no class has two groups of at least {least} test samples, so equalised odds cannot be measured; give "
            "more test samples, or an attribute with fewer values"
        )
    position = torch.full((len(counts),), -1, dtype=torch.int64)
    position[torch.tensor(used)] = torch.arange(len(used))
    left_out = tuple((n // k, n % k, count) for n, count in enumerate(counts.tolist()) if 0 < count < least)
    return Cells(
        cell=position[number], classes=tuple(n // k for n in used), groups=tuple(n % k for n in used), left_out=left_out
    )


def equalised_odds(correct: Bool[Tensor, " n"], cells: Cells) -> OddsGap:
    """Return max − min over groups of the true-positive rate of each class, as mean and maximum over classes.

    Args:
        correct: True where a test sample was predicted as its class.
        cells: of the test samples.
    """
    used = cells.cell >= 0
    many = len(cells.classes)
    sizes = torch.bincount(cells.cell[used], minlength=many).clamp(min=1).double()
    rates = torch.bincount(cells.cell[used], correct[used].double(), minlength=many) / sizes
    gaps = []
    for c in dict.fromkeys(cells.classes):
        own = rates[[n for n, of in enumerate(cells.classes) if of == c]]
        gaps.append(float(own.max() - own.min()))
    return OddsGap(mean=sum(gaps) / len(gaps), max=max(gaps))


def odds_by_chance(correct: Sequence[Bool[Tensor, " n"]], cells: Cells, seed: int, draws: int = 20) -> OddsGap:
    """Return the gap that chance alone gives: groups are shuffled among the samples of each class.

    Differences between the best and the worst of several groups are above 0 in any finite test part.

    Args:
        correct: as for `equalised_odds`, of each model.
        cells: of the test samples.
        seed: seed of the draws.
        draws: deals of each model.
    """
    used = torch.where(cells.cell >= 0)[0]
    of_class = torch.tensor(cells.classes)[cells.cell[used]]
    found = []
    for model, right in enumerate(correct):
        rng = generator(seed, "odds by chance", model)
        for _ in range(draws):
            # samples in a random order within each class take the cells in their own order
            order = torch.randperm(len(used), generator=rng)
            order = order[torch.argsort(of_class[order], stable=True)]
            at = torch.argsort(of_class, stable=True)
            dealt = torch.full_like(cells.cell, -1)
            dealt[used[order]] = cells.cell[used[at]]
            found.append(equalised_odds(right, Cells(dealt, cells.classes, cells.groups, ())))
    return OddsGap(mean=sum(gap.mean for gap in found) / len(found), max=sum(gap.max for gap in found) / len(found))
