r"""Moderate coreset: samples at the median distance from the centre of their class.

Xia et al., "Moderate Coreset: A Universal Method of Data Selection for Real-world Data-efficient Deep Learning", ICLR
2023, section 3.

.. math::
    d_i = \lVert \varphi(x_i) - \mu_y \rVert, \qquad S = \text{the } m \text{ smallest } |d_i - \mathrm{median}(d)|

Neither the easy samples near the centre nor the odd ones far from it. The released code takes those whose ranks lie
around the middle; here as in the paper those whose distances are nearest to the median.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Generator, Tensor

from potstill.core import MethodInfo
from potstill.functional.geometry import moderate
from potstill.methods.selection._by_class import FeatureSelection, selection_info
from potstill.methods.selection._features import FeatureName

__all__ = ["Moderate"]


@dataclass(frozen=True, kw_only=True)
class Moderate(FeatureSelection):
    """Samples that are neither typical nor odd for their class."""

    info: ClassVar[MethodInfo] = selection_info(
        "Moderate Coreset",
        "ICLR 2023 (openreview 7D5EECbOaf9)",
        2023,
        class_independence="deletion",
        use_when="Take it where labels may be wrong and one number per sample must do: it kept few of them at every "
        "size here.",
        avoid_when="Avoid it on clean data for more than small sets, where it leaves the informative edge out and "
        "stays below random samples.",
        related=("graph-cut", "aum", "ccs"),
    )

    features: FeatureName = "trained"
    """Features for distances: the embedding of a trained network, as in the paper, or others."""

    def choose(self, features: Tensor, mean: Tensor, m: int, rng: Generator) -> Tensor:
        return moderate(features, m, mean)
