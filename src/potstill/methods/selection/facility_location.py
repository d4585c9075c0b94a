r"""Facility location: every sample of a class has a similar one among the selected samples.

Wei, Iyer and Bilmes, ICML 2015; CRAIG, arXiv:1906.01827; DeepCore, arXiv:2204.08499.

.. math::
    f(S) = \sum_i \max_{s \in S} k(x_i, x_s)

f is submodular: lazy greedy reaches at least 1 − 1/e of the best f, stochastic greedy 1 − 1/e − ε in expectation.
Similarities are computed when needed; with ``neighbours`` only those of nearest neighbours count, and the others are 0.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Generator, Tensor

from potstill.core import MethodInfo, PositiveFloat
from potstill.functional.neighbours import Search, neighbours
from potstill.functional.submodular import Kernel, facility_location, facility_location_sparse
from potstill.methods.selection._by_class import FeatureSelection, selection_info

__all__ = ["FacilityLocation"]


@dataclass(frozen=True, kw_only=True)
class FacilityLocation(FeatureSelection):
    """Samples such that every other one of the class is similar to one of them."""

    info: ClassVar[MethodInfo] = selection_info(
        "Facility location",
        "ICML 2015 (Wei, Iyer and Bilmes); arXiv:2204.08499",
        2015,
        class_independence="separate",
        use_when="Take it where labels are right and the set should cover each class; it was among the best "
        "selections at a tenth kept.",
        avoid_when="Avoid it with wrong labels, and above some ten thousand samples a class unless you give "
        "`neighbours`: its time is quadratic.",
        related=("k-means", "graph-cut", "craig"),
    )

    similarity: Kernel = "cosine"
    """cosine: (1 + cos)/2 (DeepCore's, moved into [0, 1]); rbf: by distance, with the class's own width."""
    greedy: Literal["lazy", "stochastic"] = "lazy"
    """Evaluate what the greedy choice needs, or a random subset in each step (arXiv:1409.7938)."""
    epsilon: PositiveFloat = 0.1
    """ε of stochastic greedy, below 1."""
    neighbours: int | None = None
    """Count only similarities to this many nearest neighbours (by distance): for large classes."""
    search: Search = "exact"
    """Neighbour search: exact, or approximate for large classes, in cells or by faiss."""

    def choose(self, features: Tensor, mean: Tensor, m: int, rng: Generator) -> Tensor:
        if self.neighbours is not None and len(features) > 1:
            k = min(self.neighbours, len(features) - 1)
            return facility_location_sparse(neighbours(features, k, search=self.search, rng=rng), m)
        return facility_location(features, m, self.similarity, greedy=self.greedy, epsilon=self.epsilon, rng=rng)
