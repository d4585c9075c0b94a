r"""Graph cut: samples that are similar to the class and not to each other.

Iyer, Khargoankar, Bilmes and Asanani, ALT 2021, arXiv:2006.15412; as selection for training in DeepCore,
arXiv:2204.08499.

.. math::
    f(S) = \lambda \sum_i \sum_{s \in S} k(x_i, x_s) - \sum_{s, s' \in S} k(x_s, x_{s'})

Submodular; it never falls where λ ≥ 2, and there the greedy choice is worth at least 1 − 1/e of the best one.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Generator, Tensor

from potstill.core import MethodInfo
from potstill.functional.submodular import Kernel, graph_cut
from potstill.methods.selection._greedy import ClassWise

__all__ = ["GraphCut"]


@dataclass(frozen=True, kw_only=True)
class GraphCut(ClassWise):
    """Samples like the rest of their class and unlike each other."""

    info: ClassVar[MethodInfo] = MethodInfo(
        title="Graph cut", paper="arXiv:2006.15412; arXiv:2204.08499", year=2021, family="selection", is_selection=True,
        kinds=("*",),
    )  # fmt: skip

    similarity: Kernel = "cosine"
    """cosine: (1 + cos)/2, a step costs n · d; rbf: by distance, with the class's own width, n² · d at the start."""
    weight: float = 2.0
    """λ: the least with which f never falls. DeepCore takes 1; less is more diverse."""

    def choose(self, features: Tensor, m: int, rng: Generator) -> Tensor:
        return graph_cut(features, m, self.similarity, self.weight)
