r"""Herding: greedy selection that keeps the mean of the selected samples nearest to the class's mean.

Welling, ICML 2009; for classes as in iCaRL, arXiv:1611.07725, algorithm 4.

.. math::
    p_t = \arg\min_{x} \Big\lVert \mu - \tfrac{1}{t} \Big( \varphi(x) + \sum_{j<t} \varphi(p_j) \Big) \Big\rVert

The nearest sample, not the farthest: a widely copied version takes the argmax and does worse than chance.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Generator, Tensor

from potstill.core import MethodInfo
from potstill.functional.coreset import herding
from potstill.methods.selection._by_class import FeatureSelection, selection_info

__all__ = ["Herding"]


@dataclass(frozen=True, kw_only=True)
class Herding(FeatureSelection):
    """Real samples whose mean is the class's mean."""

    info: ClassVar[MethodInfo] = selection_info(
        "Herding",
        "ICML 2009; arXiv:1611.07725",
        2009,
        tasks=("*",),
        multi_input=True,
        class_independence="separate",
        use_when="Take it where you keep a few samples of each class, labels may be wrong, and seconds must do.",
        avoid_when="Avoid it once you keep half of the data, and where a class has several modes: one mean hides them.",
        related=("k-means", "random", "dm"),
    )

    def choose(self, features: Tensor, mean: Tensor, m: int, rng: Generator) -> Tensor:
        return herding(features, m, mean)
