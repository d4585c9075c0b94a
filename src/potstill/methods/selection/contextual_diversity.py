r"""Contextual diversity: samples for which a network's predictions differ most (CDAL).

Agarwal, Arora, Anand and Arora, ECCV 2020, arXiv:2008.05723, equation 3, with the core-set rule (CDAL-CS).

.. math::
    d(x, x') = \tfrac{1}{2} \mathrm{KL}(p_x \Vert p_{x'}) + \tfrac{1}{2} \mathrm{KL}(p_{x'} \Vert p_x), \qquad
    s_t = \arg\max_x \min_{j < t} d(x, s_j)

p are the network's predicted probabilities; an image of one object is one region. The first sample is the one nearest
to the class's mean prediction, where the paper begins with random ones.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Generator, Tensor

from potstill.core import MethodInfo, Problem
from potstill.errors import PotstillError
from potstill.functional.geometry import divergence_center
from potstill.methods.selection._by_class import FeatureSelection, FeatureSelectionState, selection_info
from potstill.methods.selection._features import FeatureName, FeatureSpace

__all__ = ["ContextualDiversity"]


@dataclass(frozen=True, kw_only=True)
class ContextualDiversity(FeatureSelection):
    """Samples of every class whose predictions by a network differ most."""

    info: ClassVar[MethodInfo] = selection_info(
        "Contextual diversity",
        "arXiv:2008.05723",
        2020,
        class_independence="deletion",
        use_when="Take it to keep a large part of clean data where classes overlap; it was level with random samples "
        "there.",
        avoid_when="Avoid it for small sets and with wrong labels: it seeks unusual predictions, and those are the "
        "wrong labels.",
        related=("k-center", "entropy", "margin"),
    )
    space: ClassVar[FeatureSpace] = "log-probabilities"

    features: FeatureName = "trained"
    """Network whose predictions are compared: trained, as in the paper, or untrained; not ``input``."""

    def init(self, problem: Problem, rng: Generator) -> FeatureSelectionState:
        if self.features == "input":
            raise PotstillError(
                "contextual-diversity compares a network's predictions, but features is 'input'; choose trained or "
                "untrained"
            )
        return super().init(problem, rng)

    def choose(self, features: Tensor, mean: Tensor, m: int, rng: Generator) -> Tensor:
        return divergence_center(features, m)
