r"""Moderate coreset: samples at the median distance from the centre of their class.

Xia et al., Moderate Coreset: A Universal Method of Data Selection for Real-world Data-efficient Deep Learning, ICLR
2023, section 3.

.. math::
    d_i = \lVert \varphi(x_i) - \mu_y \rVert, \qquad S = \text{the } m \text{ smallest } |d_i - \mathrm{median}(d)|

Neither the easy samples near the centre nor the odd ones far from it. The released code takes those whose ranks lie
around the middle, as many below as above; here as in the paper those whose distances are nearest to the median.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Generator, Tensor

from potstill.core import MethodInfo
from potstill.functional.geometry import moderate
from potstill.methods.selection._features import FeatureName
from potstill.methods.selection._greedy import ClassWise

__all__ = ["Moderate"]


@dataclass(frozen=True, kw_only=True)
class Moderate(ClassWise):
    """Samples that are neither typical nor odd for their class."""

    info: ClassVar[MethodInfo] = MethodInfo(
        title="Moderate Coreset", paper="ICLR 2023 (openreview 7D5EECbOaf9)", year=2023, family="selection",
        is_selection=True, kinds=("*",),
    )  # fmt: skip

    features: FeatureName = "trained"
    """What distances are measured in: the embedding of a trained network, as in the paper, or others."""

    def choose(self, features: Tensor, m: int, rng: Generator) -> Tensor:
        return moderate(features, m)
