"""Nearest neighbours of every row among the others, and their graph, without an n × n matrix.

``exact`` search compares all pairs in chunks: n² · d. ``cells`` is approximate: k-means makes about √n cells, and each
row is compared with the rows of its few nearest cells: n^1.5 · d. ``faiss`` is that library's inverted file (Douze et
al. 2024, arXiv:2401.08281) with as many cells and all threads. Distances are recomputed from differences, so that equal
rows are at 0 with every search.
"""

import math
from typing import Literal, NamedTuple, TypeAlias

import torch
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor

from potstill.errors import PotstillError
from potstill.functional.distances import (
    CHUNK,
    centre_rows,
    chunks,
    cluster_sums,
    nearest_centres,
    pairwise_from_norms,
    pairwise_squared,
    squared_norms,
)
from potstill.functional.sampling import sample_distinct

__all__ = ["Graph", "Metric", "Neighbours", "Search", "neighbours", "symmetric_graph"]

Search: TypeAlias = Literal["exact", "cells", "faiss"]
Metric: TypeAlias = Literal["l2", "l1"]

_PROBES = 4
"""Cells searched per row."""
_SAMPLED = 32
"""Rows per cell that k-means is fitted on."""


class Neighbours(NamedTuple):
    """Neighbours of each row, nearest first, without the row itself."""

    others: Int[Tensor, "n k"]
    distance: Float[Tensor, "n k"]


class Graph(NamedTuple):
    """A symmetric graph: the neighbours of row i are ``target[offset[i]:offset[i + 1]]``, ascending."""

    offset: Int[Tensor, " n_plus_1"]
    target: Int[Tensor, " edges"]
    distance: Float[Tensor, " edges"]


def neighbours(
    x: Float[Tensor, "n d"], k: int, *, search: Search = "exact", metric: Metric = "l2", rng: Generator | None = None
) -> Neighbours:
    """Return the ``k`` nearest other rows of each row.

    Args:
        x: n ≥ 2 rows.
        k: neighbours, 1 ≤ k < n.
        search: see above. ``cells`` and ``faiss`` are approximate.
        metric: ``l2``: Euclidean; ``l1``: the sum of absolute differences, by exact search only.
        rng: draws the rows that cells are fitted on; needed by ``cells`` and ``faiss``.

    Raises:
        PotstillError: ``k`` is not in 1…n − 1, the search does not offer the metric, or faiss is not installed.
    """
    n = len(x)
    if not 1 <= k < n:
        raise PotstillError(
            f"a row can have 1 to {n - 1} neighbours among {n} rows, but {k} are requested; ask for fewer or "
            "add samples"
        )
    if metric == "l1" and search != "exact":
        raise PotstillError(f"the search {search!r} measures l2 distances only; choose exact for l1, or l2")
    if search == "exact":
        index = _exact(x, k, metric)
    elif rng is None:
        raise PotstillError(f"the search {search!r} draws at random: give it a generator (rng)")
    else:
        index = _cells(x, k, rng) if search == "cells" else _faiss(x, k, rng)
    return _with_distances(x, index, metric)


def symmetric_graph(nearest: Neighbours) -> Graph:
    """Return the graph that joins two rows if one is among the other's neighbours."""
    n, k = nearest.others.shape
    own = torch.arange(n, device=nearest.others.device).repeat_interleave(k)
    other = nearest.others.flatten()
    keys = torch.cat([own * n + other, other * n + own])
    sorted_keys, order = keys.sort(stable=True)
    first = torch.ones_like(sorted_keys, dtype=torch.bool)
    first[1:] = sorted_keys[1:] != sorted_keys[:-1]
    keys = sorted_keys[first]
    distance = nearest.distance.flatten()[order[first] % (n * k)]  # an edge is as long in both directions
    offset = torch.searchsorted(keys, torch.arange(n + 1, device=keys.device) * n)
    return Graph(offset, keys % n, distance)


