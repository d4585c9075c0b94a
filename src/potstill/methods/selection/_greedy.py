"""Selecting class by class: one step is one class, so progress shows and a run can be interrupted."""

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Generator, Tensor

from potstill.core import Method, Metrics, Part, Problem, Selection
from potstill.errors import PotstillError
from potstill.functional.sampling import random_per_class
from potstill.methods.selection._features import FeatureName, class_features, network_seed
from potstill.rng import generator

__all__ = ["ClassWise", "ClassWiseState", "check_enough", "one_class"]


def check_enough(problem: Problem) -> None:
    """Every class must have as many real samples as are to be selected.

    Raises:
        PotstillError: a class has fewer; the message names it.
    """
    for name, index, count in zip(problem.train.classes, problem.by_class, problem.counts, strict=True):
        if len(index) < count:
            raise PotstillError(
                f"selection needs at least {count} samples of every class, but class {name!r} has {len(index)}; "
                f"ask for at most {min(len(i) for i in problem.by_class)} per class"
            )


@dataclass(frozen=True, kw_only=True)
class ClassWiseState:
    chosen: tuple[Tensor, ...]
    """Indices into the training source by class: random ones for the classes that are not done yet."""
    classes_done: int
    seed: int


class ClassWise(Method[ClassWiseState]):
    """Abstract: ``choose`` picks positions among the features of one class."""

    features: FeatureName
    state_type: ClassVar[type] = ClassWiseState

    @abstractmethod
    def choose(self, features: Tensor, m: int, rng: Generator) -> Tensor:
        """``m`` distinct positions in ``features`` (n, d)."""

    def init(self, problem: Problem, rng: Generator) -> ClassWiseState:
        check_enough(problem)
        chosen = random_per_class(problem.by_class, problem.counts, rng)
        return ClassWiseState(chosen=chosen, classes_done=0, seed=network_seed(rng))

    def step(self, problem: Problem, state: ClassWiseState, rng: Generator) -> tuple[ClassWiseState, Metrics]:
        c = state.classes_done
        index = problem.by_class[c]
        features = class_features(problem, index, self.features, state.seed)
        positions = self.choose(features, problem.counts[c], rng)
        gap = (features.mean(0) - features[positions].mean(0)).norm()
        chosen = (*state.chosen[:c], index[positions.cpu()], *state.chosen[c + 1 :])
        return ClassWiseState(chosen=chosen, classes_done=c + 1, seed=state.seed), {"mean gap": float(gap)}

    def done(self, problem: Problem, state: ClassWiseState) -> bool:
        return state.classes_done == problem.num_classes

    def result(self, problem: Problem, state: ClassWiseState) -> Selection:
        return Selection(index=torch.cat(state.chosen))

    def horizon(self, problem: Problem) -> int:
        return problem.num_classes

    def parts(self, problem: Problem, state: ClassWiseState) -> tuple[Part, ...]:
        return (one_class(problem, lambda c: self.step(problem, replace(state, classes_done=c), generator(0, "plan"))),)


def one_class(problem: Problem, step: Callable[[int], object]) -> Part:
    """What a step is that takes one class: it is run for the largest."""
    largest = max(range(problem.num_classes), key=lambda c: len(problem.by_class[c]))
    size = len(problem.by_class[largest])
    return Part(what="samples of a class", real=True, samples=size, size=size, ready=lambda _: lambda: step(largest))
