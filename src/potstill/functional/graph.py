r"""Graphs as matrices: undirected edges, the symmetric normalisation of GCN, SGC's propagation, GCond's pairs.

.. math::
    \hat A = D^{-1/2} (A + I) D^{-1/2}, \qquad D_{ii} = \sum_j (A + I)_{ij}, \qquad X^{(K)} = \hat A^K X

(Kipf and Welling, arXiv:1609.02907, eq. 2; Wu et al., arXiv:1902.07153, eq. 7).
"""

from collections.abc import Mapping

import torch
from jaxtyping import Float, Int
from torch import Tensor

from potstill.errors import PotstillError

__all__ = [
    "dense_normalized_adjacency",
    "normalized_adjacency",
    "pair_logits",
    "propagate",
    "subgraph",
    "undirected_edges",
]


def undirected_edges(edges: Int[Tensor, "2 e"]) -> Int[Tensor, "2 m"]:
    """Return every undirected edge once, the smaller node first, in ascending order; loops are left out.

    Args:
        edges: of any direction, with repeats and loops.

    Examples:
        >>> undirected_edges(torch.tensor([[2, 0, 1, 1], [0, 2, 1, 0]])).tolist()
        [[0, 0], [1, 2]]
    """
    low, high = edges.min(0).values, edges.max(0).values
    kept = low < high
    pairs = torch.stack([low[kept], high[kept]])
    once: Tensor = torch.unique(pairs, dim=1)
    return once


def normalized_adjacency(
    edges: Int[Tensor, "2 m"], nodes: int, weights: Float[Tensor, " m"] | None = None
) -> Float[Tensor, "n n"]:
    """Return the adjacency with loops, normalised on both sides, as a coalesced sparse float32 matrix (n, n).

    Args:
        edges: each undirected edge once, without loops.
        nodes: n.
        weights: of the edges; ``None``: 1 each.

    Raises:
        PotstillError: an edge to a node that is not there.
    """
    if edges.numel() and not 0 <= int(edges.min()) <= int(edges.max()) < nodes:
        raise PotstillError(
            f"edges have nodes from {int(edges.min())} to {int(edges.max())}, but there are {nodes:,} nodes, numbered "
            "from 0; correct the edges"
        )
    loops = torch.arange(nodes, device=edges.device)
    row, column = torch.cat([edges[0], edges[1], loops]), torch.cat([edges[1], edges[0], loops])
    one_way = torch.ones(edges.shape[1], device=edges.device) if weights is None else weights.float()
    value = torch.cat([one_way, one_way, torch.ones(nodes, device=edges.device)])
    degree = torch.zeros(nodes, dtype=torch.float64, device=edges.device).index_add_(0, row, value.double())
    scale = degree.rsqrt()
    value = (value.double() * scale[row] * scale[column]).float()
    # without checking invariants, whose warning names torch's default
    made = torch.sparse_coo_tensor(torch.stack([row, column]), value, (nodes, nodes), check_invariants=False)
    return made.coalesce()


def propagate(adjacency: Float[Tensor, "n n"], x: Float[Tensor, "n d"], hops: int) -> Float[Tensor, "n d"]:
    """Return the features after ``hops`` products with the adjacency; 0 hops: ``x`` itself.

    Args:
        adjacency: normalised, sparse or dense.
        x: features of all nodes.
        hops: K ≥ 0.
    """
    for _ in range(hops):
        x = torch.sparse.mm(adjacency, x) if adjacency.is_sparse else adjacency @ x
    return x


def subgraph(edges: Int[Tensor, "2 m"], nodes: Int[Tensor, " k"], total: int) -> Int[Tensor, "2 j"]:
    """Return the edges among some nodes, numbered by their position in ``nodes``.

    Args:
        edges: each undirected edge once.
        nodes: distinct node numbers.
        total: number of nodes of the graph.
    """
    position = torch.full((total,), -1, dtype=torch.int64)
    position[nodes] = torch.arange(len(nodes))
    ends = position[edges]
    return undirected_edges(ends[:, (ends >= 0).all(0)])


def dense_normalized_adjacency(adjacency: Float[Tensor, "n n"]) -> Float[Tensor, "n n"]:
    """Return a symmetric adjacency of weights without loops with them, normalised on both sides, differentiable.

    Examples:
        >>> dense_normalized_adjacency(torch.tensor([[0.0, 1.0], [1.0, 0.0]])).tolist()
        [[0.5, 0.5], [0.5, 0.5]]
    """
    looped = adjacency + torch.eye(len(adjacency), dtype=adjacency.dtype, device=adjacency.device)
    scale = looped.sum(1).rsqrt()
    return scale[:, None] * looped * scale[None, :]


def pair_logits(x: Float[Tensor, "n d"], network: Mapping[str, Tensor]) -> Float[Tensor, "n n"]:
    """Return what a network of three layers says of each ordered pair of nodes (GCond, arXiv:2110.07580, eq. 7).

    Each of the first two layers is linear, then standardised over all pairs (BatchNorm's batch statistics), scaled and
    shifted, then a ReLU. The first one is a sum of a part of either node, so that pairs are never written out.

    Args:
        x: features of the nodes.
        network: ``first`` (h, 2d), ``second`` (h, h) and ``last`` (h,), their biases ``first_bias`` (h,),
            ``second_bias`` (h,) and ``last_bias`` (1,); ``scales`` and ``shifts`` (2, h) of the standardised units.
    """
    d = x.shape[1]
    left, right = x @ network["first"][:, :d].T, x @ network["first"][:, d:].T
    h = left[:, None, :] + right[None, :, :] + network["first_bias"]
    for layer in range(2):
        if layer:
            h = h @ network["second"].T + network["second_bias"]
        mean = h.mean((0, 1))
        spread = ((h - mean).square().mean((0, 1)) + _BATCH_NORM).rsqrt()
        h = ((h - mean) * spread * network["scales"][layer] + network["shifts"][layer]).relu()
    return h @ network["last"] + network["last_bias"]


_BATCH_NORM = 1e-5
"""PyTorch's ε of BatchNorm."""
