r"""k-median per class: the real samples that are the medoids of clusters with a small sum of distances.

Kaufman and Rousseeuw 1987 (medoids); the centres by the steps of Weiszfeld, Tohoku Math. J. 43, 1937.

.. math::
    \min_{S} \sum_{x} \min_{s \in S} \lVert \varphi(x) - \varphi(s) \rVert

Distances, not their squares as in k-means: a few far samples do not draw a centre to themselves. The exact minimum is
out of reach, and the swaps of PAM hold n × n distances; here geometric medians stand for the clusters, and the best row
near each of them is kept (`geometry.k_median`).
"""

from dataclasses import dataclass, replace
from typing import ClassVar

from torch import Generator, Tensor

from potstill.core import Method, MethodInfo
from potstill.functional.geometry import k_median
from potstill.methods.selection._greedy import ClassWise, ClassWiseState

__all__ = ["KMedian"]


@dataclass(frozen=True, kw_only=True)
class KMedian(ClassWise):
    """Medoids of clusters within every class, by distances instead of their squares."""

    info: ClassVar[MethodInfo] = MethodInfo(
        title="k-median", paper="Kaufman and Rousseeuw 1987; Weiszfeld 1937", year=1987, family="selection",
        is_selection=True, kinds=("*",),
    )  # fmt: skip
    may_be_zero: ClassVar[tuple[str, ...]] = ("iterations",)

    iterations: int = 100
    """Most rounds; it stops when the sum of distances no longer falls. 0: the start (k-means++ by distances)."""

    def choose(self, features: Tensor, m: int, rng: Generator) -> Tensor:
        return k_median(features, m, rng, self.iterations)

    def once(self) -> Method[ClassWiseState]:
        return replace(self, iterations=1)
