r"""GRAD-MATCH: samples whose weighted gradients sum to the gradient of their class.

Killamsetty et al., ICML 2021, arXiv:2103.00123, algorithm 2 (orthogonal matching pursuit per class).

.. math::
    \min_{S, \, w \geq 0} \Big\lVert \sum_{s \in S} w_s g_s - \sum_i g_i \Big\rVert^2 + \lambda \lVert w \rVert^2

g are gradients of the last layer (`_gradient_selection`), w is the set's weight. The paper selects anew every 20
epochs; here once. A sample may have weight 0: the released code replaces it by a random one of weight 1
(gradmatchstrategy.py:203), which is not part of the algorithm. That code divides by the sum of each batch's weights
(train_sl.py:767); here weights are divided by their mean over the set.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Generator

from potstill.core import MethodInfo, PositiveFloat, Problem
from potstill.functional.gradient_coreset import WeightedPositions, grad_match
from potstill.methods.selection._by_class import selection_info
from potstill.methods.selection._gradient_selection import GradientSelection

__all__ = ["GradMatch"]


@dataclass(frozen=True, kw_only=True)
class GradMatch(GradientSelection):
    """Real samples whose weighted gradients sum to that of their class."""

    info: ClassVar[MethodInfo] = selection_info(
        "GRAD-MATCH: gradient matching by orthogonal matching pursuit",
        "arXiv:2103.00123",
        2021,
        weighted=True,
        class_independence="deletion",
        use_when="Take it as craig, where the weighted sum of gradients matters and not each one: at a third kept "
        "and more.",
        avoid_when="Avoid it for small sets and noisy labels, where it was far below random samples; weights may be "
        "0, which wastes items.",
        related=("craig", "glister", "dc"),
    )

    ridge: PositiveFloat = 0.5
    """λ, above 0 (the paper's experiments: 0.5)."""

    def choose(self, problem: Problem, c: int, m: int, rng: Generator) -> WeightedPositions:
        index = problem.class_indices[c]
        positions, weight = grad_match(self.gradients(problem, index)[0], m, self.ridge)
        return WeightedPositions(index[positions], weight)
