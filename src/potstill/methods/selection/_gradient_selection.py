"""Coresets by the last layer's gradients, class by class, in the network at the end of a recorded training."""

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Tensor

from potstill.core import Asset, Metrics, Problem, Selection
from potstill.data.real_data import RealData
from potstill.functional.gradient_coreset import WeightedPositions
from potstill.functional.gradient_norms import Factors, factors
from potstill.methods.engine import load_network, require_tensor
from potstill.methods.selection._by_class import (
    ClassByClass,
    SelectionState,
    advance,
    class_generator,
    random_selection,
)
from potstill.methods.selection._record import RecordedTraining, get_record

__all__ = ["GradientSelection", "GradientSelectionState"]


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
            batch = RealData.of(problem).batch(at)
            assert batch.y is not None  # its record could not have been made
            parts.append(factors(net, require_tensor(batch.x), batch.y))
        gradients = Factors(torch.cat([f.delta for f in parts]), torch.cat([f.features for f in parts]))
        with torch.no_grad():
            return gradients, net.classifier(gradients.features[:, :-1])

    def init(self, problem: Problem, rng: Generator) -> GradientSelectionState:
        first = random_selection(problem, rng)
        weights = tuple(
            torch.full((len(some),), len(every) / len(some))
            for some, every in zip(first.selected, problem.class_indices, strict=True)
        )
        return GradientSelectionState(selected=first.selected, seed=first.seed, weights=weights)

    def step(
        self, problem: Problem, state: GradientSelectionState, rng: Generator
    ) -> tuple[GradientSelectionState, Metrics]:
        c = state.classes_done
        index, weight = self.choose(problem, c, problem.counts[c], class_generator(problem, state))
        weights = (*state.weights[:c], weight, *state.weights[c + 1 :])
        return advance(state, index, weights=weights), {"largest weight": float(weight.max())}

    def result(self, problem: Problem, state: GradientSelectionState) -> Selection:
        weights = torch.cat(state.weights) if self.info.weighted else None
        return Selection(index=torch.cat(state.selected), weights=weights)
