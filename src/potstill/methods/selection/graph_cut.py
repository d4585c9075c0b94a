r"""Graph cut: samples that are similar to their class and not to each other.

Iyer, Khargoankar, Bilmes and Asanani, ALT 2021, arXiv:2006.15412; DeepCore, arXiv:2204.08499.

.. math::
    f(S) = \lambda \sum_i \sum_{s \in S} k(x_i, x_s) - \sum_{s, s' \in S} k(x_s, x_{s'})

f is submodular. If λ ≥ 2 it never falls, and lazy greedy reaches at least 1 − 1/e of the best f.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Generator, Tensor

from potstill.core import MethodInfo
from potstill.functional.submodular import Kernel, graph_cut
from potstill.methods.selection._by_class import FeatureSelection, selection_info

__all__ = ["GraphCut"]


@dataclass(frozen=True, kw_only=True)
class GraphCut(FeatureSelection):
    """Samples like the rest of their class and unlike each other."""

    info: ClassVar[MethodInfo] = selection_info(
        "Graph cut",
        "arXiv:2006.15412; arXiv:2204.08499",
        2021,
        class_independence="separate",
        use_when="Take it where labels may be wrong: it keeps typical samples, and hardly a wrong label here.",
        avoid_when="Avoid it on clean data, where keeping the typical alone was well below random samples.",
        related=("facility-location", "moderate", "aum", "dq"),
    )

    similarity: Kernel = "cosine"
    """cosine: (1 + cos)/2, a step costs n · d; rbf: by distance, with the class's own width, n² · d at the start."""
    weight: float = 2.0
    """λ: the smallest with which f never falls. DeepCore takes 1; less is more diverse."""

    def choose(self, features: Tensor, mean: Tensor, m: int, rng: Generator) -> Tensor:
        return graph_cut(features, m, self.similarity, self.weight)
