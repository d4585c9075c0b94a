"""Selection methods in which one step selects the samples of one class, so that a run shows progress and can resume."""

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar, TypeVar

import torch
from torch import Generator, Tensor

from potstill.core import Asset, Method, MethodInfo, Metrics, Problem, Result, Selection, StepCost
from potstill.data.real_data import RealData
from potstill.errors import PotstillError
from potstill.functional.duplicates import near_duplicates
from potstill.methods.selection._features import (
    CHUNK,
    ClassSamples,
    FeatureName,
    FeatureSpace,
    feature_assets,
    read_class,
)  # fmt: skip
from potstill.rng import draw_seed, generator

__all__ = [
    "ClassByClass", "FeatureSelection", "FeatureSelectionState", "FeatureSettings", "SelectionState", "advance",
    "check_class_sizes", "class_generator", "largest_class_cost", "random_selection", "select_distinct",
    "selection_info",
]  # fmt: skip


def selection_info(title: str, paper: str, year: int, **more: Any) -> MethodInfo:
    """Return the `MethodInfo` of a selection method for all kinds of data; ``more`` are its other fields."""
    return MethodInfo(title=title, paper=paper, year=year, family="selection", is_selection=True, kinds=("*",), **more)


def check_class_sizes(problem: Problem) -> None:
    """Raise a PotstillError that names the class if a class has fewer real samples than are to be selected."""
    if not problem.train.classes and len(problem.train) < problem.counts[0]:
        raise PotstillError(
            f"selection needs at least {problem.counts[0]} samples, but {problem.train.name} has {len(problem.train)}; "
            "ask for fewer, or fewer bytes"
        )
    for name, index, count in zip(problem.train.classes, problem.class_indices, problem.counts, strict=False):
        if len(index) < count:
            raise PotstillError(
                f"selection needs at least {count} samples of every class, but class {name!r} has {len(index)}; "
                f"ask for at most {min(len(i) for i in problem.class_indices)} per class, or fewer bytes"
            )


def select_distinct(samples: ClassSamples, m: int, choose: Callable[[Tensor, int], Tensor]) -> Tensor:
    """Return positions of ``m`` samples that ``choose`` picks among distinct ones, then repeats if there are too few.

    Overwrites ``samples.rows`` if there are repeats.
    """
    n = len(samples.first)
    is_first = samples.first == torch.arange(n)
    if bool(is_first.all()):
        return choose(samples.rows, m).cpu()
    distinct, repeats = is_first.nonzero().flatten(), (~is_first).nonzero().flatten()
    rows, begin = samples.rows, 0
    for part in torch.split(distinct, CHUNK):  # in place: rows may fill most of the memory; no row moves up
        rows[begin : begin + len(part)] = rows[part.to(rows.device)]
        begin += len(part)
    selected = distinct[choose(rows[:begin], min(m, begin)).cpu()]
    return torch.cat([selected, repeats[: m - len(selected)]])


@dataclass(frozen=True, kw_only=True)
class SelectionState:
    """State of a method that selects class by class."""

    selected: tuple[Tensor, ...]
    """Indices into the training source by class; random ones for classes that are not done yet."""
    seed: int
    """Seed of a random network, and of the draws of each class's step."""
    classes_done: int = 0


S = TypeVar("S", bound=SelectionState)


def random_selection(problem: Problem, rng: Generator) -> SelectionState:
    """Return the state before the first step, with random samples of every class."""
    check_class_sizes(problem)
    return SelectionState(selected=RealData.of(problem).draw_exactly(problem.counts, rng), seed=draw_seed(rng))


def class_generator(problem: Problem, state: SelectionState) -> Generator:
    """Return the generator of the current class's step, which depends on the state's seed and the class's name."""
    return generator(state.seed, "class", problem.class_names[state.classes_done])


def advance(state: S, selected: Tensor, **changes: Any) -> S:
    """Return the state after the current class, with its selected samples and ``changes`` of other fields."""
    c = state.classes_done
    return replace(
        state, selected=(*state.selected[:c], selected, *state.selected[c + 1 :]), classes_done=c + 1, **changes
    )


