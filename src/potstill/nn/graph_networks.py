"""Networks of whole graphs (n, d + n): features of the nodes, and the upper triangle of the adjacency with a 1 on the
diagonal for each node that is present (`potstill.data.graph_sets`).

GIN: Xu et al., "How powerful are graph neural networks?", arXiv:1810.00826, eq. 4.1 with ε = 0, and eq. 4.2, the sums
over nodes of all layers. Norms are of each node in place of BatchNorm, and sums are divided by the nodes for which
there is room: sizes differ by graph, and values of a set that is being made are any numbers. GCN: Kipf and Welling,
arXiv:1609.02907, and the mean over nodes. Edges are clamped to [0, 1], the gradient is straight through.
"""

from abc import ABC, abstractmethod
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

from potstill.core import Network

__all__ = ["GIN", "GraphGCN", "split_graph"]


def split_graph(
    x: Float[Tensor, "b n m"],
) -> tuple[Float[Tensor, "b n d"], Float[Tensor, "b n n"], Float[Tensor, "b n"]]:
    """Return features, the symmetric adjacency with loops, and the presence of each node, all in [0, 1] but the first.

    Features of nodes that are not present are 0.
    """
    n = x.shape[1]
    features, upper = x[..., : x.shape[2] - n], torch.triu(x[..., x.shape[2] - n :])
    upper = upper + (upper.clamp(0, 1) - upper).detach()
    present = upper.diagonal(dim1=1, dim2=2)
    between = present[:, :, None] * present[:, None, :]
    above = torch.triu(upper, 1)
    adjacency = (above + above.transpose(1, 2)) * between + torch.diag_embed(present)
    return features * present[:, :, None], adjacency, present


class _OfGraphs(Network, ABC):
    """Layers of message passing, and a readout of each."""

    def __init__(self, shape: tuple[int, int], num_classes: int, *, depth: int = 3, width: int = 32) -> None:
        super().__init__()
        n, m = shape
        if m <= n:
            raise ValueError(f"graphs (n, d + n) have more columns than rows, but the shape is {shape}")
        sizes = [m - n, *(width for _ in range(depth))]
        self.layers = nn.ModuleList(self.layer(a, b) for a, b in pairwise(sizes))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(depth))
        self.classifier = nn.Linear(sum(sizes), num_classes)

    @staticmethod
    @abstractmethod
    def layer(before: int, after: int) -> nn.Module:
        """Return what a layer does to each node after messages have come in."""

    @abstractmethod
    def spread(self, adjacency: Tensor) -> Tensor:
        """Return the matrix by which messages pass."""

    @abstractmethod
    def read(self, h: Tensor, present: Tensor) -> Tensor:
        """Return features of a graph (b, k) of those of its nodes (b, n, k)."""

    def embed(self, x: Tensor) -> Tensor:
        """(b, n, d + n) → (b, d + depth · width): the readouts of the input and of each layer."""
        h, adjacency, present = split_graph(x)
        matrix = self.spread(adjacency)
        found = [self.read(h, present)]
        for layer, norm in zip(self.layers, self.norms, strict=True):
            h = norm(layer(matrix @ h)).relu() * present[:, :, None]
            found.append(self.read(h, present))
        return torch.cat(found, 1)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.embed(x))
        return logits


class GIN(_OfGraphs):
    """Graph isomorphism network: sums of neighbours, two linear layers on each, sums over nodes.

    Args:
        shape: (n, d + n) of a graph.
        num_classes: k ≥ 1.
        depth: number of layers, ≥ 1.
        width: units of each, ≥ 1.

    Raises:
        ValueError: the shape is that of no graphs.
    """

    @staticmethod
    def layer(before: int, after: int) -> nn.Module:
        """Return two linear layers."""
        return nn.Sequential(nn.Linear(before, after), nn.ReLU(), nn.Linear(after, after))

    def spread(self, adjacency: Tensor) -> Tensor:
        """Return the adjacency with loops."""
        return adjacency

    def read(self, h: Tensor, present: Tensor) -> Tensor:
        """Return the sum over nodes, over the nodes for which there is room."""
        return h.sum(1) / h.shape[1]


class GraphGCN(_OfGraphs):
    """Graph convolutions with the normalised adjacency, and the mean over nodes. Arguments as for `GIN`."""

    @staticmethod
    def layer(before: int, after: int) -> nn.Module:
        """Return one linear layer."""
        return nn.Linear(before, after)

    def spread(self, adjacency: Tensor) -> Tensor:
        """Return the adjacency normalised on both sides."""
        scale = adjacency.sum(2).clamp(min=1e-6).rsqrt() * (adjacency.sum(2) > 0)
        return scale[:, :, None] * adjacency * scale[:, None, :]

    def read(self, h: Tensor, present: Tensor) -> Tensor:
        """Return the mean over the nodes that are present."""
        return h.sum(1) / present.sum(1, keepdim=True).clamp(min=1)
