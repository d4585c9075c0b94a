"""The value `NodeGraph`: one graph whose nodes are samples, and how a node becomes a vector."""

import hashlib
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float32, Int
from torch import Tensor

from potstill.core import registry
from potstill.errors import PotstillError
from potstill.functional.graph import normalized_adjacency, propagate, subgraph, undirected_edges

__all__ = ["NodeGraph", "Propagated", "parse_propagated"]

_MOST_HOPS = 10
_SCALES = ("auto", "rows", "columns", "none")


@dataclass(frozen=True, kw_only=True)
class Propagated:
    """The vector of a node: its features after products with the normalised adjacency (SGC, arXiv:1902.07153).

    Raises:
        PotstillError: a setting out of its range.
    """

    hops: int = 2
    """Products with the adjacency; 0: a node's own features."""
    inductive: bool = False
    """True: training nodes see the edges among themselves alone; others see the whole graph."""
    scale: str = "auto"
    """``rows`` sum to 1 (counts of words), ``columns`` are standardised by training nodes, ``none``; ``auto``:
    ``rows`` where no feature is negative, else ``columns``."""

    def __post_init__(self) -> None:
        if not 0 <= self.hops <= _MOST_HOPS:
            raise PotstillError(f"representation propagated: hops must be from 0 to {_MOST_HOPS}, not {self.hops}")
        if self.scale not in _SCALES:
            raise PotstillError(
                f"representation propagated: scale must be one of {', '.join(_SCALES)}, not {self.scale!r}"
            )

    def scaled(self, x: Float32[Tensor, "n d"], train: Int[Tensor, " m"]) -> tuple[Float32[Tensor, "n d"], str]:
        """Return scaled features of all nodes, and the scale that was chosen."""
        scale = self.scale if self.scale != "auto" else ("rows" if bool((x >= 0).all()) else "columns")
        if scale == "rows":
            total = x.double().sum(1, keepdim=True)
            x = (x.double() / torch.where(total.abs() < 1e-12, torch.ones_like(total), total)).float()
        elif scale == "columns":
            training_rows = x[train].double()
            spread = training_rows.std(0, correction=0)
            x = (
                (x.double() - training_rows.mean(0)) / torch.where(spread < 1e-6, torch.ones_like(spread), spread)
            ).float()
        return x, scale


def parse_propagated(spelled: str | None) -> Propagated:
    """Return the representation ``propagated`` or ``propagated:hops=2,inductive=True``; ``None``: the default.

    Raises:
        PotstillError: another name or setting, or a value out of its range.
    """
    name, _, settings = (spelled or "propagated").partition(":")
    if name != "propagated":
        raise PotstillError(
            f"nodes of a graph have the representation propagated, not {name[:40]!r}; "
            'for example `representation="propagated:hops=2"`'
        )
    representation: Propagated = registry.with_settings("representation propagated", Propagated, settings)
    return representation


@dataclass(frozen=True, kw_only=True, eq=False)
class NodeGraph:
    """One graph: features of all nodes, undirected edges, and the nodes that choose when a student stops.

    Legend: n nodes, d features, m edges, v validation nodes.
    """

    features: Float32[Tensor, "n d"]
    """Scaled features of every node."""
    edges: Int[Tensor, "2 m"]
    """Each undirected edge once, the smaller node first."""
    validation: Int[Tensor, " v"]
    """Nodes that are neither trained on nor tested."""
    validation_labels: Int[Tensor, " v"]
    representation: Propagated = Propagated()
    columns: tuple[str, ...] = ()
    """Names of the features, where they are known."""

    def __post_init__(self) -> None:
        if not torch.equal(self.edges, undirected_edges(self.edges)):
            raise ValueError("edges must be undirected_edges(edges)")

    def __len__(self) -> int:
        return len(self.features)

    @cached_property
    def adjacency(self) -> Float32[Tensor, "n n"]:
        """The normalised adjacency of all nodes, sparse."""
        return normalized_adjacency(self.edges, len(self))

    @cached_property
    def propagated(self) -> Float32[Tensor, "n d"]:
        """Vectors of all nodes on the whole graph."""
        return propagate(self.adjacency, self.features, self.representation.hops)

    @cached_property
    def content_hash(self) -> str:
        """SHA-256 of features, edges and validation nodes: the same on every machine, as propagated ones are not."""
        digest = hashlib.sha256(repr(self.representation).encode())
        for tensor in (self.features, self.edges, self.validation, self.validation_labels):
            digest.update(repr(tuple(tensor.shape)).encode())
            digest.update(tensor.contiguous().numpy().data)
        return digest.hexdigest()

    def training_vectors(self, nodes: Int[Tensor, " k"]) -> Float32[Tensor, "k d"]:
        """Return the vectors of training nodes: on the whole graph, or among themselves where it is inductive."""
        if not self.representation.inductive:
            return self.propagated[nodes]
        among = normalized_adjacency(self.training_edges(nodes), len(nodes))
        return propagate(among, self.features[nodes], self.representation.hops)

    def training_edges(self, nodes: Int[Tensor, " k"]) -> Int[Tensor, "2 j"]:
        """Return the edges among some nodes, numbered by their position in ``nodes``."""
        return subgraph(self.edges, nodes, len(self))
