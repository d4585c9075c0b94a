r"""Nodes with learned edges between them: a payload {X, A} (GCond; Jin et al., arXiv:2110.07580, section 3.2).

The adjacency is a function of the features, by one network that all pairs of nodes share (eq. 7):

.. math::
    A_{ij} = \sigma\Big(\tfrac12 \big(\mathrm{MLP}_\phi([x_i; x_j]) + \mathrm{MLP}_\phi([x_j; x_i])\big)\Big),
    \qquad A_{ii} = 0, \qquad \text{input} = \hat A^{K} X

with the normalisation :math:`\hat A` of `potstill.functional.graph`. Methods see propagated nodes, as they see real
ones, so that gradient matching through a linear model is GCond's through SGC. The network is needed while a set is
made; the file holds X and the weights A_ij, those below ``threshold`` as 0, as GCond's program has it.

GCond's program (read in GraphSlim, models/parametrized_adj.py) has three layers of 128 units with BatchNorm over all
pairs, ReLU, and Adam for both. Here both have one rate, of AdamW, and move together, not by turns; the last bias
starts at ``start``. Below 0 (−3 was tried on validation nodes of Cora) no weight came above the threshold.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from potstill.core import DecodeContext, Payload, Problem, Source
from potstill.errors import PotstillError
from potstill.functional.graph import dense_normalized_adjacency, pair_logits

__all__ = ["EDGES", "FEATURES", "LearnedGraph", "adjacency_of"]

FEATURES, EDGES = "features", "edges"
"""Payload tensors of a file: X (n, d), and A_ij for i < j, row by row (n (n − 1) / 2,)."""
_MOST_NODES = 1500
"""Nodes up to which all pairs are looked at."""


@dataclass(frozen=True, kw_only=True)
class LearnedGraph:
    """Nodes of a graph with learned edges between them.

    The payload: ``features`` (n, d), and ``edges`` (n (n − 1) / 2,), the weights in [0, 1] of the pairs i < j, row by
    row. While a set is made, weights of a network stand in place of the edges, as ``decoder/NAME``.

    Decoding: ``x = Â^hops features``, where ``Â = D^-1/2 (A + I) D^-1/2``, A is symmetric and has the edges above its
    diagonal, which is 0, and ``D`` has the sums of the rows of ``A + I``.

    Edges cost values: a budget of items pays for them, so that there are fewer nodes.

    Raises:
        PotstillError: a setting is out of its range.
    """

    kinds: ClassVar[tuple[str, ...]] = ("node",)
    hops: int = 2
    """Products with the adjacency, as in the data's representation."""
    hidden: int = 128
    """Hidden units of the network of pairs (published: 128; 256 for large graphs)."""
    threshold: float = 0.05
    """Weights below this are stored as 0 (published for Cora: 0.05)."""
    start: float = 0.0
    """Last bias of the network at the start; below 0 there are fewer edges. torch draws it near 0."""
    lr: float = 0.01
    """Learning rate of features and network. Published is 1e-4 for thousands of updates."""

    def __post_init__(self) -> None:
        if self.hops < 1 or self.hidden < 1 or not 0 <= self.threshold < 1 or not self.lr > 0:
            raise PotstillError(
                "learned-graph: hops and hidden must be at least 1, threshold at least 0 and below 1, lr above 0, but "
                f"they are {self.hops}, {self.hidden}, {self.threshold} and {self.lr}"
            )

    @property
    def bounded(self) -> bool:
        """False: the payload has weights of a network."""
        return False

    @property
    def payload_lr(self) -> float:
        """Learning rate of AdamW."""
        return self.lr

    def bind(self, train: Source, /) -> "LearnedGraph":
        """Return the parametrization for the nodes of ``train``.

        Raises:
            PotstillError: the data are no nodes, have other hops, or columns of several scales.
        """
        graph = getattr(train, "graph", None)
        if train.input.kind not in self.kinds or graph is None:
            raise PotstillError(
                f"parametrization learned-graph is for nodes of a graph, but {train.name} is {train.input.kind} data; "
                "take pixels"
            )
        if graph.representation.hops != self.hops:
            raise PotstillError(
                f"learned-graph propagates {self.hops} hops, but {train.name} is read with "
                f"{graph.representation.hops}; give parametrization=learned-graph:hops={graph.representation.hops}"
            )
        normalization = train.normalization
        if bool(normalization.mean.any()) or len(set(normalization.std.tolist())) > 1:
            raise PotstillError(
                "learned-graph needs features that are divided by one number, as those of nodes are by default; leave "
                "normalization out, or take pixels"
            )
        return self

    def sizes(self, numbers: tuple[int, ...], shape: tuple[int, ...], /) -> tuple[int, ...]:
        """Return the nodes of each class that its number of values allows, with the edges between all of them.

        Raises:
            PotstillError: a class gets no node, or there are too many for all pairs.
        """
        one, total = math.prod(shape), sum(numbers)
        nodes = sum(n // one for n in numbers)
        if nodes > _MOST_NODES:
            raise PotstillError(
                f"learned-graph looks at all pairs of at most {_MOST_NODES:,} nodes, but the budget holds {nodes:,}; "
                "lower it, or take pixels"
            )
        counts: tuple[int, ...] = (0,)
        for many in range(nodes, 0, -1):  # the most nodes that leave room for the edges between them
            counts = tuple(many * n // total for n in numbers)
            if sum(counts) * one + math.comb(sum(counts), 2) <= total:
                break
        if min(counts) < 1:
            raise PotstillError(
                f"one node has {one:,} numbers and edges to all others, but the budget leaves {min(numbers):,} to a "
                "class; raise it"
            )
        return counts

    def encode(self, x: Tensor, problem: Problem, rng: Generator, /) -> Payload:
        """Return the features as they are, and a network drawn as torch draws linear layers."""
        d, h = x.shape[1], self.hidden
        network = {
            "first": _uniform((h, 2 * d), 2 * d, rng), "first_bias": _uniform((h,), 2 * d, rng),
            "second": _uniform((h, h), h, rng), "second_bias": _uniform((h,), h, rng),
            "scales": torch.ones(2, h), "shifts": torch.zeros(2, h),
            "last": _uniform((h,), h, rng), "last_bias": torch.full((1,), self.start),
        }  # fmt: skip
        return {FEATURES: x, **{f"decoder/{name}": t.to(x) for name, t in network.items()}}

    def edges(self, payload: Payload, /) -> Float[Tensor, "n n"]:
        """Return the adjacency without loops, of a payload while it is made or as a file holds it."""
        if EDGES in payload:
            return adjacency_of(payload)
        network = {name.removeprefix("decoder/"): t for name, t in payload.items() if name.startswith("decoder/")}
        logits = pair_logits(payload[FEATURES], network)
        weights = (0.5 * (logits + logits.T)).sigmoid()
        return weights - torch.diag(weights.diagonal())

    def decode(self, payload: Payload, context: DecodeContext, /) -> Float[Tensor, "n d"]:
        """Return the propagated features of the nodes."""
        spread, x = dense_normalized_adjacency(self.edges(payload)), payload[FEATURES]
        for _ in range(self.hops):
            x = spread @ x
        return x

    def stored_payload(self, payload: Payload, /) -> Payload:
        """Return what a file holds of a payload: features, and the weights of the edges that are not too small."""
        with torch.no_grad():
            above = _above(len(payload[FEATURES])).to(payload[FEATURES].device)
            weights = self.edges(payload)[above[0], above[1]]
            kept = torch.where(weights < self.threshold, torch.zeros_like(weights), weights)
        return {FEATURES: payload[FEATURES], EDGES: kept}


def adjacency_of(payload: Mapping[str, Tensor]) -> Float[Tensor, "n n"]:
    """Return the adjacency without loops of the payload of a file.

    Raises:
        PotstillError: the numbers of nodes and of edges do not fit, or a weight is not in [0, 1].
    """
    x, weights = payload[FEATURES], payload[EDGES]
    n = len(x)
    if x.ndim != 2 or weights.shape != (n * (n - 1) // 2,):
        raise PotstillError(
            f"features of {n:,} nodes need {n * (n - 1) // 2:,} edges in one row, not {list(weights.shape)}; get the "
            "file again"
        )
    if weights.numel() and not (float(weights.min()) >= -_ROUNDING and float(weights.max()) <= 1 + _ROUNDING):
        raise PotstillError("weights of edges must be from 0 to 1; get the file again")
    above = _above(n).to(weights.device)
    adjacency = torch.zeros(n, n, dtype=weights.dtype, device=weights.device)
    adjacency = adjacency.index_put((above[0], above[1]), weights.clamp(0, 1))
    return adjacency + adjacency.T


_ROUNDING = 0.01
"""Maximum that rounding adds to a weight."""


def _above(n: int) -> Tensor:
    return torch.triu_indices(n, n, 1)


def _uniform(shape: tuple[int, ...], inputs: int, rng: Generator) -> Tensor:
    return (2 * torch.rand(shape, generator=rng) - 1) / math.sqrt(inputs)
