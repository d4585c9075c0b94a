"""Distances of many rows to a few points, in chunks: no temporary grows with the product of two large numbers.

Two ways: differences first (`squared`), exact where rows are equal; and the expansion ``‖x‖² − 2xᵀy + ‖y‖²``
(`squared_pairs`), a matrix product and therefore many times faster, off by rounding where rows nearly coincide.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

__all__ = [
    "CentredRows",
    "centre_rows",
    "chunks",
    "cluster_sums",
    "mean_squared_distance",
    "nearest_centres",
    "pairwise_from_norms",
    "pairwise_squared",
    "squared_distances",
    "squared_norms",
]

CHUNK = 1 << 24
"""Entries of a temporary; 64 MiB in float32."""
_CACHED = 1 << 17
"""Entries of a temporary that stays in a core's cache: a pass is then four times as fast."""


def chunks(rows: int, columns: int, entries: int | None = None) -> Iterator[slice]:
    """Slices of ``rows`` rows that have at most ``entries`` entries where each has ``columns``; at least one row."""
    size = max(1, (CHUNK if entries is None else entries) // max(1, columns))
    return (slice(begin, min(begin + size, rows)) for begin in range(0, rows, size))


# Results are written where they stay: kept between large temporaries, small ones would hold the heap open, by as much
# as the rows take in all (glibc).


def squared_distances(x: Float[Tensor, "n d"], point: Float[Tensor, " d"]) -> Float[Tensor, " n"]:
    """Squared distances from every row to one point. Differences first: no cancellation, equal rows are at 0."""
    made = x.new_empty(len(x))
    for part in chunks(len(x), x.shape[1], _CACHED):
        torch.sum((x[part] - point).square_(), 1, out=made[part])
    return made


def squared_norms(x: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
    """Squared lengths of the rows."""
    made = x.new_empty(len(x))
    for part in chunks(len(x), x.shape[1], _CACHED):
        torch.sum(x[part].square(), 1, out=made[part])
    return made


def mean_squared_distance(x: Float[Tensor, "n d"]) -> float:
    """The mean squared distance of two rows drawn independently: twice the trace of the covariance."""
    return 2.0 * float(squared_distances(x, x.mean(0)).double().mean())


def pairwise_from_norms(
    x: Float[Tensor, "n d"], y: Float[Tensor, "m d"], norms_x: Float[Tensor, " n"], norms_y: Float[Tensor, " m"]
) -> Float[Tensor, "n m"]:
    """Squared distances of all pairs by one product, from the rows and their squared lengths (`lengths`).

    Their rounding is that of the lengths: shift the origin among the rows before.
    """
    return torch.addmm(norms_y.unsqueeze(0), x, y.T, alpha=-2.0).add_(norms_x.unsqueeze(1)).clamp_min_(0)


def pairwise_squared(x: Float[Tensor, "n d"], y: Float[Tensor, "m d"]) -> Float[Tensor, "n m"]:
    """Squared distances of all pairs, at least 0, by one product about the mean of ``y``.

    Both are copied and n · m entries come out, so one of them should be a chunk and the other small.
    """
    shift = y.mean(0)
    x, y = x - shift, y - shift
    return pairwise_from_norms(x, y, squared_norms(x), squared_norms(y))


@dataclass(frozen=True)
class CentredRows:
    """Rows with what is needed again and again for distances from points: nothing of the rows' size is copied."""

    x: Float[Tensor, "n d"]
    mean: Float[Tensor, " d"]
    from_mean: Float[Tensor, " n"]
    """Squared distances from the mean."""

    def distances_to(self, points: Float[Tensor, "m d"], part: slice = slice(None)) -> Float[Tensor, "p m"]:
        """Squared distances, at least 0, of all rows or some: ``‖x − μ‖² − 2 (x − μ)ᵀ(p − μ) + ‖p − μ‖²``."""
        shifted = points - self.mean
        constant = (shifted**2).sum(1) + 2 * (shifted @ self.mean)
        return torch.addmm(constant.unsqueeze(0), self.x[part], shifted.T, alpha=-2.0).add_(
            self.from_mean[part].unsqueeze(1)
        ).clamp_min_(0)  # fmt: skip


def centre_rows(x: Float[Tensor, "n d"]) -> CentredRows:
    """The rows about their mean."""
    mean = x.mean(0)
    return CentredRows(x, mean, squared_distances(x, mean))


def nearest_centres(
    x: Float[Tensor, "n d"] | CentredRows, centres: Float[Tensor, "m d"]
) -> tuple[Int[Tensor, " n"], Float[Tensor, " n"]]:
    """The nearest centre of each row and the squared distance to it, by products; the lowest on a tie."""
    rows = x if isinstance(x, CentredRows) else centre_rows(x)
    x = rows.x
    owner = torch.empty(len(x), dtype=torch.int64, device=x.device)
    gap = torch.empty(len(x), dtype=x.dtype, device=x.device)
    for part in chunks(len(x), max(len(centres), x.shape[1]), 4 * _CACHED):
        best = rows.distances_to(centres, part).min(1)
        owner[part], gap[part] = best.indices, best.values
    return owner, gap


def cluster_sums(
    x: Float[Tensor, "n d"], owner: Int[Tensor, " n"], m: int, weights: Float[Tensor, " n"] | None = None
) -> Float[Tensor, "m d"]:
    """Sums of the rows of each of ``m`` clusters, weighted where weights are given, in the order of the rows."""
    total = torch.zeros(m, x.shape[1], dtype=torch.float64, device=x.device)
    for part in chunks(len(x), x.shape[1]):
        order = torch.argsort(owner[part], stable=True)
        begins = torch.searchsorted(owner[part][order], torch.arange(m, device=x.device))
        w = None if weights is None else weights[part][order]
        total += F.embedding_bag(order, x[part], begins, mode="sum", per_sample_weights=w)
    return total.to(x.dtype)