def _with_distances(x: Tensor, index: Tensor, metric: Metric) -> Neighbours:
    """Sort neighbours by distances from differences; the lower index first on a tie."""
    index = index.sort(1).values
    distance = torch.empty(index.shape, dtype=x.dtype, device=x.device)
    for part in chunks(len(x), index.shape[1] * x.shape[1], CHUNK // 4):
        gaps = x[index[part]] - x[part].unsqueeze(1)
        distance[part] = gaps.abs().sum(2) if metric == "l1" else gaps.square_().sum(2).sqrt()
    order = distance.sort(dim=1, stable=True)
    return Neighbours(index.gather(1, order.indices), order.values)


def _exact(x: Tensor, k: int, metric: Metric) -> Tensor:
    index = torch.empty(len(x), k, dtype=torch.int64, device=x.device)
    x = x - x.mean(0)
    of_x = squared_norms(x)
    for part in chunks(len(x), len(x), max(CHUNK, 32 * len(x))):
        gaps = torch.cdist(x[part], x, p=1.0) if metric == "l1" else pairwise_from_norms(x[part], x, of_x[part], of_x)
        rows = torch.arange(part.start, part.stop, device=x.device)
        gaps[rows - part.start, rows] = math.inf
        index[part] = gaps.topk(k, largest=False).indices
    return index


def _centres(x: Tensor, rng: Generator) -> Tensor:
    """Fit about √n centres on a part of the rows by a few steps of Lloyd's algorithm."""
    count = min(len(x), math.isqrt(len(x)) + 1)
    rows = x[sample_distinct(len(x), min(len(x), _SAMPLED * count), rng).to(x.device)]
    centres, about = rows[:count].clone(), centre_rows(rows)  # in random order as they are
    for _ in range(4):
        owner, _ = nearest_centres(about, centres)
        sizes = torch.bincount(owner, minlength=count)
        moved = cluster_sums(rows, owner, count) / sizes.clamp_min(1).unsqueeze(1)
        centres = torch.where(sizes.unsqueeze(1) > 0, moved, centres)
    return centres


def _cells(x: Tensor, k: int, rng: Generator) -> Tensor:
    n, centres = len(x), _centres(x, rng)
    probes = min(_PROBES, len(centres))
    cell = torch.empty(n, probes, dtype=torch.int32, device=x.device)
    for part in chunks(n, max(len(centres), x.shape[1]), CHUNK // 4):
        cell[part] = pairwise_squared(x[part], centres).topk(probes, largest=False).indices.int()
    members, member_ends = _group_by_cell(cell[:, 0], len(centres))
    asking, asking_ends = _group_by_cell(cell.flatten(), len(centres))
    best = torch.full((n, k), math.inf, dtype=x.dtype, device=x.device)
    index = torch.full((n, k), -1, dtype=torch.int64, device=x.device)
    for c in range(len(centres)):
        there = members[member_ends[c] : member_ends[c + 1]]
        if not len(there):
            continue
        rows = x[there] - centres[c]
        of_rows = squared_norms(rows)
        for part in chunks(asking_ends[c + 1] - asking_ends[c], max(len(there), x.shape[1]), CHUNK // 4):
            begin = asking_ends[c]
            asks = asking[begin + part.start : begin + part.stop] // probes
            near_by = x[asks] - centres[c]
            gaps = pairwise_from_norms(near_by, rows, squared_norms(near_by), of_rows)
            gaps[asks.unsqueeze(1) == there] = math.inf
            near = gaps.topk(min(k, len(there)), largest=False)
            both = torch.cat([best[asks], near.values], 1)
            kept = both.topk(k, largest=False)
            best[asks] = kept.values
            index[asks] = torch.cat([index[asks], there[near.indices]], 1).gather(1, kept.indices)
    return _complete_rows(x, index, best == math.inf)


def _group_by_cell(cell: Tensor, count: int) -> tuple[Tensor, list[int]]:
    """Return positions sorted by cell, and the offsets of the cells."""
    sizes = torch.bincount(cell, minlength=count)
    return torch.argsort(cell, stable=True), [0, *sizes.cumsum(0).tolist()]


def _complete_rows(x: Tensor, index: Tensor, missing: Bool[Tensor, "n k"]) -> Tensor:
    """Search all rows for the rows whose cells held too few neighbours."""
    lacking = missing.any(1).nonzero().flatten()
    if len(lacking):
        x = x - x.mean(0)
    of_x = squared_norms(x)
    for part in chunks(len(lacking), len(x), max(CHUNK, 32 * len(x))):
        rows = lacking[part]
        gaps = pairwise_from_norms(x[rows], x, of_x[rows], of_x)
        gaps[torch.arange(len(rows), device=x.device), rows] = math.inf
        index[rows] = gaps.topk(index.shape[1], largest=False).indices
    return index


def _faiss(x: Tensor, k: int, rng: Generator) -> Tensor:
    try:
        import faiss
    except ImportError as error:
        raise PotstillError(
            "the search 'faiss' needs faiss, which is not installed; pip install 'potstill[neighbours]', "
            "or choose exact or cells"
        ) from error
    centres = _centres(x, rng)
    coarse = faiss.IndexFlatL2(x.shape[1])
    index = faiss.IndexIVFScalarQuantizer(coarse, x.shape[1], len(centres), faiss.ScalarQuantizer.QT_fp16)
    coarse.add(centres.cpu().float().numpy())
    index.train(centres.cpu().float().numpy())  # the cells are there; half precision has nothing to learn
    index.nprobe = _PROBES
    for part in chunks(len(x), x.shape[1]):
        index.add(x[part].cpu().float().contiguous().numpy())
    found = torch.empty(len(x), k, dtype=torch.int64)
    for part in chunks(len(x), x.shape[1]):
        at = torch.from_numpy(index.search(x[part].cpu().float().contiguous().numpy(), k + 1)[1])
        own = torch.arange(part.start, part.stop).unsqueeze(1)
        # the row itself goes to the end, the others keep their order
        order = (at == own).int().argsort(dim=1, stable=True)
        found[part] = at.gather(1, order)[:, :k]
    return _complete_rows(x, found.to(x.device), (found < 0).to(x.device))
