r"""Selection by density, by distance from the class centre, by redundancy, and by diversity of predictions.

k-NN graph density, RALF (Ebert, Fritz and Schiele, CVPR 2012, section 3.2). P joins two samples if one is among the k
nearest of the other. The densest sample is taken, and its neighbours then lose Gra(i) P_ij, so that a dense region is
represented once:

.. math::
    \mathrm{Gra}(i) = \frac{\sum_j W_{ij}}{\sum_j P_{ij}}, \qquad
    W_{ij} = P_{ij} \exp\Big( -\frac{d(x_i, x_j)}{2 \sigma^2} \Big)

Moderate coreset (Xia et al., ICLR 2023, section 3): neither the easy samples near the centre nor the odd ones far from
it. The released code takes those whose ranks lie around the middle; here as in the paper those whose distances are
nearest to the median:

.. math::
    d_i = \lVert \varphi(x_i) - \mu_y \rVert, \qquad S = \text{the } m \text{ smallest } |d_i - \mathrm{median}(d)|

ZCore (Griffin, Marks and Corso, arXiv:2411.15349, section 3). Draw t picks two dimensions and a point in them; i_t is
the sample nearest to it, N its nearest neighbours, z the features in these dimensions. The paper takes embeddings of
foundation models and scores all data together; here classes are scored one by one, and consecutive draws may share
their dimensions:

.. math::
    s_i = \sum_t \Big( [\, i = i_t \,] - \frac{\lVert z_{i_t} - z_i \rVert_1^{-\beta}}
      {\sum_{j \in N(i_t)} \lVert z_{i_t} - z_j \rVert_1^{-\beta}} \, [\, i \in N(i_t) \,] \Big)

Contextual diversity (Agarwal, Arora, Anand and Arora, ECCV 2020, arXiv:2008.05723, equation 3, with the core-set rule,
CDAL-CS). p are the network's predicted probabilities; an image of one object is one region. The first sample is the one
nearest to the class's mean prediction, where the paper begins with random ones:

.. math::
    d(x, x') = \tfrac{1}{2} \mathrm{KL}(p_x \Vert p_{x'}) + \tfrac{1}{2} \mathrm{KL}(p_{x'} \Vert p_x), \qquad
    s_t = \arg\max_x \min_{j < t} d(x, s_j)
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Tensor

from potstill.core import MethodInfo, Problem
from potstill.errors import PotstillError
from potstill.functional.geometry import divergence_center, graph_density, moderate, zcore_scores
from potstill.functional.neighbours import Metric, Search, neighbours, symmetric_graph
from potstill.methods.selection._by_class import FeatureSelection, FeatureSelectionState, selection_info
from potstill.methods.selection._features import FeatureName, FeatureSpace

__all__ = ["ContextualDiversity", "KNNGraph", "Moderate", "ZCore"]


@dataclass(frozen=True, kw_only=True)
class KNNGraph(FeatureSelection):
    """Samples in dense places of every class, each place once."""

    info: ClassVar[MethodInfo] = selection_info("k-NN graph density (RALF)", "doi:10.1109/CVPR.2012.6248108", 2012)
    positive: ClassVar[tuple[str, ...]] = ("sigma",)

    neighbours: int = 10
    """k (section 3.2); at most the number of other samples in the class."""
    metric: Metric = "l1"
    """Distance: l1 as in the paper; l2 is many times faster."""
    sigma: float | None = None
    """σ; by default such that 2σ² is the mean distance of joined samples. Ours."""
    search: Search = "exact"
    """Neighbour search: exact, or approximate for l2 and large classes, in cells or by faiss."""

    def choose(self, features: Tensor, m: int, rng: Generator) -> Tensor:
        k = min(self.neighbours, len(features) - 1)
        if k == 0:
            return torch.tensor([0])
        nearest = neighbours(features, k, search=self.search, metric=self.metric, rng=rng)
        return graph_density(symmetric_graph(nearest), m, self.sigma)


@dataclass(frozen=True, kw_only=True)
class Moderate(FeatureSelection):
    """Samples that are neither typical nor odd for their class."""

    info: ClassVar[MethodInfo] = selection_info("Moderate Coreset", "ICLR 2023 (openreview 7D5EECbOaf9)", 2023)

    features: FeatureName = "trained"
    """Features for distances: the embedding of a trained network, as in the paper, or others."""

    def choose(self, features: Tensor, m: int, rng: Generator) -> Tensor:
        return moderate(features, m)


@dataclass(frozen=True, kw_only=True)
class ZCore(FeatureSelection):
    """Samples that cover what random points of the feature space are nearest to, without repetition."""

    info: ClassVar[MethodInfo] = selection_info("Zero-Shot Coreset Selection", "arXiv:2411.15349", 2024)

    samples: int = 100_000
    """Draws per class; the paper makes 10⁶ for all classes together."""
    dimensions: int = 2
    """Dimensions of a draw (section 3)."""
    neighbours: int = 1000
    """Neighbours whose score a draw lowers (section 3)."""
    exponent: float = 4.0
    """β: how much more the nearest neighbours lose."""
    draws_per_tree: int = 100
    """Consecutive draws that share their dimensions and so one search tree. Ours; 1 as published."""

    def choose(self, features: Tensor, m: int, rng: Generator) -> Tensor:
        if len(features) == 1:
            return features.new_zeros(1).long()
        scores = zcore_scores(
            features, rng, samples=self.samples, dimensions=self.dimensions, neighbours=self.neighbours,
            exponent=self.exponent, draws_per_tree=self.draws_per_tree,
        )  # fmt: skip
        return scores.argsort(descending=True, stable=True)[:m]


@dataclass(frozen=True, kw_only=True)
class ContextualDiversity(FeatureSelection):
    """Samples of every class whose predictions by a network differ most."""

    info: ClassVar[MethodInfo] = selection_info("Contextual diversity", "arXiv:2008.05723", 2020)
    space: ClassVar[FeatureSpace] = "log-probabilities"

    features: FeatureName = "trained"
    """Network whose predictions are compared: trained, as in the paper, or untrained; not ``input``."""

    def init(self, problem: Problem, rng: Generator) -> FeatureSelectionState:
        if self.features == "input":
            raise PotstillError(
                "contextual-diversity compares a network's predictions, but features is 'input'; choose trained or "
                "untrained"
            )
        return super().init(problem, rng)

    def choose(self, features: Tensor, m: int, rng: Generator) -> Tensor:
        return divergence_center(features, m)
