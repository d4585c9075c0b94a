"""Squared distances of many rows to a few points, in chunks of bounded memory.

`squared_distances` takes differences first, exact for equal rows; `pairwise_squared` expands ``‖x‖² − 2xᵀy + ‖y‖²``, a
matrix product and many times faster, with rounding errors for rows that nearly coincide.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

__all__ = [
    "CentredRows", "centre_rows", "chunks", "cluster_sums", "mean_squared_distance", "nearest_centres",
    "pairwise_from_norms", "pairwise_squared", "squared_distances", "squared_norms",
]  # fmt: skip

CHUNK = 1 << 24
"""Entries of a temporary tensor; 64 MiB in float32."""
_CACHED = 1 << 17
"""Entries of a temporary tensor that stays in a core's cache: a pass is then four times as fast."""


def chunks(rows: int, columns: int, entries: int | None = None) -> Iterator[slice]:
    """Yield slices of ``rows`` rows with at most ``entries`` entries of ``columns`` columns; at least one row each."""
    size = max(1, (CHUNK if entries is None else entries) // max(1, columns))
    return (slice(begin, min(begin + size, rows)) for begin in range(0, rows, size))


# results are written in place: small tensors between large temporaries would keep glibc's heap from shrinking


def squared_distances(x: Float[Tensor, "n d"], point: Float[Tensor, " d"]) -> Float[Tensor, " n"]:
    """Return squared distances of every row to one point, from differences: equal rows are at exactly 0."""
    distances = x.new_empty(len(x))
    for part in chunks(len(x), x.shape[1], _CACHED):
        torch.sum((x[part] - point).square_(), 1, out=distances[part])
    return distances


def squared_norms(x: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
    """Return squared norms of the rows."""
    norms = x.new_empty(len(x))
    for part in chunks(len(x), x.shape[1], _CACHED):
        torch.sum(x[part].square(), 1, out=norms[part])
    return norms


def mean_squared_distance(x: Float[Tensor, "n d"]) -> float:
    """Return the mean squared distance of two independently drawn rows: twice the trace of the covariance."""
    return 2.0 * float(squared_distances(x, x.mean(0)).double().mean())


def pairwise_from_norms(
    x: Float[Tensor, "n d"], y: Float[Tensor, "m d"], norms_x: Float[Tensor, " n"], norms_y: Float[Tensor, " m"]
) -> Float[Tensor, "n m"]:
    """Return squared distances of all pairs by one product, given the rows' `squared_norms`.

    Centre the rows first: rounding errors grow with the norms.
    """
    return torch.addmm(norms_y.unsqueeze(0), x, y.T, alpha=-2.0).add_(norms_x.unsqueeze(1)).clamp_min_(0)


def pairwise_squared(x: Float[Tensor, "n d"], y: Float[Tensor, "m d"]) -> Float[Tensor, "n m"]:
    """Return squared distances of all pairs, at least 0, by one product about the mean of ``y``.

    Both are copied and the result has n · m entries: pass a chunk and a small tensor.
    """
    shift = y.mean(0)
    x, y = x - shift, y - shift
    return pairwise_from_norms(x, y, squared_norms(x), squared_norms(y))


@dataclass(frozen=True)
class CentredRows:
    """Rows with their mean and squared distances from it, for repeated distances without copies of the rows."""

    x: Float[Tensor, "n d"]
    mean: Float[Tensor, " d"]
    from_mean: Float[Tensor, " n"]
    """Squared distances from the mean."""

    def distances_to(self, points: Float[Tensor, "m d"], part: slice = slice(None)) -> Float[Tensor, "p m"]:
        """Return squared distances, at least 0: ``‖x − μ‖² − 2 (x − μ)ᵀ(p − μ) + ‖p − μ‖²``."""
        shifted = points - self.mean
        constant = (shifted**2).sum(1) + 2 * (shifted @ self.mean)
        return torch.addmm(constant.unsqueeze(0), self.x[part], shifted.T, alpha=-2.0).add_(
            self.from_mean[part].unsqueeze(1)
        ).clamp_min_(0)  # fmt: skip


def centre_rows(x: Float[Tensor, "n d"]) -> CentredRows:
    """Precompute the mean of the rows and their squared distances from it."""
    mean = x.mean(0)
    return CentredRows(x, mean, squared_distances(x, mean))


def nearest_centres(
    x: Float[Tensor, "n d"] | CentredRows, centres: Float[Tensor, "m d"]
) -> tuple[Int[Tensor, " n"], Float[Tensor, " n"]]:
    """Return each row's nearest centre and the squared distance to it, by products; the lowest on a tie."""
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
    """Return the (weighted) sums of the rows of each of ``m`` clusters, in the order of the rows."""
    total = torch.zeros(m, x.shape[1], dtype=torch.float64, device=x.device)
    for part in chunks(len(x), x.shape[1]):
        order = torch.argsort(owner[part], stable=True)
        begins = torch.searchsorted(owner[part][order], torch.arange(m, device=x.device))
        w = None if weights is None else weights[part][order]
        total += F.embedding_bag(order, x[part], begins, mode="sum", per_sample_weights=w)
    return total.to(x.dtype)
