r"""GRAD-MATCH: the samples, weighted, whose gradients add up to that of the whole class.

Killamsetty et al., ICML 2021, arXiv:2103.00123, algorithm 2 (orthogonal matching pursuit, per class).

.. math::
    \min_{S, \, w \geq 0} \Big\lVert \sum_{s \in S} w_s g_s - \sum_i g_i \Big\rVert^2 + \lambda \lVert w \rVert^2

Gradients are those of the last layer. w is the set's weight. The paper chooses anew every 20 epochs; a set is chosen
once. A sample may have weight 0: the released code drops it and fills up with random ones of weight 1
(gradmatchstrategy.py:203), which is no part of the algorithm. That code divides by the sum of each batch's weights
(train_sl.py:767); here, as for every method, they are divided by their mean over the set.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Generator

from potstill.core import MethodInfo, Problem
from potstill.functional.gradient_coreset import WeightedPositions, grad_match
from potstill.methods.selection._last_layer import ByGradients

__all__ = ["GradMatch"]


@dataclass(frozen=True, kw_only=True)
class GradMatch(ByGradients):
    """Real samples whose weighted gradients add up to that of their class."""

    info: ClassVar[MethodInfo] = MethodInfo(
        title="GRAD-MATCH: gradient matching by orthogonal matching pursuit", paper="arXiv:2103.00123", year=2021,
        family="selection", is_selection=True, weighted=True, kinds=("*",),
    )  # fmt: skip
    positive: ClassVar[tuple[str, ...]] = ("ridge",)

    ridge: float = 0.5
    """λ, above 0 (the paper's experiments: 0.5)."""

    def choose(self, problem: Problem, c: int, m: int, rng: Generator) -> WeightedPositions:
        index = problem.class_indices[c]
        found, weight = grad_match(self.gradients(problem, index)[0], m, self.ridge)
        return WeightedPositions(index[found], weight)
