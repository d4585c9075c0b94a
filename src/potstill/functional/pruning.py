"""Selection of samples by a score, in O(n log n); ties are broken at random, not by file order."""

from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor

from potstill.errors import PotstillError

__all__ = ["Keep", "choose_by_score", "clamp_infinite", "proportional_counts"]

Keep = Literal["hardest", "easiest", "middle", "stratified"]


def clamp_infinite(scores: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """Replace infinite scores by one more than the highest (one less than the lowest) finite one.

    Raises:
        PotstillError: a score is not a number.
    """
    if bool(scores.isnan().any()):
        raise PotstillError("scores must be numbers, but some are NaN; train with a lower rate and score again")
    finite = scores[scores.isfinite()]
    high, low = (float(finite.max()) + 1, float(finite.min()) - 1) if len(finite) else (1.0, 0.0)
    return scores.clamp(low, high)


def proportional_counts(sizes: Sequence[int], total: int) -> tuple[int, ...]:
    """Divide a budget in proportion to pool sizes: largest remainders, at least one per pool, at most its size.

    Raises:
        PotstillError: the budget is smaller than the number of pools, or larger than all of them together.
    """
    n = sum(sizes)
    if not len(sizes) <= total <= n:
        raise PotstillError(
            f"a proportional choice keeps between {len(sizes)} (one of each class) and {n} samples, "
            f"not {total}; change the budget"
        )
    exact = [total * size / n for size in sizes]
    counts = [min(size, max(1, int(x))) for x, size in zip(exact, sizes, strict=True)]
    while sum(counts) != total:
        up = sum(counts) < total
        room = [c for c, size in enumerate(sizes) if (counts[c] < size if up else counts[c] > 1)]
        best = max(room, key=lambda c: (exact[c] - counts[c]) * (1 if up else -1))
        counts[best] += 1 if up else -1
    return tuple(counts)


def choose_by_score(
    hardness: Float[Tensor, " n"], m: int, rng: Generator, *, keep: Keep, cut: float = 0.0, bins: int = 50
) -> Int[Tensor, " m"]:
    """Return positions of the ``m`` samples of a pool to keep.

    Args:
        hardness: finite; high is hard.
        m: number to keep, 0 ≤ m ≤ n.
        rng: breaks ties and draws within strata.
        keep: ``hardest`` or ``easiest`` first; ``middle``: nearest to the median first (Xia et al. 2023); or
            ``stratified``: coverage-centric (Zheng et al. 2023, arXiv:2210.15809, algorithm 1).
        cut: β, fraction of the hardest samples that is dropped first, as far as ``m`` allows.
        bins: strata of equal width over the remaining scores, visited from the least filled on; each gives an equal
            random share of the remaining budget, or all it has.

    Raises:
        PotstillError: ``m`` is not in 0 … n.
    """
    n = len(hardness)
    if not 0 <= m <= n:
        raise PotstillError(f"a pool of {n} samples can give 0 to {n}, but {m} are requested; lower the budget")
    shuffled = torch.randperm(n, generator=rng)
    easy_first = shuffled[torch.argsort(hardness.cpu()[shuffled], stable=True)]
    candidates = easy_first[: max(m, n - int(cut * n))]
    if keep == "hardest":
        return candidates.flip(0)[:m]
    if keep == "easiest":
        return candidates[:m]
    if keep == "middle":
        value = hardness.cpu()[candidates]
        return candidates[torch.argsort((value - value.median()).abs(), stable=True)[:m]] if n else candidates
    return _stratified(hardness.cpu()[candidates], candidates, m, rng, bins)


def _stratified(value: Tensor, positions: Tensor, m: int, rng: Generator, bins: int) -> Tensor:
    low, high = (float(value.min()), float(value.max())) if len(value) else (0.0, 0.0)
    width = (high - low) / bins
    stratum = ((value - low) / width).long().clamp_max(bins - 1) if width > 0 else torch.zeros(len(value)).long()
    pools = sorted((positions[stratum == b] for b in sorted(set(stratum.tolist()))), key=len)
    selected: list[Tensor] = []
    for visited, pool in enumerate(pools):
        todo = m - sum(map(len, selected))
        count = min(len(pool), todo // (len(pools) - visited))
        selected.append(pool[torch.randperm(len(pool), generator=rng)[:count]])
    return torch.cat(selected) if selected else positions[:0]