class ClassByClass(Method[S]):
    """Abstract: one step selects the samples of one class."""

    def done(self, problem: Problem, state: S) -> bool:
        return state.classes_done == problem.num_classes

    def result(self, problem: Problem, state: S) -> Result:
        return Selection(index=torch.cat(state.selected))

    def num_steps(self, problem: Problem) -> int:
        return problem.num_classes

    def single_round(self) -> Method[S]:
        """Return the method whose step is timed for a plan: itself, or with one round of its inner iteration."""
        return self

    def step_costs(self, problem: Problem, state: S) -> tuple[StepCost, ...]:
        method = self.single_round()

        def step(c: int) -> object:
            return method.step(problem, replace(state, classes_done=c), generator(0, "plan"))

        return (largest_class_cost(problem, step),)


@dataclass(frozen=True, kw_only=True)
class FeatureSelectionState(SelectionState):
    repeats: int = 0
    """Samples so far that equal an earlier one of their class."""
    near: int = 0
    """Distinct samples so far that have a near duplicate (`near_duplicates`)."""


@dataclass(frozen=True, kw_only=True)
class FeatureSettings:
    """Abstract: fields of methods that measure distances between features."""

    features: FeatureName = "input"
    """Features for distances: the input, or the embedding of an untrained or a trained network."""
    pretrain_epochs: int = 20
    """Training epochs of the network if features are ``trained``. Ours."""


@dataclass(frozen=True, kw_only=True)
class FeatureSelection(FeatureSettings, ClassByClass[FeatureSelectionState]):
    """Abstract: ``choose`` picks positions among the features of one class."""

    state_type: ClassVar[type] = FeatureSelectionState
    space: ClassVar[FeatureSpace] = "features"

    @abstractmethod
    def choose(self, features: Tensor, mean: Tensor, m: int, rng: Generator) -> Tensor:
        """Return ``m`` distinct positions in ``features`` (n, d).

        Args:
            features: features of the distinct samples of one class.
            mean: their mean (d,), as released.
            m: number to select.
            rng: generator of the class.
        """

    def assets(self, problem: Problem) -> tuple[Asset, ...]:
        return feature_assets(self.features, self.pretrain_epochs)

    def init(self, problem: Problem, rng: Generator) -> FeatureSelectionState:
        first = random_selection(problem, rng)
        return FeatureSelectionState(selected=first.selected, seed=first.seed)

    def step(
        self, problem: Problem, state: FeatureSelectionState, rng: Generator
    ) -> tuple[FeatureSelectionState, Metrics]:
        c = state.classes_done
        index = problem.class_indices[c]
        samples = read_class(problem, index, self.features, state.seed, self.space)
        mean, gap, near = samples.rows.mean(0), 0.0, 0
        real, name, rng = RealData.of(problem), problem.class_names[c], class_generator(problem, state)

        def choose(rows: Tensor, m: int) -> Tensor:
            nonlocal gap, near
            near = int(near_duplicates(rows).sum())
            positions = self.choose(rows, real.class_mean(name, rows), m, rng)
            gap = float((mean - rows[positions.to(rows.device)].mean(0)).norm())
            return positions

        positions = select_distinct(samples, problem.counts[c], choose)
        repeats = state.repeats + samples.repeats
        after = advance(state, index[positions], repeats=repeats, near=state.near + near)
        return after, {"mean gap": gap, "duplicates": float(repeats), "near duplicates": float(after.near)}


def largest_class_cost(problem: Problem, step: Callable[[int], object]) -> StepCost:
    """Return the cost of a step that takes one class, measured on the largest class."""
    largest = max(range(problem.num_classes), key=lambda c: len(problem.class_indices[c]))
    size = len(problem.class_indices[largest])
    return StepCost(
        what="samples of a class", real=True, samples=size, size=size, ready=lambda _: lambda: step(largest)
    )
