r"""k-NN graph density: the densest samples of a graph of nearest neighbours, each dense region once.

RALF (Ebert, Fritz and Schiele, CVPR 2012, section 3.2).

.. math::
    \mathrm{Gra}(i) = \frac{\sum_j W_{ij}}{\sum_j P_{ij}}, \qquad
    W_{ij} = P_{ij} \exp\Big( -\frac{d(x_i, x_j)}{2 \sigma^2} \Big)

P joins two samples if one is among the k nearest of the other. The densest sample is taken, and its neighbours then
lose Gra(i) P_ij, so that a dense region is represented once.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Tensor

from potstill.core import MethodInfo, PositiveFloat
from potstill.functional.geometry import graph_density
from potstill.functional.neighbours import Metric, Search, neighbours, symmetric_graph
from potstill.methods.selection._by_class import FeatureSelection, selection_info

__all__ = ["KNNGraph"]


@dataclass(frozen=True, kw_only=True)
class KNNGraph(FeatureSelection):
    """Samples in dense places of every class, each place once."""

    info: ClassVar[MethodInfo] = selection_info(
        "k-NN graph density (RALF)",
        "doi:10.1109/CVPR.2012.6248108",
        2012,
        class_independence="separate",
        use_when="Take it for very small sets from data with wrong labels: it stays in dense places, where labels "
        "are mostly right.",
        avoid_when="Avoid it for a third of the data and more, where it gains nothing over random samples, and for "
        "data without clusters.",
        related=("herding", "graph-cut", "k-median"),
    )

    neighbours: int = 10
    """k (section 3.2); at most the number of other samples in the class."""
    metric: Metric = "l1"
    """Distance: l1 as in the paper; l2 is many times faster."""
    sigma: PositiveFloat | None = None
    """σ; by default such that 2σ² is the mean distance of joined samples. Ours."""
    search: Search = "exact"
    """Neighbour search: exact, or approximate for l2 and large classes, in cells or by faiss."""

    def choose(self, features: Tensor, mean: Tensor, m: int, rng: Generator) -> Tensor:
        k = min(self.neighbours, len(features) - 1)
        if k == 0:
            return torch.tensor([0])
        nearest = neighbours(features, k, search=self.search, metric=self.metric, rng=rng)
        return graph_density(symmetric_graph(nearest), m, self.sigma)
