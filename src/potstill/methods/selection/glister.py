r"""GLISTER: the samples along whose gradients a held-out loss falls fastest.

Killamsetty et al., AAAI 2021, arXiv:2012.10630, algorithm 2, with the last layer's gradients.

.. math::
    S \leftarrow S \cup \{ \arg\max_i \; \eta \, \langle g_i, \nabla_\theta L_V(\theta_S) \rangle \}, \qquad
    \theta_S = \theta - \eta \sum_{s \in S} g_s

The validation part V is cut from the training data and the network is not trained on it. Candidates are the samples
outside it; where a class gives more than those, V fills it up, at random. V is taken class by class, as candidates are.
All samples weigh alike, as in the paper and its code (which gives each the weight 1).
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator

from potstill.core import Asset, MethodInfo, Problem
from potstill.functional.gradient_coreset import WeightedPositions, glister
from potstill.methods.selection._last_layer import ByGradients
from potstill.pretraining import training_part

__all__ = ["GLISTER"]


@dataclass(frozen=True, kw_only=True)
class GLISTER(ByGradients):
    """Real samples that lower the loss of a held-out part fastest."""

    info: ClassVar[MethodInfo] = MethodInfo(
        title="GLISTER: generalization-based subset selection", paper="arXiv:2012.10630", year=2021,
        family="selection", is_selection=True, kinds=("*",),
    )  # fmt: skip
    positive: ClassVar[tuple[str, ...]] = ("held", "rate")

    held: float = 0.1
    """The part of each class that is held out, above 0 and below 1 (the paper: 10 %)."""
    rate: float = 0.05
    """η of the simulated steps of the last layer; as ``lr``, so that they are steps of the training."""
    rounds: int = 33
    """How often the validation gradient is taken anew (the paper: a new one after each 3 % of the set)."""

    def assets(self, problem: Problem) -> tuple[Asset, ...]:
        return (self.spec(holdout=self.held),)

    def choose(self, problem: Problem, c: int, m: int, rng: Generator) -> WeightedPositions:
        labels, index = problem.train.labels, problem.class_indices[c]
        outside = torch.zeros(len(labels), dtype=torch.bool)
        outside[training_part(problem.train, self.held)] = True
        candidates, held = index[outside[index]], index[~outside[index]]
        if not len(held):  # a class of one sample
            held = candidates
        gradients, (validation, logits) = self.gradients(problem, candidates)[0], self.gradients(problem, held)
        chosen = glister(gradients, validation, logits, min(m, len(candidates)), self.rate, self.rounds)
        index = candidates[chosen]
        if len(index) < m:
            index = torch.cat([index, held[torch.randperm(len(held), generator=rng)[: m - len(index)]]])
        return WeightedPositions(index, torch.ones(m))
