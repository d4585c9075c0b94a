"""Coreset selection from features of one class: herding, k-center, k-means and medoids.

No n × n matrix is held: a step costs O(n · d). Ties go to the lowest index. Distances have the dtype of the features.
"""

import math
from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Generator, Tensor

from potstill.errors import PotstillError
from potstill.functional.distances import (
    CentredRows,
    centre_rows,
    chunks,
    cluster_sums,
    nearest_centres,
    pairwise_squared,
    squared_distances,
)

__all__ = ["average_clusters", "check_size", "herding", "k_center", "k_means", "k_means_medoids", "medoids"]

_CHUNK = 1 << 24
"""Entries of a temporary tensor; 64 MiB in float32."""
_KEPT = 8
"""Candidate rows per centroid while its medoid is searched in large data."""
_LARGE = 1 << 22
"""Entries of features above which nothing of their size is copied and distances are computed by products, as
``‖x − μ‖² − 2 (x − μ)ᵀ(p − μ) + ‖p − μ‖²``."""


def check_size(n: int, m: int) -> None:
    """Raise a PotstillError unless ``m`` of ``n`` samples can be selected."""
    if not 1 <= m <= n:
        raise PotstillError(
            f"a coreset of this class can have 1 to {n} samples, but {m} are requested; ask for at most {n} per class "
            "or add samples"
        )


def herding(features: Float[Tensor, "n d"], m: int, mean: Float[Tensor, " d"] | None = None) -> Int[Tensor, " m"]:
    """Select by herding (Welling; iCaRL, arXiv:1611.07725): greedily keep the running mean nearest to the class mean.

    Step t takes the sample i, not yet taken, with the least ``‖μ − (f_i + Σ_{j taken} f_j) / t‖``.

    Args:
        features: rows of one class.
        m: number to select, 1 ≤ m ≤ n.
        mean: class mean; ``None``: that of ``features``.

    Returns:
        Distinct row indices in order of selection; every prefix is the selection for a smaller ``m``.

    Raises:
        PotstillError: ``m`` is not in 1…n.
    """
    check_size(len(features), m)
    mean = features.mean(0) if mean is None else mean
    distances_to = _distances(features, mean)
    is_taken = torch.zeros(len(features), dtype=torch.bool, device=features.device)
    total = torch.zeros_like(mean)
    order = []
    for _ in range(m):
        # t · (μ − mean) = −(f_i + total) for centred features; the factor t does not move the minimum
        best = int(distances_to(-total).masked_fill(is_taken, math.inf).argmin())
        order.append(best)
        is_taken[best] = True
        total = total + (features[best] - mean)
    return torch.tensor(order, dtype=torch.int64)


def k_center(
    features: Float[Tensor, "n d"], m: int, first: Literal["medoid"] | int = "medoid", *,
    mean: Float[Tensor, " d"] | None = None,
) -> Int[Tensor, " m"]:  # fmt: skip
    """Select by farthest-point traversal (Gonzalez 1985; k-Center Greedy, arXiv:1708.00489), a 2-approximation.

    Args:
        features: rows of one class.
        m: number to select, 1 ≤ m ≤ n.
        first: row to start from; "medoid": the row nearest to the mean.
        mean: class mean; ``None``: that of ``features``.

    Returns:
        Distinct row indices in order of selection; every prefix is the selection for a smaller ``m``.

    Raises:
        PotstillError: ``m`` is not in 1…n, or ``first`` is not a row.
    """
    check_size(len(features), m)
    mean = features.mean(0) if mean is None else mean
    start = int(squared_distances(features, mean).argmin()) if first == "medoid" else int(first)
    mean = mean if features.numel() > _LARGE else torch.zeros_like(mean)
    distances_to = _distances(features, mean)
    if not 0 <= start < len(features):
        raise PotstillError(
            f"the first centre must be a row in 0…{len(features) - 1}, but it is {start}; choose another"
        )
    order = [start]
    reach = distances_to(features[start] - mean)
    reach[start] = -1.0  # below every distance, so a taken row is not taken again even among duplicates
    while len(order) < m:
        farthest = int(reach.argmax())
        order.append(farthest)
        reach = torch.minimum(reach, distances_to(features[farthest] - mean))
        reach[farthest] = -1.0
    return torch.tensor(order, dtype=torch.int64)


