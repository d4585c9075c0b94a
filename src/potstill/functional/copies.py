"""Which rows are copies of real ones: the nearest real row of each, beside how near real rows lie to each other."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor

from potstill.functional.distances import nearest, squared
from potstill.functional.sampling import distinct

__all__ = ["WITHIN", "Nearest", "nearest_rows", "usual_gap"]

WITHIN = 0.5
"""A row is nearly a copy where its nearest real row is nearer than this part of `usual_gap`. Ours."""
_CHUNK = 2048
"""Rows of the many that are compared with the few at a time; the few are candidates of a product each."""


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
    """The nearest row of ``many`` to each of ``few``, the lowest on a tie, measured again by differences: rows that
    are equal are at 0, whatever products round."""
    index, _ = nearest(few, many)
    index = _sure(few, many, index)
    gaps = torch.stack([(row - many[i]).double().square().sum() for row, i in zip(few, index.tolist(), strict=True)])
    return Nearest(index=index, distance=gaps.sqrt())


def _sure(few: Tensor, many: Tensor, index: Tensor) -> Tensor:
    """Each index again by differences: products cannot tell rows apart that nearly coincide."""
    if len(few) * many.numel() > 1 << 28:  # a quarter of a thousand million differences: products must do
        return index
    return torch.stack([squared(many, row).argmin() for row in few]).to(index)


def usual_gap(x: Float[Tensor, "n d"], rng: Generator, most: int = 1000) -> float:
    """The median distance of a row to its nearest other row, of at most ``most`` rows drawn from ``rng``; infinite of
    a single row. Rows that stand there twice are at 0."""
    if len(x) < 2:
        return float("inf")
    at = distinct(len(x), min(most, len(x)), rng).to(x.device)
    gaps = torch.full((len(at),), float("inf"), dtype=torch.float64, device=x.device)
    rows = x[at].double()
    for begin in range(0, len(x), _CHUNK):
        part = x[begin : begin + _CHUNK].double()
        found = torch.cdist(rows, part, compute_mode="donot_use_mm_for_euclid_dist")
        own = at - begin
        inside = (own >= 0) & (own < len(part))
        found[inside, own[inside]] = float("inf")
        gaps = torch.minimum(gaps, found.min(1).values)
    return float(gaps.median())
