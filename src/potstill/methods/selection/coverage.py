r"""Selection that covers a class: herding, k-center, k-median, facility location and graph cut.

Herding (Welling, ICML 2009; for classes as in iCaRL, arXiv:1611.07725, algorithm 4). The nearest sample, not the
farthest: a widely copied version takes the argmax and does worse than chance.

.. math::
    p_t = \arg\min_{x} \Big\lVert \mu - \tfrac{1}{t} \Big( \varphi(x) + \sum_{j<t} \varphi(p_j) \Big) \Big\rVert

k-Center greedy, farthest-point traversal (Gonzalez 1985; Sener and Savarese, ICLR 2018, arXiv:1708.00489, algorithm 1),
which covers each class within twice the smallest possible radius. The first sample is the one nearest to the mean.

.. math::
    p_t = \arg\max_{x} \min_{j<t} \lVert \varphi(x) - \varphi(p_j) \rVert

k-median (medoids: Kaufman and Rousseeuw 1987; centres by the steps of Weiszfeld, Tohoku Math. J. 43, 1937). Distances
are not squared, so that few far samples do not attract a centre. The exact minimum is out of reach, and the swaps of
PAM hold n × n distances; here the best row near each geometric median is kept (`geometry.k_median`).

.. math::
    \min_{S} \sum_{x} \min_{s \in S} \lVert \varphi(x) - \varphi(s) \rVert

Facility location (Wei, Iyer and Bilmes, ICML 2015; CRAIG, arXiv:1906.01827; DeepCore, arXiv:2204.08499) and graph cut
(Iyer, Khargoankar, Bilmes and Asanani, ALT 2021, arXiv:2006.15412; DeepCore). Both are submodular:

.. math::
    f(S) = \sum_i \max_{s \in S} k(x_i, x_s), \qquad
    f(S) = \lambda \sum_i \sum_{s \in S} k(x_i, x_s) - \sum_{s, s' \in S} k(x_s, x_{s'})

Lazy greedy reaches at least 1 − 1/e of the best f (graph cut: if λ ≥ 2, where f never falls), stochastic greedy
1 − 1/e − ε in expectation. Similarities are computed when needed; with ``neighbours`` only those of nearest neighbours
count, and the others are 0.
"""

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from torch import Generator, Tensor

from potstill.core import Method, MethodInfo
from potstill.functional.coreset import herding, k_center
from potstill.functional.geometry import k_median
from potstill.functional.neighbours import Search, neighbours
from potstill.functional.submodular import Kernel, facility_location, facility_location_sparse, graph_cut
from potstill.methods.selection._by_class import FeatureSelection, FeatureSelectionState, selection_info

__all__ = ["FacilityLocation", "GraphCut", "Herding", "KCenter", "KMedian"]


@dataclass(frozen=True, kw_only=True)
class Herding(FeatureSelection):
    """Real samples whose mean is the class's mean."""

    info: ClassVar[MethodInfo] = selection_info(
        "Herding", "ICML 2009; arXiv:1611.07725", 2009, tasks=("*",), multi_input=True
    )

    def choose(self, features: Tensor, m: int, rng: Generator) -> Tensor:
        return herding(features, m)


@dataclass(frozen=True, kw_only=True)
class KCenter(FeatureSelection):
    """Real samples that leave no other sample of the class far away."""

    info: ClassVar[MethodInfo] = selection_info(
        "k-Center greedy", "arXiv:1708.00489", 2018, tasks=("*",), multi_input=True
    )

    def choose(self, features: Tensor, m: int, rng: Generator) -> Tensor:
        return k_center(features, m)


@dataclass(frozen=True, kw_only=True)
class KMedian(FeatureSelection):
    """Medoids of clusters within every class, by distances instead of their squares."""

    info: ClassVar[MethodInfo] = selection_info("k-median", "Kaufman and Rousseeuw 1987; Weiszfeld 1937", 1987)
    may_be_zero: ClassVar[tuple[str, ...]] = ("iterations",)

    iterations: int = 100
    """Maximum number of rounds; stops when the sum of distances no longer falls. 0: the initial k-means++ rows."""

    def choose(self, features: Tensor, m: int, rng: Generator) -> Tensor:
        return k_median(features, m, rng, self.iterations)

    def single_round(self) -> Method[FeatureSelectionState]:
        return replace(self, iterations=1)


@dataclass(frozen=True, kw_only=True)
class FacilityLocation(FeatureSelection):
    """Samples such that every other one of the class is similar to one of them."""

    info: ClassVar[MethodInfo] = selection_info(
        "Facility location", "ICML 2015 (Wei, Iyer and Bilmes); arXiv:2204.08499", 2015
    )
    positive: ClassVar[tuple[str, ...]] = ("epsilon",)

    similarity: Kernel = "cosine"
    """cosine: (1 + cos)/2 (DeepCore's, moved into [0, 1]); rbf: by distance, with the class's own width."""
    greedy: Literal["lazy", "stochastic"] = "lazy"
    """Evaluate what the greedy choice needs, or a random subset in each step (arXiv:1409.7938)."""
    epsilon: float = 0.1
    """ε of stochastic greedy, below 1."""
    neighbours: int | None = None
    """Count only similarities to this many nearest neighbours (by distance): for large classes."""
    search: Search = "exact"
    """Neighbour search: exact, or approximate for large classes, in cells or by faiss."""

    def choose(self, features: Tensor, m: int, rng: Generator) -> Tensor:
        if self.neighbours is not None and len(features) > 1:
            k = min(self.neighbours, len(features) - 1)
            return facility_location_sparse(neighbours(features, k, search=self.search, rng=rng), m)
        return facility_location(features, m, self.similarity, greedy=self.greedy, epsilon=self.epsilon, rng=rng)


@dataclass(frozen=True, kw_only=True)
class GraphCut(FeatureSelection):
    """Samples like the rest of their class and unlike each other."""

    info: ClassVar[MethodInfo] = selection_info("Graph cut", "arXiv:2006.15412; arXiv:2204.08499", 2021)

    similarity: Kernel = "cosine"
    """cosine: (1 + cos)/2, a step costs n · d; rbf: by distance, with the class's own width, n² · d at the start."""
    weight: float = 2.0
    """λ: the smallest with which f never falls. DeepCore takes 1; less is more diverse."""

    def choose(self, features: Tensor, m: int, rng: Generator) -> Tensor:
        return graph_cut(features, m, self.similarity, self.weight)