def k_means(
    features: Float[Tensor, "n d"], m: int, rng: Generator, iterations: int = 100
) -> tuple[Float[Tensor, "m d"], Int[Tensor, " n"]]:
    """Cluster by Lloyd's k-means from greedy k-means++ centres (Arthur and Vassilvitskii 2007).

    A cluster that loses its last row is moved to the row farthest from its own centre. With fewer than ``m`` distinct
    rows some centres coincide.

    Args:
        features: n rows.
        m: clusters, 1 ≤ m ≤ n.
        rng: draws the initial centres.
        iterations: maximum number of moves; stops earlier when no row changes its cluster.

    Returns:
        Centres (m, d), and each row's nearest centre in [0, m), the lowest on a tie.

    Raises:
        PotstillError: ``m`` is not in 1…n.
    """
    check_size(len(features), m)
    centres = _plus_plus(features, m, rng)
    rows: Tensor | CentredRows = centre_rows(features) if features.numel() > _LARGE else features
    assignment, gaps = _nearest(rows, centres)
    for _ in range(iterations):
        centres = _move(features, assignment, gaps, m)
        previous = assignment
        assignment, gaps = _nearest(rows, centres)
        if torch.equal(previous, assignment):
            break
    return centres, assignment


def average_clusters(
    rows: Float[Tensor, "n d"], clusters: int, least: int, rng: Generator, iterations: int = 20
) -> tuple[Float[Tensor, "m d"], Int[Tensor, " m"]]:
    """Return the means of k-means clusters of at least so many rows each, and their sizes.

    While a cluster is too small, the smallest is dissolved: its rows go to the nearest of the other centres.

    Args:
        rows: of one class, at least ``least``.
        clusters: number of clusters at most.
        least: fewest rows of a cluster.
        rng: draws the first centres.
        iterations: maximum number of moves of k-means.

    Raises:
        PotstillError: there are fewer than ``least`` rows.
    """
    if len(rows) < least:
        raise PotstillError(f"an average needs {least} samples, but there are {len(rows)}; lower the least number")
    centres, assignment = k_means(rows, max(1, min(clusters, len(rows) // least)), rng, iterations)
    while True:
        sizes = torch.bincount(assignment, minlength=len(centres))
        if int(sizes.min()) >= least:
            break
        smallest = int(sizes.argmin())
        centres = torch.cat([centres[:smallest], centres[smallest + 1 :]])
        assignment = torch.cdist(rows, centres).argmin(1)
    sums = torch.zeros_like(centres).index_add_(0, assignment, rows)
    return sums / sizes[:, None].to(sums), sizes


def k_means_medoids(features: Float[Tensor, "n d"], m: int, rng: Generator, iterations: int) -> Int[Tensor, " m"]:
    """Return the rows nearest to ``m`` centres of `k_means`: representative samples (DREAM, arXiv:2302.14416).

    Raises:
        PotstillError: ``m`` is not in 1…n.
    """
    return medoids(features, k_means(features, m, rng, iterations)[0])


def medoids(features: Float[Tensor, "n d"], centroids: Float[Tensor, "m d"]) -> Int[Tensor, " m"]:
    """Return the row nearest to each centroid, skipping rows of earlier centroids, so that all are distinct.

    Raises:
        PotstillError: there are more centroids than rows.
    """
    check_size(len(features), len(centroids))
    if features.numel() > _LARGE:
        return _medoids(features, centroids)
    is_taken = torch.zeros(len(features), dtype=torch.bool, device=features.device)
    order = []
    for centroid in centroids:
        best = int(squared_distances(features, centroid).masked_fill(is_taken, math.inf).argmin())
        is_taken[best] = True
        order.append(best)
    return torch.tensor(order, dtype=torch.int64)


def _plus_plus(features: Tensor, m: int, rng: Generator) -> Tensor:
    # the draws are uniforms inverted through the cumulative potential on the CPU: the same on every device
    trials = 2 + int(math.log(m))
    chosen = [int(torch.randint(len(features), (1,), generator=rng))]
    reach = squared_distances(features, features[chosen[0]])
    gaps = _gaps(features)
    while len(chosen) < m:
        cumulative = reach.double().cpu().cumsum(0)
        draws = torch.rand(trials, generator=rng, dtype=torch.float64) * cumulative[-1]
        candidates = torch.searchsorted(cumulative, draws, right=True).clamp_max(len(features) - 1).tolist()
        reaches = [torch.minimum(reach, gap) for gap in gaps(candidates)]
        best = min(range(trials), key=lambda j: float(reaches[j].sum()))
        chosen.append(candidates[best])
        reach = reaches[best]
    return features[chosen]


def _distances(features: Tensor, mean: Tensor) -> Callable[[Tensor], Tensor]:
    """Return a function from a point less ``mean`` to its squared distances (n,) from the rows."""
    if features.numel() <= _LARGE:
        rows = features - mean
        return lambda point: squared_distances(rows, point)
    about = centre_rows(features)
    return lambda point: about.distances_to((point + mean).unsqueeze(0)).squeeze(1)


def _medoids(features: Tensor, centroids: Tensor) -> Tensor:
    """Compute `medoids` in one pass that keeps the few nearest rows of each centroid."""
    m = len(centroids)
    kept = min(_KEPT, len(features))
    gap = torch.full((m, kept), math.inf, dtype=features.dtype, device=features.device)
    row = torch.zeros(m, kept, dtype=torch.int64, device=features.device)
    for part in chunks(len(features), max(m, features.shape[1]), _CHUNK // 4):
        both = torch.cat([gap, pairwise_squared(features[part], centroids).T], 1)
        index = torch.arange(part.start, part.stop, device=features.device).expand(m, -1)
        near = both.topk(kept, largest=False)
        gap, row = near.values, torch.cat([row, index], 1).gather(1, near.indices)
    order: list[int] = []
    for c, nearby in enumerate(row.tolist()):
        left = [i for i in nearby if i not in order]
        if not left:
            away = squared_distances(features, centroids[c])
            away[order] = math.inf
            left = [int(away.argmin())]
        order.append(left[0])
    return torch.tensor(order, dtype=torch.int64)


def _gaps(features: Tensor) -> Callable[[list[int]], list[Tensor]]:
    """Return a function from row indices to their squared distances from every row."""
    if features.numel() <= _LARGE:
        return lambda at: [squared_distances(features, features[i]) for i in at]
    rows = centre_rows(features)
    return lambda at: list(rows.distances_to(features[at]).T.contiguous())


def _nearest(features: Tensor | CentredRows, centres: Tensor) -> tuple[Tensor, Tensor]:
    if isinstance(features, CentredRows):
        owner, gap = nearest_centres(features, centres)
        return owner, gap.sqrt()
    rows = max(1, _CHUNK // max(1, len(centres)))
    parts = [
        torch.cdist(part, centres, compute_mode="donot_use_mm_for_euclid_dist") for part in torch.split(features, rows)
    ]
    best = [part.min(1) for part in parts]
    return torch.cat([part.argmin(1) for part in parts]), torch.cat([b.values for b in best])


def _move(features: Tensor, assignment: Tensor, gaps: Tensor, m: int) -> Tensor:
    empty = (torch.bincount(assignment, minlength=m) == 0).nonzero().flatten()
    if len(empty):
        assignment = assignment.clone()
        gaps = gaps.clone()
        for cluster in empty.tolist():
            sizes = torch.bincount(assignment, minlength=m)
            # only a row whose cluster keeps another may leave it
            movable = gaps.masked_fill(sizes[assignment] < 2, -1.0)
            farthest = int(movable.argmax())
            assignment[farthest] = cluster
            gaps[farthest] = 0.0
    if features.numel() > _LARGE:
        return cluster_sums(features, assignment, m) / torch.bincount(assignment, minlength=m).to(features).unsqueeze(1)
    total = torch.zeros(m, features.shape[1], dtype=features.dtype, device=features.device)
    rows = max(1, _CHUNK // m)
    for part, owner in zip(torch.split(features, rows), torch.split(assignment, rows), strict=True):
        total += F.one_hot(owner, m).to(features).T @ part  # a product, because index_add is not repeatable on a GPU
    return total / torch.bincount(assignment, minlength=m).to(features).unsqueeze(1)
