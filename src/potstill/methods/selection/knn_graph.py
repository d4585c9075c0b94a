r"""Density in a graph of nearest neighbours: RALF (Ebert, Fritz and Schiele, CVPR 2012, section 3.2).

.. math::
    \mathrm{Gra}(i) = \frac{\sum_j W_{ij}}{\sum_j P_{ij}}, \qquad
    W_{ij} = P_{ij} \exp\Big( -\frac{d(x_i, x_j)}{2 \sigma^2} \Big)

P joins two samples where one is among the k nearest of the other. The densest sample is chosen, and what is joined to
it then loses Gra(i) P_ij, so that dense places are represented once.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Tensor

from potstill.core import MethodInfo
from potstill.functional.geometry import graph_density
from potstill.functional.neighbours import Metric, Search, neighbours, symmetric_graph
from potstill.methods.selection._greedy import ClassWise

__all__ = ["KNNGraph"]


@dataclass(frozen=True, kw_only=True)
class KNNGraph(ClassWise):
    """Samples in dense places of every class, each place once."""

    info: ClassVar[MethodInfo] = MethodInfo(
        title="k-NN graph density (RALF)", paper="doi:10.1109/CVPR.2012.6248108", year=2012, family="selection",
        is_selection=True, kinds=("*",),
    )  # fmt: skip
    positive: ClassVar[tuple[str, ...]] = ("sigma",)

    neighbours: int = 10
    """k (section 3.2); one less than the samples of the class where it has fewer."""
    metric: Metric = "l1"
    """Distances: l1 as in the paper; l2 is many times faster."""
    sigma: float | None = None
    """σ; by default such that 2σ² is the mean distance of what is joined. Ours."""
    search: Search = "exact"
    """How neighbours are found: exactly, or for l2 and large classes nearly so, in cells or by faiss."""

    def choose(self, features: Tensor, m: int, rng: Generator) -> Tensor:
        k = min(self.neighbours, len(features) - 1)
        if k == 0:
            return torch.tensor([0])
        found = neighbours(features, k, search=self.search, metric=self.metric, rng=rng)
        return graph_density(symmetric_graph(found), m, self.sigma)
