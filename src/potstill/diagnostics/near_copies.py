"""Nearest real row of each synthetic row, and the usual distance between real rows."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor

from potstill.functional.distances import chunks, pairwise_squared
from potstill.functional.sampling import sample_distinct

__all__ = ["WITHIN", "Nearest", "nearest_rows", "usual_gap"]

WITHIN = 0.5
"""Fraction of `usual_gap` below which a row counts as a near copy. Ours."""
_CANDIDATES = 8
"""Candidates per row from products, which cannot order rows that nearly coincide."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Nearest:
    """The nearest of the many rows to each of the few."""

    index: Int[Tensor, " m"]
    distance: Float[Tensor, " m"]
    """Euclidean; exactly 0 where the rows are equal."""

    def exact(self) -> Bool[Tensor, " m"]:
        return self.distance == 0

    def near(self, usual: float, within: float = WITHIN) -> Bool[Tensor, " m"]:
        """Not equal, but nearer than ``within`` times ``usual``."""
        return (self.distance > 0) & (self.distance < within * usual)


def nearest_rows(few: Float[Tensor, "m d"], many: Float[Tensor, "n d"]) -> Nearest:
    """Return the nearest row of ``many`` for each of ``few``; equal rows are at 0; the lowest index on a tie.

    Products find candidates, exact differences decide between them.
    """
    held = min(_CANDIDATES, len(many))
    best = torch.full((len(few), held), float("inf"), dtype=few.dtype, device=few.device)
    at = torch.zeros(len(few), held, dtype=torch.int64, device=few.device)
    for part in chunks(len(many), max(len(few), many.shape[1])):
        gaps = pairwise_squared(few, many[part])
        found = gaps.topk(min(held, gaps.shape[1]), largest=False)
        both, places = torch.cat([best, found.values], 1), torch.cat([at, found.indices + part.start], 1)
        best, kept = both.topk(held, largest=False)
        at = places.gather(1, kept)
    at = at.sort(1).values
    gaps = (few[:, None, :] - many[at]).double().square().sum(2)
    place = gaps.argmin(1, keepdim=True)
    return Nearest(index=at.gather(1, place)[:, 0], distance=gaps.gather(1, place)[:, 0].sqrt())


def usual_gap(x: Float[Tensor, "n d"], rng: Generator, most: int = 500) -> float:
    """Return the median distance of a row to its nearest other row, over at most ``most`` random rows.

    Infinite for a single row; repeated rows are at 0 up to rounding.
    """
    if len(x) < 2:
        return float("inf")
    at = sample_distinct(len(x), min(most, len(x)), rng).to(x.device)
    gaps = torch.full((len(at),), float("inf"), dtype=torch.float64, device=x.device)
    rows = x[at].double()
    for part in chunks(len(x), max(len(at), x.shape[1])):
        found = pairwise_squared(rows, x[part].double())
        own = at - part.start
        inside = (own >= 0) & (own < found.shape[1])
        found[inside, own[inside]] = float("inf")
        gaps = torch.minimum(gaps, found.min(1).values)
    return float(gaps.median().sqrt())
