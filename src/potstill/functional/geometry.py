"""Coreset selection from features: medians, density, moderation, coverage of subspaces.

As in `potstill.functional.coreset`: no n × n matrix, ties go to the lowest index.
"""

import math

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Generator, Tensor

from potstill.functional.coreset import check_size
from potstill.functional.distances import (
    CHUNK,
    centre_rows,
    chunks,
    cluster_sums,
    nearest_centres,
    pairwise_from_norms,
    squared_distances,
    squared_norms,
)
from potstill.functional.neighbours import Graph

__all__ = ["divergence_center", "geometric_medians", "graph_density", "k_median", "moderate", "zcore_scores"]

_CANDIDATES = 64
"""Rows nearest to a cluster's centre among which its medoid is searched."""


def geometric_medians(
    x: Float[Tensor, "n d"], m: int, rng: Generator, iterations: int = 100
) -> tuple[Float[Tensor, "m d"], Int[Tensor, " n"]]:
    r"""Find ``m`` centres with a small sum of distances :math:`\sum_x \min_j \lVert x - \mu_j \rVert` (k-median).

    Initial rows are drawn in proportion to their distance to those drawn before (greedy k-means++ with the first power)
    and moved to the means of their clusters. Then alternate: each row to its nearest centre, each centre one step of
    Weiszfeld (1937), which never raises the sum. The centre of a cluster that loses its last row stays.

    Args:
        x: n rows.
        m: centres, 1 ≤ m ≤ n.
        rng: draws the initial rows.
        iterations: maximum rounds; stops when the sum falls by less than a part in 10⁵.

    Returns:
        Centres, and the nearest centre of each row.

    Raises:
        PotstillError: ``m`` is not in 1…n.
    """
    check_size(len(x), m)
    initial = [int(torch.randint(len(x), (1,), generator=rng))]
    reach = squared_distances(x, x[initial[0]])
    rows = centre_rows(x)
    trials = 2 + int(math.log(m))
    while len(initial) < m:
        # uniforms inverted through the cumulative distances on the CPU: the same draws on every device
        cumulative = reach.sqrt().double().cpu().cumsum(0)
        draws = torch.rand(trials, generator=rng, dtype=torch.float64) * cumulative[-1]
        drawn = torch.searchsorted(cumulative, draws, right=True).clamp_max(len(x) - 1)
        reaches = torch.minimum(rows.distances_to(x[drawn.to(x.device)]), reach.unsqueeze(1))
        sums = torch.stack([r.sqrt().sum(0, dtype=torch.float64) for r in torch.split(reaches, 1 << 20)])
        best = int(sums.sum(0).argmin())
        initial.append(int(drawn[best]))
        reach = reaches[:, best].clone()
    before = math.inf
    owner, gap = nearest_centres(rows, x[initial])
    centres = _means(x, owner, torch.ones_like(gap), x[initial])  # off the rows: a step from a row leads nowhere
    owner, gap = nearest_centres(rows, centres)
    for _ in range(iterations):
        distance = gap.sqrt()
        total = float(distance.double().sum())
        if not total < before * (1 - 1e-5):
            break
        before = total
        # a row at its centre would weigh without bound: distances are kept off 0
        weights = 1 / distance.clamp_min(1e-6 * total / len(x) + torch.finfo(x.dtype).tiny)
        centres = _means(x, owner, weights, centres)
        owner, gap = nearest_centres(rows, centres)
    return centres, owner


def _means(x: Tensor, owner: Tensor, weights: Tensor, centres: Tensor) -> Tensor:
    """Return the weighted means of the clusters; an empty cluster keeps its centre."""
    cluster_weights = torch.bincount(owner.cpu(), weights.double().cpu(), minlength=len(centres)).to(x).unsqueeze(1)
    sums = cluster_sums(x, owner, len(centres), weights)
    return torch.where(cluster_weights > 0, sums / cluster_weights.clamp_min(torch.finfo(x.dtype).tiny), centres)


def k_median(x: Float[Tensor, "n d"], m: int, rng: Generator, iterations: int = 100) -> Int[Tensor, " m"]:
    """Select the medoid of each k-median cluster: the row with the smallest sum of distances to the cluster's rows.

    It is searched among the 64 rows nearest to the centre, so that a cluster of s rows costs 64 · s · d, not s² · d.

    Returns:
        Distinct rows, larger clusters first; for an empty cluster, the row farthest from those selected.

    Raises:
        PotstillError: ``m`` is not in 1…n.
    """
    centres, owner = geometric_medians(x, m, rng, iterations)
    sizes = torch.bincount(owner, minlength=m).cpu()
    members = torch.split(torch.argsort(owner, stable=True), sizes.tolist())
    selected = [_medoid(x, members[c], centres[c]) for c in sizes.argsort(descending=True, stable=True) if sizes[c]]
    while len(selected) < m:
        reach = nearest_centres(x, x[selected])[1]
        reach[selected] = -1.0
        selected.append(int(reach.argmax()))
    return torch.tensor(selected)


