r"""k-median per class: the medoids of clusters with a small sum of distances.

Medoids: Kaufman and Rousseeuw 1987; centres by the steps of Weiszfeld, Tohoku Math. J. 43, 1937.

.. math::
    \min_{S} \sum_{x} \min_{s \in S} \lVert \varphi(x) - \varphi(s) \rVert

Distances are not squared, so that few far samples do not attract a centre. The exact minimum is out of reach, and the
swaps of PAM hold n × n distances; here the best row near each geometric median is kept (`geometry.k_median`).
"""

from dataclasses import dataclass, replace
from typing import ClassVar

from torch import Generator, Tensor

from potstill.core import Method, MethodInfo, NonNegativeInt
from potstill.functional.geometry import k_median
from potstill.methods.selection._by_class import FeatureSelection, FeatureSelectionState, selection_info

__all__ = ["KMedian"]


@dataclass(frozen=True, kw_only=True)
class KMedian(FeatureSelection):
    """Medoids of clusters within every class, by distances instead of their squares."""

    info: ClassVar[MethodInfo] = selection_info(
        "k-median",
        "Kaufman and Rousseeuw 1987; Weiszfeld 1937",
        1987,
        class_independence="separate",
        use_when="Take it in place of k-means where far samples, or some wrong labels, pull the means away.",
        avoid_when="Avoid it for large parts of noisy data: at a third and more kept it was at or below random "
        "samples here.",
        related=("k-means", "herding", "knn-graph"),
    )

    iterations: NonNegativeInt = 100
    """Maximum number of rounds; stops when the sum of distances no longer falls. 0: the initial k-means++ rows."""

    def choose(self, features: Tensor, mean: Tensor, m: int, rng: Generator) -> Tensor:
        return k_median(features, m, rng, self.iterations)

    def single_round(self) -> Method[FeatureSelectionState]:
        return replace(self, iterations=1)
