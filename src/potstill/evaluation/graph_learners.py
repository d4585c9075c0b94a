"""Learners of whole graphs: a random forest on counts of degrees and of features."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from potstill.core import Task
from potstill.errors import PotstillError
from potstill.evaluation.estimators import Predictor
from potstill.evaluation.learners import Forest
from potstill.nn.graph_networks import split_graph

__all__ = ["GraphForest", "graph_counts"]


def graph_counts(x: Float[Tensor, "b n m"], most: int) -> Float[Tensor, "b k"]:
    """Return counts that describe a graph: nodes, edges, nodes of each degree up to ``most``, sums of features, and
    sums of products of features over edges. Values of a set are rounded first: edges at a half.

    Args:
        x: graphs (b, n, d + n).
        most: the last degree that is counted by itself; larger ones count with it.
    """
    n = x.shape[1]
    upper = (x[..., x.shape[2] - n :] >= 0.5).float()
    h, adjacency, present = split_graph(torch.cat([x[..., : x.shape[2] - n], upper], 2))
    neighbours = adjacency.sum(2) - present
    degree = neighbours.round().clamp(0, most).long()
    degrees = torch.zeros(len(x), most + 1).scatter_add_(1, degree.cpu(), present.cpu())
    between = torch.einsum("bnd,bnm,bme->bde", h, adjacency - torch.diag_embed(present), h)
    nodes, edges = present.sum(1, keepdim=True), neighbours.sum(1, keepdim=True) / 2
    return torch.cat([nodes.cpu(), edges.cpu(), degrees, h.sum(1).cpu(), between.flatten(1).cpu()], 1)


@dataclass(frozen=True, kw_only=True)
class GraphForest(Forest):
    """Random forest on counts of nodes, edges, degrees, features and pairs of features over edges: the simple learner
    that graph networks are compared with.

    Raises:
        PotstillError: the inputs are no graphs.
    """

    name: ClassVar[str] = "graph-forest"
    tasks: ClassVar[tuple[str, ...]] = ("classification",)
    draws: ClassVar[Any] = True
    most: int = 8
    """Last degree that is counted by itself."""

    def fit(self, x: Tensor, y: Tensor, weights: Tensor | None, task: Task, seed: int) -> Predictor:
        if x.ndim != 3 or x.shape[2] <= x.shape[1]:
            raise PotstillError(
                f"{self.name} learns from graphs (n, d + n), but inputs have shape {list(x.shape[1:])}; choose another "
                "learner"
            )
        predict = Forest.fit(self, graph_counts(x.detach().float(), self.most), y, weights, task, seed)
        return lambda inputs: predict(graph_counts(inputs.float(), self.most))
