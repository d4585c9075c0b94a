"""Selecting class by class by the last layer's gradients, in the network at the end of a recorded training."""

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Tensor

from potstill.core import Asset, Metrics, Problem, Selection
from potstill.functional.gradient_coreset import WeightedPositions
from potstill.functional.gradient_norms import Factors, factors
from potstill.functional.sampling import random_per_class
from potstill.methods.engine import load_network, require_tensor
from potstill.methods.selection._greedy import ChosenState, ClassByClass, check_enough, following
from potstill.methods.selection._record import Recorded, record_of

__all__ = ["ByGradients", "GradientState"]

CHUNK = 512


@dataclass(frozen=True, kw_only=True)
class GradientState(ChosenState):
    weights: tuple[Tensor, ...]
    """How much each chosen sample counts; those of the classes that are not done yet share their class evenly."""


@dataclass(frozen=True, kw_only=True)
class ByGradients(Recorded, ClassByClass[GradientState]):
    """Abstract: ``choose`` picks among the samples of one class."""

    state_type: ClassVar[type] = GradientState

    @abstractmethod
    def choose(self, problem: Problem, c: int, m: int, rng: Generator) -> WeightedPositions:
        """``m`` distinct indices into the training source of samples of class ``c``, and their weights.

        The weights of a class add up to about as many as it has samples, so that classes weigh as they are in the data.
        """

    def assets(self, problem: Problem) -> tuple[Asset, ...]:
        return (self.spec(),)

    def gradients(self, problem: Problem, index: Tensor) -> tuple[Factors, Tensor]:
        """The last layer's gradients of the real samples at ``index``, and their logits (m, k)."""
        record = record_of(problem)
        trained = record.network(0, record.epochs)
        net = load_network(problem, trained.seed, trained.parameters, trained.buffers).eval()
        made: list[Factors] = []
        for at in torch.split(index, CHUNK):
            batch = problem.train.fetch(at)
            assert batch.y is not None  # its record could not have been made
            made.append(factors(net, require_tensor(batch.x), batch.y))
        found = Factors(torch.cat([f.delta for f in made]), torch.cat([f.features for f in made]))
        with torch.no_grad():
            return found, net.classifier(found.features[:, :-1])

    def init(self, problem: Problem, rng: Generator) -> GradientState:
        check_enough(problem)
        chosen = random_per_class(problem.class_indices, problem.counts, rng)
        weights = tuple(
            torch.full((len(some),), len(every) / len(some))
            for some, every in zip(chosen, problem.class_indices, strict=True)
        )
        return GradientState(chosen=chosen, weights=weights)

    def step(self, problem: Problem, state: GradientState, rng: Generator) -> tuple[GradientState, Metrics]:
        c = state.classes_done
        index, weight = self.choose(problem, c, problem.counts[c], rng)
        weights = (*state.weights[:c], weight, *state.weights[c + 1 :])
        return following(state, index, weights=weights), {"largest weight": float(weight.max())}

    def result(self, problem: Problem, state: GradientState) -> Selection:
        weights = torch.cat(state.weights) if self.info.weighted else None
        return Selection(index=torch.cat(state.chosen), weights=weights)
