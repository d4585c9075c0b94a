r"""Coresets by the last layer's gradients, class by class, in the network at the end of a recorded training.

CRAIG (Mirzasoleiman, Bilmes and Leskovec, ICML 2020, arXiv:1906.01827, algorithm 1):

.. math::
    \max_{S} \sum_{i} \max_{s \in S} \big( D - \lVert g_i - g_s \rVert \big), \qquad
    \gamma_s = |\{ i : s = \arg\min_{s' \in S} \lVert g_i - g_{s'} \rVert \}|

γ, the number of samples of its class that each one stands for, is the set's weight. The paper takes steps in proportion
to γ and selects anew every epoch; here a set is selected once. As in the released code (train_resnet.py:310, 441), γ is
divided by its mean and batches take the mean of weighted losses.

GRAD-MATCH (Killamsetty et al., ICML 2021, arXiv:2103.00123, algorithm 2; orthogonal matching pursuit per class):

.. math::
    \min_{S, \, w \geq 0} \Big\lVert \sum_{s \in S} w_s g_s - \sum_i g_i \Big\rVert^2 + \lambda \lVert w \rVert^2

w is the set's weight. The paper selects anew every 20 epochs; here once. A sample may have weight 0: the released code
replaces it by a random one of weight 1 (gradmatchstrategy.py:203), which is not part of the algorithm. That code
divides by the sum of each batch's weights (train_sl.py:767); here weights are divided by their mean over the set.

GLISTER (Killamsetty et al., AAAI 2021, arXiv:2012.10630, algorithm 2):

.. math::
    S \leftarrow S \cup \{ \arg\max_i \; \eta \, \langle g_i, \nabla_\theta L_V(\theta_S) \rangle \}, \qquad
    \theta_S = \theta - \eta \sum_{s \in S} g_s

The validation part V is held out of the training data; candidates are the other samples, and if a class gives more than
those, random samples of V fill it up. V is taken class by class. All samples have weight 1, as in the paper's code.
"""

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Tensor

from potstill.core import Asset, MethodInfo, Metrics, Problem, Selection
from potstill.functional.gradient_coreset import WeightedPositions, craig, glister, grad_match
from potstill.functional.gradient_norms import Factors, factors
from potstill.functional.sampling import random_per_class
from potstill.methods.engine import load_network, require_tensor
from potstill.methods.selection._by_class import (
    ClassByClass,
    SelectionState,
    advance,
    check_class_sizes,
    selection_info,
)  # fmt: skip
from potstill.methods.selection._record import RecordedTraining, get_record
from potstill.pretraining import training_part

__all__ = ["CRAIG", "GLISTER", "GradMatch", "GradientSelection", "GradientSelectionState"]

CHUNK = 512


@dataclass(frozen=True, kw_only=True)
class GradientSelectionState(SelectionState):
    weights: tuple[Tensor, ...]
    """Weight of each selected sample; classes that are not done yet share their weight evenly."""


@dataclass(frozen=True, kw_only=True)
class GradientSelection(RecordedTraining, ClassByClass[GradientSelectionState]):
    """Abstract: ``choose`` picks among the samples of one class."""

    state_type: ClassVar[type] = GradientSelectionState

    @abstractmethod
    def choose(self, problem: Problem, c: int, m: int, rng: Generator) -> WeightedPositions:
        """Return ``m`` distinct indices into the training source of samples of class ``c``, and their weights.

        The weights of a class sum to about its number of samples, so that classes weigh as in the data.
        """

    def assets(self, problem: Problem) -> tuple[Asset, ...]:
        return (self.record_asset(),)

    def gradients(self, problem: Problem, index: Tensor) -> tuple[Factors, Tensor]:
        """Return the last layer's gradients of the real samples at ``index``, and their logits (m, k)."""
        record = get_record(problem)
        weights = record.network(0, record.epochs)
        net = load_network(problem, weights.seed, weights.parameters, weights.buffers).eval()
        parts: list[Factors] = []
        for at in torch.split(index, CHUNK):
            batch = problem.train.fetch(at)
            assert batch.y is not None  # its record could not have been made
            parts.append(factors(net, require_tensor(batch.x), batch.y))
        gradients = Factors(torch.cat([f.delta for f in parts]), torch.cat([f.features for f in parts]))
        with torch.no_grad():
            return gradients, net.classifier(gradients.features[:, :-1])

    def init(self, problem: Problem, rng: Generator) -> GradientSelectionState:
        check_class_sizes(problem)
        selected = random_per_class(problem.class_indices, problem.counts, rng)
        weights = tuple(
            torch.full((len(some),), len(every) / len(some))
            for some, every in zip(selected, problem.class_indices, strict=True)
        )
        return GradientSelectionState(selected=selected, weights=weights)

    def step(
        self, problem: Problem, state: GradientSelectionState, rng: Generator
    ) -> tuple[GradientSelectionState, Metrics]:
        c = state.classes_done
        index, weight = self.choose(problem, c, problem.counts[c], rng)
        weights = (*state.weights[:c], weight, *state.weights[c + 1 :])
        return advance(state, index, weights=weights), {"largest weight": float(weight.max())}

    def result(self, problem: Problem, state: GradientSelectionState) -> Selection:
        weights = torch.cat(state.weights) if self.info.weighted else None
        return Selection(index=torch.cat(state.selected), weights=weights)


@dataclass(frozen=True, kw_only=True)
class CRAIG(GradientSelection):
    """Real samples whose gradients lie near those of all others of their class."""

    info: ClassVar[MethodInfo] = selection_info(
        "CRAIG: coresets for gradient descent", "arXiv:1906.01827", 2020, weighted=True
    )

    def choose(self, problem: Problem, c: int, m: int, rng: Generator) -> WeightedPositions:
        index = problem.class_indices[c]
        positions, weight = craig(self.gradients(problem, index)[0], m)
        return WeightedPositions(index[positions], weight)


@dataclass(frozen=True, kw_only=True)
class GradMatch(GradientSelection):
    """Real samples whose weighted gradients sum to that of their class."""

    info: ClassVar[MethodInfo] = selection_info(
        "GRAD-MATCH: gradient matching by orthogonal matching pursuit", "arXiv:2103.00123", 2021, weighted=True
    )
    positive: ClassVar[tuple[str, ...]] = ("ridge",)

    ridge: float = 0.5
    """λ, above 0 (the paper's experiments: 0.5)."""

    def choose(self, problem: Problem, c: int, m: int, rng: Generator) -> WeightedPositions:
        index = problem.class_indices[c]
        positions, weight = grad_match(self.gradients(problem, index)[0], m, self.ridge)
        return WeightedPositions(index[positions], weight)


@dataclass(frozen=True, kw_only=True)
class GLISTER(GradientSelection):
    """Real samples that lower the loss of a held-out part fastest."""

    info: ClassVar[MethodInfo] = selection_info(
        "GLISTER: generalization-based subset selection", "arXiv:2012.10630", 2021
    )
    positive: ClassVar[tuple[str, ...]] = ("holdout", "rate")

    holdout: float = 0.1
    """Fraction of each class that is held out, above 0 and below 1 (the paper: 10 %)."""
    rate: float = 0.05
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