def _medoid(x: Tensor, members: Tensor, centre: Tensor) -> int:
    parts = list(chunks(len(members), x.shape[1], CHUNK // 4))
    distances = torch.cat([squared_norms(x[members[part]].sub_(centre)) for part in parts])
    candidates = members[distances.topk(min(_CANDIDATES, len(members)), largest=False).indices.sort().values]
    near = x[candidates].sub_(centre)
    of_near = squared_norms(near)
    total = torch.zeros(len(candidates), dtype=torch.float64, device=x.device)
    for part in parts:
        rows = x[members[part]].sub_(centre)
        total += pairwise_from_norms(rows, near, squared_norms(rows), of_near).sqrt_().sum(0, dtype=torch.float64)
    return int(candidates[int(total.argmin())])


def graph_density(graph: Graph, m: int, sigma: float | None = None) -> Int[Tensor, " m"]:
    r"""Select dense rows of a neighbour graph, none close to another (RALF, Ebert, Fritz and Schiele, CVPR 2012).

    .. math::
        \mathrm{Gra}(i) = \frac{\sum_j W_{ij}}{\sum_j P_{ij}}, \qquad
        W_{ij} = P_{ij} \exp\Big( -\frac{d_{ij}}{2 \sigma^2} \Big)

    P is 1 where rows are joined. The densest row i is taken, and Gra(j) falls by Gra(i) P_ij for every j, as long as
    Gra(i) is above 0.

    Args:
        graph: edges and their lengths.
        m: number to select, 1 ≤ m ≤ n.
        sigma: σ, above 0; by default such that 2σ² is the mean length of an edge.

    Returns:
        Distinct rows in order of selection; every prefix is the selection for a smaller ``m``.

    Raises:
        PotstillError: ``m`` is not in 1…n.
    """
    n = len(graph.offset) - 1
    check_size(n, m)
    offset, target, length = graph.offset.cpu(), graph.target.cpu(), graph.distance.cpu().double()
    scale = 2 * sigma**2 if sigma is not None else float(length.mean()) or 1.0
    degree = offset.diff()
    total = torch.bincount(torch.arange(n).repeat_interleave(degree), torch.exp(-length / scale), minlength=n)
    density = total / degree.clamp_min(1)
    order: list[int] = []
    for _ in range(m):
        best = int(density.argmax())
        joined = target[offset[best] : offset[best + 1]]
        density[joined] -= density[best].clamp_min(0)
        density[best] = -math.inf  # below what any other has fallen to, and it stays so
        order.append(best)
    return torch.tensor(order)


def moderate(x: Float[Tensor, "n d"], m: int, mean: Float[Tensor, " d"] | None = None) -> Int[Tensor, " m"]:
    """Select the rows whose distance to the mean is nearest to the median distance (Moderate Coreset, ICLR 2023).

    Args:
        x: rows of one class.
        m: number to select, 1 ≤ m ≤ n.
        mean: class mean; ``None``: that of ``x``.

    Returns:
        Distinct rows, the most moderate first.

    Raises:
        PotstillError: ``m`` is not in 1…n.
    """
    check_size(len(x), m)
    distance = squared_distances(x, x.mean(0) if mean is None else mean).sqrt()
    return (distance - distance.median()).abs().argsort(stable=True)[:m].cpu()


def divergence_center(log_p: Float[Tensor, "n k"], m: int) -> Int[Tensor, " m"]:
    r"""Select by farthest-point traversal in the symmetric KL divergence of predictions (CDAL, arXiv:2008.05723).

    .. math::
        J(p, q) = \tfrac{1}{2} \mathrm{KL}(p \Vert q) + \tfrac{1}{2} \mathrm{KL}(q \Vert p)
          = \tfrac{1}{2} \sum_c (p_c - q_c) (\log p_c - \log q_c)

    J is no metric, so the 2-approximation of k-center does not hold.

    Args:
        log_p: log-probabilities of k classes, finite.
        m: number to select, 1 ≤ m ≤ n.

    Returns:
        Distinct rows in order of selection: first the one nearest to the mean distribution, then the one farthest from
        its nearest selected one.

    Raises:
        PotstillError: ``m`` is not in 1…n.
    """
    n = len(log_p)
    check_size(n, m)
    parts = list(chunks(n, log_p.shape[1], CHUNK // 128))

    def divergence_to(log_q: Tensor) -> Tensor:
        q, distances = log_q.exp(), log_p.new_empty(n)
        for s in parts:  # written where it stays: see `distances`
            torch.sum((log_p[s].exp() - q).mul_(log_p[s] - log_q), 1, out=distances[s])
        return distances.div_(2)

    mean = sum(log_p[s].exp().sum(0, dtype=torch.float64) for s in parts)
    assert isinstance(mean, Tensor)
    best = int(divergence_to((mean / n).log().to(log_p)).argmin())
    order, reach = [best], divergence_to(log_p[best])
    while len(order) < m:
        reach[order[-1]] = -math.inf
        best = int(reach.argmax())
        order.append(best)
        reach = torch.minimum(reach, divergence_to(log_p[best]))
    return torch.tensor(order)


def zcore_scores(
    x: Float[Tensor, "n d"], rng: Generator, *, samples: int, dimensions: int = 2, neighbours: int = 1000,
    exponent: float = 4.0, draws_per_tree: int = 1,
) -> Float[Tensor, " n"]:  # fmt: skip
    """Return zero-shot scores of coverage less redundancy (ZCore, arXiv:2411.15349) in float64; high scores are kept.

    A draw takes some dimensions and a point in them, each coordinate triangular between the minimum, the median and the
    maximum. The nearest row (L1 in these dimensions) gains 1, and its nearest rows lose 1 together, in proportion to
    the distance to the power of −``exponent``; if the nearest is at 0, it alone loses 1. Scores start uniform in
    [0, 1), which orders rows that are never drawn.

    Args:
        x: n ≥ 2 rows.
        rng: generator of all draws.
        samples: number of draws.
        dimensions: dimensions of a draw, at most d.
        neighbours: rows that lose per draw.
        draws_per_tree: consecutive draws in the same dimensions, which share a search tree.
    """
    from scipy.spatial import cKDTree  # type: ignore[import-untyped]

    n, d = x.shape
    size, k = min(dimensions, d), min(neighbours, n - 1)
    score = torch.rand(n, generator=rng, dtype=torch.float64).numpy()
    num_drawn = 0
    while num_drawn < samples:
        count = min(draws_per_tree, samples - num_drawn)
        num_drawn += count
        dims = torch.randperm(d, generator=rng)[:size]
        part = x[:, dims.to(x.device)].cpu().double()
        points = _triangular(part, torch.rand(count, size, generator=rng, dtype=torch.float64))
        rows = np.ascontiguousarray(part.numpy())
        tree = cKDTree(rows)
        winner, times = np.unique(tree.query(points.numpy(), k=1, p=1)[1], return_counts=True)
        score[winner] += times
        for begin in range(0, len(winner), 256):
            w, t = winner[begin : begin + 256], times[begin : begin + 256]
            gap, near = tree.query(rows[w], k=k + 1, p=1)
            np.subtract.at(score, *_losses(w, t, gap, near, exponent))
    return torch.from_numpy(score)


def _triangular(part: Tensor, u: Tensor) -> Tensor:
    """Invert the triangular distribution of each column at uniform ``u``."""
    low, mid, high = part.min(0).values, part.median(0).values, part.max(0).values
    width = (high - low).clamp_min(1e-300)
    rising = low + (u * width * (mid - low)).sqrt()
    falling = high - ((1 - u) * width * (high - mid)).sqrt()
    return torch.where(u < (mid - low) / width, rising, falling)


def _losses(
    winner: NDArray[np.int64], times: NDArray[np.int64], gap: NDArray[np.float64], near: NDArray[np.int64],
    exponent: float,
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:  # fmt: skip
    """Return the neighbours of each winner, without itself, and the score that they lose."""
    is_self = near == winner[:, None]
    is_self[~is_self.any(1), -1] = True  # rows that coincide can crowd it out of its own neighbours
    others, distance = near[~is_self].reshape(len(near), -1), gap[~is_self].reshape(len(near), -1)
    order = np.lexsort((others, distance), axis=1)
    others, distance = np.take_along_axis(others, order, 1), np.take_along_axis(distance, order, 1)
    first = distance[:, :1]
    with np.errstate(divide="ignore", invalid="ignore"):
        share = (first / distance) ** exponent  # as a multiple of the nearest's, which neither over- nor underflows
        share = share / share.sum(1, keepdims=True)
    alone = first[:, 0] == 0
    share[alone] = 0.0
    share[alone, 0] = 1.0
    return others, share * times[:, None]
