r"""CRAIG: the samples whose gradients lie nearest to those of all others.

Mirzasoleiman, Bilmes and Leskovec, ICML 2020, arXiv:1906.01827, algorithm 1.

.. math::
    \max_{S} \sum_{i} \max_{s \in S} \big( D - \lVert g_i - g_s \rVert \big), \qquad
    \gamma_s = |\{ i : s = \arg\min_{s' \in S} \lVert g_i - g_{s'} \rVert \}|

Gradients are those of the last layer. γ, how many samples of its class each one stands for, is the set's weight. The
paper takes steps in proportion to γ and chooses anew in every epoch; a set is chosen once. Its released code divides
γ by its mean and takes the mean of weighted losses in each batch (train_resnet.py:310, 441), as is done here.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Generator

from potstill.core import MethodInfo, Problem
from potstill.functional.gradient_coreset import WeightedPositions, craig
from potstill.methods.selection._last_layer import ByGradients

__all__ = ["CRAIG"]


@dataclass(frozen=True, kw_only=True)
class CRAIG(ByGradients):
    """Real samples whose gradients lie near those of all others of their class."""

    info: ClassVar[MethodInfo] = MethodInfo(
        title="CRAIG: coresets for gradient descent", paper="arXiv:1906.01827", year=2020, family="selection",
        is_selection=True, weighted=True, kinds=("*",),
    )  # fmt: skip

    def choose(self, problem: Problem, c: int, m: int, rng: Generator) -> WeightedPositions:
        index = problem.class_indices[c]
        found, weight = craig(self.gradients(problem, index)[0], m)
        return WeightedPositions(index[found], weight)
