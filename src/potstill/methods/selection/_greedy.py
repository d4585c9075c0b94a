"""Selecting class by class: one step is one class, so progress shows and a run can be interrupted."""

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar, TypeVar

import torch
from torch import Generator, Tensor

from potstill.core import Asset, Method, Metrics, Problem, Result, Selection, StepCost
from potstill.errors import PotstillError
from potstill.functional.duplicates import near_duplicates
from potstill.functional.sampling import random_per_class
from potstill.methods.selection._features import (
    CHUNK,
    ClassSamples,
    FeatureName,
    Space,
    network_seed,
    read_class,
    trained,
)
from potstill.rng import generator

__all__ = [
    "ChosenState",
    "ClassByClass",
    "ClassWise",
    "ClassWiseState",
    "Embedding",
    "check_enough",
    "following",
    "one_class",
    "without_repeats",
]


def check_enough(problem: Problem) -> None:
    """Every class must have as many real samples as are to be selected.

    Raises:
        PotstillError: a class has fewer; the message names it.
    """
    if not problem.train.classes and len(problem.train) < problem.counts[0]:
        raise PotstillError(
            f"selection needs at least {problem.counts[0]} samples, but {problem.train.name} has {len(problem.train)}; "
            "ask for fewer"
        )
    for name, index, count in zip(problem.train.classes, problem.class_indices, problem.counts, strict=False):
        if len(index) < count:
            raise PotstillError(
                f"selection needs at least {count} samples of every class, but class {name!r} has {len(index)}; "
                f"ask for at most {min(len(i) for i in problem.class_indices)} per class"
            )


def without_repeats(samples: ClassSamples, m: int, choose: Callable[[Tensor, int], Tensor]) -> Tensor:
    """Positions of ``m`` samples: what ``choose`` picks among distinct ones, and repeats only if there are too few.

    The samples' rows are overwritten where there are repeats.
    """
    n = len(samples.first)
    own = samples.first == torch.arange(n)
    if bool(own.all()):
        return choose(samples.rows, m).cpu()
    distinct, repeats = own.nonzero().flatten(), (~own).nonzero().flatten()
    rows, begin = samples.rows, 0
    for part in torch.split(distinct, CHUNK):  # in place, for they may be most of the memory; no row moves up
        rows[begin : begin + len(part)] = rows[part.to(rows.device)]
        begin += len(part)
    kept = distinct[choose(rows[:begin], min(m, begin)).cpu()]
    return torch.cat([kept, repeats[: m - len(kept)]])


@dataclass(frozen=True, kw_only=True)
class ChosenState:
    chosen: tuple[Tensor, ...]
    """Indices into the training source by class: random ones for the classes that are not done yet."""
    classes_done: int = 0


S = TypeVar("S", bound=ChosenState)


def following(state: S, kept: Tensor, **changes: Any) -> S:
    """The state after the class whose turn it was; ``changes`` are of its other fields."""
    c = state.classes_done
    return replace(state, chosen=(*state.chosen[:c], kept, *state.chosen[c + 1 :]), classes_done=c + 1, **changes)


class ClassByClass(Method[S]):
    """Abstract: one step chooses the samples of one class."""

    def done(self, problem: Problem, state: S) -> bool:
        return state.classes_done == problem.num_classes

    def result(self, problem: Problem, state: S) -> Result:
        return Selection(index=torch.cat(state.chosen))

    def num_steps(self, problem: Problem) -> int:
        return problem.num_classes

    def once(self) -> Method[S]:
        """What a step is measured by: itself, or with one round of an iteration that ends by itself."""
        return self

    def step_costs(self, problem: Problem, state: S) -> tuple[StepCost, ...]:
        once = self.once()
        return (one_class(problem, lambda c: once.step(problem, replace(state, classes_done=c), generator(0, "plan"))),)


@dataclass(frozen=True, kw_only=True)
class ClassWiseState(ChosenState):
    seed: int
    repeats: int = 0
    """Samples so far that equal an earlier one of their class."""
    near: int = 0
    """Distinct samples so far that have another nearby (`near_duplicates`)."""


@dataclass(frozen=True, kw_only=True)
class Embedding:
    """Abstract: the settings of features."""

    features: FeatureName = "input"
    """What distances are measured in: the input, or the embedding of an untrained or a trained network."""
    epochs_trained: int = 20
    """Passes that the network is trained for, where features are trained. Ours."""


@dataclass(frozen=True, kw_only=True)
class ClassWise(Embedding, ClassByClass[ClassWiseState]):
    """Abstract: ``choose`` picks positions among the features of one class."""

    state_type: ClassVar[type] = ClassWiseState
    space: ClassVar[Space] = "features"

    @abstractmethod
    def choose(self, features: Tensor, m: int, rng: Generator) -> Tensor:
        """``m`` distinct positions in ``features`` (n, d)."""

    def assets(self, problem: Problem) -> tuple[Asset, ...]:
        return trained(self.features, self.epochs_trained)

    def init(self, problem: Problem, rng: Generator) -> ClassWiseState:
        check_enough(problem)
        chosen = random_per_class(problem.class_indices, problem.counts, rng)
        return ClassWiseState(chosen=chosen, seed=network_seed(rng))

    def step(self, problem: Problem, state: ClassWiseState, rng: Generator) -> tuple[ClassWiseState, Metrics]:
        c = state.classes_done
        index = problem.class_indices[c]
        samples = read_class(problem, index, self.features, state.seed, self.space)
        mean = samples.rows.mean(0)
        gap = [0.0]
        near = [0]

        def choose(rows: Tensor, m: int) -> Tensor:
            near[0] = int(near_duplicates(rows).sum())
            positions = self.choose(rows, m, rng)
            gap[0] = float((mean - rows[positions.to(rows.device)].mean(0)).norm())
            return positions

        positions = without_repeats(samples, problem.counts[c], choose)
        repeats = state.repeats + samples.repeats
        made = following(state, index[positions], repeats=repeats, near=state.near + near[0])
        return made, {"mean gap": gap[0], "duplicates": float(repeats), "near duplicates": float(made.near)}


def one_class(problem: Problem, step: Callable[[int], object]) -> StepCost:
    """What a step is that takes one class: it is run for the largest."""
    largest = max(range(problem.num_classes), key=lambda c: len(problem.class_indices[c]))
    size = len(problem.class_indices[largest])
    return StepCost(
        what="samples of a class", real=True, samples=size, size=size, ready=lambda _: lambda: step(largest)
    )
