r"""CRAIG: samples whose gradients lie nearest to those of all others of their class.

Mirzasoleiman, Bilmes and Leskovec, ICML 2020, arXiv:1906.01827, algorithm 1.

.. math::
    \max_{S} \sum_{i} \max_{s \in S} \big( D - \lVert g_i - g_s \rVert \big), \qquad
    \gamma_s = |\{ i : s = \arg\min_{s' \in S} \lVert g_i - g_{s'} \rVert \}|

g are gradients of the last layer (`_gradient_selection`). γ, the number of samples of its class that each one stands
for, is the set's weight. The paper takes steps in proportion to γ and selects anew every epoch; here a set is selected
once. As in the released code (train_resnet.py:310, 441), γ is divided by its mean and batches take the mean of weighted
losses.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Generator

from potstill.core import MethodInfo, Problem
from potstill.functional.gradient_coreset import WeightedPositions, craig
from potstill.methods.selection._by_class import selection_info
from potstill.methods.selection._gradient_selection import GradientSelection

__all__ = ["CRAIG"]


@dataclass(frozen=True, kw_only=True)
class CRAIG(GradientSelection):
    """Real samples whose gradients lie near those of all others of their class."""

    info: ClassVar[MethodInfo] = selection_info(
        "CRAIG: coresets for gradient descent",
        "arXiv:1906.01827",
        2020,
        weighted=True,
        class_independence="deletion",
        use_when="Take it where training can use weights and the samples should stand for all gradients of their "
        "class.",
        avoid_when="Avoid it for small sets and noisy labels: it was below random samples there, and a student "
        "without weights loses more.",
        related=("grad-match", "facility-location", "glister"),
    )

    def choose(self, problem: Problem, c: int, m: int, rng: Generator) -> WeightedPositions:
        index = problem.class_indices[c]
        positions, weight = craig(self.gradients(problem, index)[0], m)
        return WeightedPositions(index[positions], weight)
