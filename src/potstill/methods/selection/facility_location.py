r"""Facility location: every sample of the class has a similar one among the chosen ones.

Submodular; used for data by Wei, Iyer and Bilmes, ICML 2015; as selection for training in CRAIG, arXiv:1906.01827, and
DeepCore, arXiv:2204.08499.

.. math::
    f(S) = \sum_i \max_{s \in S} k(x_i, x_s)

Lazy greedy is worth at least 1 − 1/e of the best choice, stochastic greedy 1 − 1/e − ε in expectation. Similarities are
computed when they are needed; with ``neighbours`` only those of nearest neighbours count, and the others are 0.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Generator, Tensor

from potstill.core import MethodInfo
from potstill.functional.neighbours import Search, neighbours
from potstill.functional.submodular import Kernel, facility_location, facility_location_sparse
from potstill.methods.selection._greedy import ClassWise

__all__ = ["FacilityLocation"]


@dataclass(frozen=True, kw_only=True)
class FacilityLocation(ClassWise):
    """Samples such that every other one of the class is similar to one of them."""

    info: ClassVar[MethodInfo] = MethodInfo(
        title="Facility location", paper="ICML 2015 (Wei, Iyer and Bilmes); arXiv:2204.08499", year=2015,
        family="selection", is_selection=True, kinds=("*",),
    )  # fmt: skip
    positive: ClassVar[tuple[str, ...]] = ("epsilon",)

    similarity: Kernel = "cosine"
    """cosine: (1 + cos)/2 (DeepCore's choice, moved into [0, 1]); rbf: by distance, with the class's own width."""
    greedy: Literal["lazy", "stochastic"] = "lazy"
    """Evaluate what the greedy choice needs, or in each step a random part (arXiv:1409.7938)."""
    epsilon: float = 0.1
    """ε of stochastic greedy, below 1."""
    neighbours: int | None = None
    """Count only similarities to so many nearest neighbours (by distance, width of their own): for large classes."""
    search: Search = "exact"
    """How neighbours are found: exactly, or for large classes nearly so, in cells or by faiss."""

    def choose(self, features: Tensor, m: int, rng: Generator) -> Tensor:
        if self.neighbours is not None and len(features) > 1:
            k = min(self.neighbours, len(features) - 1)
            return facility_location_sparse(neighbours(features, k, search=self.search, rng=rng), m)
        return facility_location(features, m, self.similarity, greedy=self.greedy, epsilon=self.epsilon, rng=rng)
