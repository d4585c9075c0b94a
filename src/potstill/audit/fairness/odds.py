"""Equalised odds: differences between groups in how often each class is recognised, and comparisons of them.

A gap of finite test samples is above 0 by chance, the more so the less accurate a model is. So two gaps are called
different where they differ as measured and beyond the difference of their chances, both on the same side.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float64, Int
from scipy.special import stdtrit  # type: ignore[import-untyped]
from torch import Generator, Tensor

from potstill.errors import PotstillError
from potstill.rng import generator

__all__ = ["Cells", "OddsComparison", "OddsGap", "compare_odds", "equalised_odds", "make_cells", "odds_by_chance"]

LEAST = 10
"""Smallest number of test samples of a class and group that counts."""
DRAWS = 200
"""Shuffles of groups, and bootstrap samples of test samples, of a comparison."""


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
    mean, largest = _gaps(correct[None], cells)
    return OddsGap(mean=float(mean), max=float(largest))


def _gaps(correct: Bool[Tensor, "m n"], cells: Cells) -> Float64[Tensor, "2 m"]:
    """Return the mean and the maximum over classes of each model's gaps."""
    used = cells.cell >= 0
    at, many = cells.cell[used], len(cells.classes)
    sizes = torch.bincount(at, minlength=many).clamp(min=1)
    rates = torch.zeros(len(correct), many, dtype=torch.float64).index_add_(1, at, correct[:, used].double()) / sizes
    ordered, of_class = torch.unique(torch.tensor(cells.classes), return_inverse=True)
    index, empty = of_class.expand(len(correct), -1), rates.new_empty(len(correct), len(ordered))
    high, low = (empty.scatter_reduce(1, index, rates, ends, include_self=False) for ends in ("amax", "amin"))
    return torch.stack([(high - low).mean(1), (high - low).amax(1)])


def odds_by_chance(correct: Sequence[Bool[Tensor, " n"]], cells: Cells, seed: int, draws: int = 20) -> OddsGap:
    """Return the gap that chance alone gives: groups are shuffled among the samples of each class.

    Differences between the best and the worst of several groups are above 0 in any finite test part.

    Args:
        correct: as for `equalised_odds`, of each model.
        cells: of the test samples.
        seed: seed of the draws.
        draws: deals of each model.
    """
    found = []
    for model, right in enumerate(correct):
        rng = generator(seed, "odds by chance", model)
        found += [equalised_odds(right, _shuffled(cells, rng)) for _ in range(draws)]
    return OddsGap(mean=sum(gap.mean for gap in found) / len(found), max=sum(gap.max for gap in found) / len(found))


def _shuffled(cells: Cells, rng: Generator) -> Cells:
    """Return the cells with groups shuffled among the samples of each class."""
    used = torch.where(cells.cell >= 0)[0]
    of_class = torch.tensor(cells.classes)[cells.cell[used]]
    # samples in a random order within each class take the cells in their own order
    order = torch.randperm(len(used), generator=rng)
    order = order[torch.argsort(of_class[order], stable=True)]
    dealt = torch.full_like(cells.cell, -1)
    dealt[used[order]] = cells.cell[used[torch.argsort(of_class, stable=True)]]
    return Cells(dealt, cells.classes, cells.groups, ())


@dataclass(frozen=True, kw_only=True)
class OddsComparison:
    """Difference of two gaps, each the mean over students; intervals of 95 % for other students and test samples."""

    mean: float
    ci95: tuple[float, float]
    by_chance: float
    """Difference where the attribute is shuffled within each class: what accuracy alone does."""
    beyond_ci95: tuple[float, float]
    """Interval of the difference less that by chance."""

    @property
    def side(self) -> int:
        """1 or −1 where the gap is shown to be larger or smaller; 0 where it is not."""
        low, high = (pick(self.ci95[end], self.beyond_ci95[end]) for end, pick in enumerate((min, max)))
        return 1 if low > 0 else -1 if high < 0 else 0

    def to_json(self) -> dict[str, Any]:
        """Return the comparison as JSON values."""
        return {
            "mean": self.mean, "ci95": list(self.ci95), "by_chance": self.by_chance,
            "beyond_chance": {"mean": self.mean - self.by_chance, "ci95": list(self.beyond_ci95)}, "side": self.side,
        }  # fmt: skip


def compare_odds(
    a: Sequence[Bool[Tensor, " n"]], b: Sequence[Bool[Tensor, " n"]], cells: Cells, seed: int
) -> dict[str, OddsComparison]:
    """Return the gaps of ``a`` minus those of ``b``, as ``mean`` and ``max`` over classes.

    The variance of a difference is that over pairs of students plus that over test samples: of bootstrap samples of
    each cell for the difference as measured, of shuffled groups for that beyond chance, the same for all students.

    Args:
        a, b: as for `equalised_odds`, of each student; at least two pairs.
        cells: of the test samples.
        seed: seed of the draws.
    """
    correct = [torch.stack(list(models)) for models in (a, b)]

    def difference(right: Sequence[Tensor], where: Cells) -> Float64[Tensor, "2 m"]:
        return _gaps(right[0], where) - _gaps(right[1], where)

    by_pair = difference(correct, cells)
    rng = generator(seed, "odds comparison")
    shuffled = torch.stack([difference(correct, _shuffled(cells, rng)).mean(1) for _ in range(DRAWS)])
    resampled = []
    for _ in range(DRAWS):
        at = _resampled(cells, rng)
        where = Cells(cells.cell[at], cells.classes, cells.groups, ())
        resampled.append(difference([right[:, at] for right in correct], where).mean(1))
    spreads = torch.stack(resampled).std(0), shuffled.std(0)
    quantile, pairs = -float(stdtrit(len(a) - 1, 0.025)), by_pair.std(1) / math.sqrt(len(a))
    found = {}
    for n, size in enumerate(("mean", "max")):
        mean, chance = float(by_pair[n].mean()), float(shuffled[:, n].mean())
        halves = [math.hypot(quantile * float(pairs[n]), 1.96 * float(spread[n])) for spread in spreads]
        found[size] = OddsComparison(
            mean=mean, ci95=(mean - halves[0], mean + halves[0]), by_chance=chance,
            beyond_ci95=(mean - chance - halves[1], mean - chance + halves[1]),
        )  # fmt: skip
    return found


def _resampled(cells: Cells, rng: Generator) -> Int[Tensor, " m"]:
    """Return a bootstrap sample of the test samples of each cell, as positions."""
    used = torch.where(cells.cell >= 0)[0]
    at = used[torch.argsort(cells.cell[used], stable=True)]
    sizes = torch.bincount(cells.cell[used], minlength=len(cells.classes))
    first, size = (part.repeat_interleave(sizes) for part in (sizes.cumsum(0) - sizes, sizes))
    return at[first + (torch.rand(len(at), generator=rng, dtype=torch.float64) * size).long()]
