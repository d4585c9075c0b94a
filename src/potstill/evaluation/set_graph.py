"""Nodes of a set that have edges between them, as learners of nodes train on them."""

from dataclasses import dataclass

import torch
from jaxtyping import Float32
from torch import Tensor

from potstill.dataset_file import Distilled
from potstill.functional.graph import normalized_adjacency
from potstill.parametrize.learned_graph import EDGES, FEATURES, adjacency_of

__all__ = ["SetGraph", "graph_of_set"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SetGraph:
    """Nodes and the edges between them. Legend: n nodes, d features."""

    features: Float32[Tensor, "n d"]
    """Features in data units, before any product with the adjacency."""
    adjacency: Float32[Tensor, "n n"]
    """Normalised adjacency with loops, sparse."""


def graph_of_set(distilled: Distilled) -> SetGraph | None:
    """Return the features and edges of a set whose payload has both; ``None``: its nodes have no edges."""
    described = distilled.metadata.get("decoder") or {}
    name = str(described.get("parametrization", "")).partition(":")[0]
    if name != "learned-graph" or not {FEATURES, EDGES} <= set(distilled.payload):
        return None
    x, adjacency = distilled.payload[FEATURES].float(), adjacency_of(distilled.payload)
    x = x if described.get("space") == "data" else distilled.normalization.invert(x)
    edges = torch.triu(adjacency, 1).nonzero().T
    return SetGraph(features=x, adjacency=normalized_adjacency(edges, len(x), adjacency[edges[0], edges[1]]))
