r"""Graphs as sparse matrices: undirected edges, the symmetric normalisation of GCN, and SGC's propagation.

.. math::
    \hat A = D^{-1/2} (A + I) D^{-1/2}, \qquad D_{ii} = \sum_j (A + I)_{ij}, \qquad X^{(K)} = \hat A^K X

(Kipf and Welling, arXiv:1609.02907, eq. 2; Wu et al., arXiv:1902.07153, eq. 7).
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from potstill.errors import PotstillError

__all__ = ["normalized_adjacency", "propagate", "subgraph", "undirected_edges"]


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
