r"""GLISTER: samples along whose gradients the loss of a held-out part falls fastest.

Killamsetty et al., AAAI 2021, arXiv:2012.10630, algorithm 2.

.. math::
    S \leftarrow S \cup \{ \arg\max_i \; \eta \, \langle g_i, \nabla_\theta L_V(\theta_S) \rangle \}, \qquad
    \theta_S = \theta - \eta \sum_{s \in S} g_s

g are gradients of the last layer (`_gradient_selection`). The validation part V is held out of the training data;
candidates are the other samples, and if a class gives more than those, random samples of V fill it up. V is taken class
by class. All samples have weight 1, as in the paper's code.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator

from potstill.core import Asset, MethodInfo, PositiveFloat, Problem
from potstill.functional.gradient_coreset import WeightedPositions, glister
from potstill.methods.selection._by_class import selection_info
from potstill.methods.selection._gradient_selection import GradientSelection
from potstill.pretraining import training_part

__all__ = ["GLISTER"]


@dataclass(frozen=True, kw_only=True)
class GLISTER(GradientSelection):
    """Real samples that lower the loss of a held-out part fastest."""

    info: ClassVar[MethodInfo] = selection_info(
        "GLISTER: generalization-based subset selection",
        "arXiv:2012.10630",
        2021,
        class_independence="deletion",
        use_when="Take it where a held-out part is clean and looks like the test data: it keeps what lowers the loss "
        "there.",
        avoid_when="Avoid it for small sets, where it was far below random samples, and where no samples can be "
        "spared to hold out.",
        related=("grad-match", "craig", "ld"),
    )

    holdout: PositiveFloat = 0.1
    """Fraction of each class that is held out, above 0 and below 1 (the paper: 10 %)."""
    rate: PositiveFloat = 0.05
    """η of the simulated steps of the last layer; equal to ``lr``, so that they are steps of the training."""
    rounds: int = 33
    """Times that the validation gradient is computed anew (the paper: after each 3 % of the set)."""

    def assets(self, problem: Problem) -> tuple[Asset, ...]:
        return (self.record_asset(holdout=self.holdout),)

    def choose(self, problem: Problem, c: int, m: int, rng: Generator) -> WeightedPositions:
        labels, index = problem.train.labels, problem.class_indices[c]
        outside = torch.zeros(len(labels), dtype=torch.bool)
        outside[training_part(problem.train, self.holdout)] = True
        candidates, validation = index[outside[index]], index[~outside[index]]
        if not len(validation):  # a class of one sample
            validation = candidates
        gradients = self.gradients(problem, candidates)[0]
        positions = glister(
            gradients, *self.gradients(problem, validation), min(m, len(candidates)), self.rate, self.rounds
        )
        index = candidates[positions]
        if len(index) < m:
            fill = validation[torch.randperm(len(validation), generator=rng)[: m - len(index)]]
            index = torch.cat([index, fill])
        return WeightedPositions(index, torch.ones(m))
