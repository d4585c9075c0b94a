r"""k-Center greedy: farthest-point traversal of a class.

Gonzalez 1985; Sener and Savarese, ICLR 2018, arXiv:1708.00489, algorithm 1.

.. math::
    p_t = \arg\max_{x} \min_{j<t} \lVert \varphi(x) - \varphi(p_j) \rVert

It covers each class within twice the smallest possible radius. The first sample is the one nearest to the mean.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Generator, Tensor

from potstill.core import MethodInfo
from potstill.functional.coreset import k_center
from potstill.methods.selection._by_class import FeatureSelection, selection_info

__all__ = ["KCenter"]


@dataclass(frozen=True, kw_only=True)
class KCenter(FeatureSelection):
    """Real samples that leave no other sample of the class far away."""

    info: ClassVar[MethodInfo] = selection_info(
        "k-Center greedy",
        "arXiv:1708.00489",
        2018,
        tasks=("*",),
        multi_input=True,
        class_independence="separate",
        use_when="Take it where you keep a large part of clean data and rare samples must not be lost.",
        avoid_when="Avoid it for small sets and wherever labels may be wrong: what lies farthest away is often a "
        "wrong label.",
        related=("facility-location", "k-means", "contextual-diversity"),
    )

    def choose(self, features: Tensor, mean: Tensor, m: int, rng: Generator) -> Tensor:
        return k_center(features, m, mean=mean)
