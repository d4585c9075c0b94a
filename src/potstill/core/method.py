"""The contract of a distillation method, its result and what is known about it."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, Literal, Protocol, TypeAlias, TypeVar, runtime_checkable

from jaxtyping import Float, Int
from torch import Generator, Tensor

from potstill.core.assets import Asset
from potstill.core.data import Metrics, Payload, Space
from potstill.core.problem import Problem

__all__ = [
    "ClassShardable",
    "Family",
    "Method",
    "MethodInfo",
    "Preset",
    "Presets",
    "ReadsOtherData",
    "Result",
    "ScoringMethod",
    "Selection",
    "StepCost",
    "Synthetic",
    "label_mode",
]

Preset = Literal["quick", "good", "published"]
"""Number of steps: ``quick`` takes minutes on a laptop, ``good`` about an hour, ``published`` is the paper's."""


Presets: TypeAlias = Mapping[str, Mapping[str, Any]]
"""Fields of a method that each preset changes from the published defaults."""


Family = Literal["selection", "gradient", "trajectory", "distribution", "performance", "decoupled", "generative"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Indices into the training data, in label order, with soft labels (m, k) where the method makes them."""

    index: Int[Tensor, " m"]
    soft_labels: Float[Tensor, "m k"] | None = None
    weights: Float[Tensor, " m"] | None = None
    """Weight of each sample in a training loss: finite, at least 0, not all 0; training divides them by their mean."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Synthetic:
    """Payload for the problem's parametrization, and labels of the decoded inputs."""

    payload: Payload
    labels: Tensor
    """Targets in the task's form: int64 classes (n,), soft labels (n, k), real values (n, t), or pair numbers (n,)."""
    space: Space = "model"
    """Space of the decoded inputs."""
    extra_parameters: Mapping[str, Tensor] = field(default_factory=dict)
    """Further learned tensors by name, floating. ``student/lr``, one number, is the learning rate for students;
    protocols read it from the metadata as ``training.learned_lr``."""
    centred_labels: bool = False
    """True where class labels are real values in units where a hard label is one-hot − 1/k, and no distributions."""


Result: TypeAlias = Selection | Synthetic


@dataclass(frozen=True, slots=True, kw_only=True)
class MethodInfo:
    """Facts about a method that the registry, the docs and the contract tests read."""

    title: str
    paper: str
    """Publication: ``arXiv:…``, a DOI, or a venue."""
    year: int
    family: Family
    is_selection: bool = False
    """It returns a `Selection`: every item is a real sample."""
    soft_labels: bool = False
    """It returns soft labels."""
    balanced: bool = True
    """Every class gets its own budget; otherwise classes share it, each with at least one item."""
    class_independence: Literal["none", "deletion", "separate"] = "none"
    """``deletion``: with given normalization and trained networks or scores, removing a real sample of one class leaves
    the bits of the other classes' items. ``separate``: also, each class distilled alone gives its items of the joint
    run."""
    reimplemented: bool = False
    """The authors published no code, so this implementation follows the paper; comparisons say so."""
    weighted: bool = False
    """Its `Selection` has weights."""
    draws_by_class: bool = False
    """Its steps see real samples of each class only as `RealData.draw` and `RealData.draw_exactly` draw them at random,
    so that weights of draws decide what it matches."""
    kinds: tuple[str, ...] = ("image",)
    """Kinds of input that it supports; ``("*",)`` for any single tensor."""
    multi_input: bool = False
    """It also supports inputs with several tensors by name."""
    tasks: tuple[str, ...] = ("classification",)
    """Tasks that it supports; ``("*",)`` for any."""
    training: Mapping[str, str | float | int] = field(default_factory=dict)
    """Training settings of the paper for students, written to the metadata."""
    use_when: str = ""
    """A sentence: data, size and time for which to take it. Methods of other packages may leave it empty."""
    avoid_when: str = ""
    """A sentence: when to take another one, measured results of Potstill included."""
    related: tuple[str, ...] = ()
    """Names of methods that are near to it, the nearest first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepCost:
    """Part of a step for a memory plan: samples that pass a network together, and a function that runs it in small."""

    what: str
    ready: Callable[[int], Callable[[], object]]
    """Prepares the part for the given number of classes and returns the function that runs it. Memory that the function
    holds is counted; its result is held as long as a step."""
    samples: int
    """Samples of all classes that pass in one step."""
    size: int
    """Samples of the largest class in one pass, or of all where the part has no classes."""
    classes: int = 1
    """Number of classes; 1 where the part has none."""
    at_once: int = 1
    """Most classes in one pass."""
    real: bool = False
    """True for real samples."""
    every: int = 1
    """Steps per run of the part."""
    stays: bool = False
    """True where each run's result is kept to the end, for up to ``classes`` runs."""
    when: Literal["before", "descent", "after"] = "before"
    """``descent``: while the decoded inputs and their graph are alive. ``after``: after the update of the payload."""


S = TypeVar("S")


M = TypeVar("M", bound="Method[Any]")


class Method(ABC, Generic[S]):
    """Published method: a frozen dataclass whose fields are its hyperparameters.

    Fields hold JSON values (numbers, strings, booleans, None, tuples of them). An ``int`` is at least 1 and a ``float``
    at least 0; `NonNegativeInt`, `UnitFloat` and `PositiveFloat` (`potstill.core.bounds`) have other bounds. The fields
    ``network``, ``augment`` and ``parametrization`` name parts, which a run resolves and passes in `Problem`. The state
    is a frozen dataclass of tensors, ints, tuples and mappings of tensors, and other such dataclasses.
    """

    info: ClassVar[MethodInfo]
    state_type: ClassVar[type]
    """Class of the state, to read a checkpoint."""
    presets: ClassVar[Presets] = {}
    """Fields that the presets ``quick`` and ``good`` change from the published defaults."""

    @abstractmethod
    def init(self, problem: Problem, rng: Generator) -> S:
        """Return the initial state."""

    @abstractmethod
    def step(self, problem: Problem, state: S, rng: Generator) -> tuple[S, Metrics]:
        """Return the next state, leaving the old one valid, and the metrics to log."""

    @abstractmethod
    def done(self, problem: Problem, state: S) -> bool:
        """Return True once the published number of steps is made."""

    @abstractmethod
    def result(self, problem: Problem, state: S) -> Result:
        """Return the distilled set of any state, so that a run can be stopped early."""

    def resolve_defaults(self: M, problem: Problem) -> tuple[M, tuple[str, ...]]:
        """Return the method for these data, with a value in every field whose default depends on them, and notes.

        Called once, before everything else. Notes are lines about settings that the data do not admit.
        """
        return self, ()

    def assets(self, problem: Problem) -> "tuple[Asset, ...]":
        """Return the assets to build before ``init``, which puts them into ``Problem.assets`` by name."""
        return ()

    def num_steps(self, problem: Problem) -> int | None:
        """Return the number of steps until ``done``, for the progress bar; ``None`` if unknown."""
        return None

    def step_costs(self, problem: Problem, state: S) -> "tuple[StepCost, ...] | None":
        """Return the parts of a step for a memory plan; ``None``: no memory is predicted."""
        return None


@runtime_checkable
class ClassShardable(Protocol[S]):
    """`Method` that can make some classes' part of its set by itself.

    Its objective is a sum over classes and every learned value belongs to one class. ``init`` and ``step`` of a problem
    with a ``shard`` make that part alone, but draw as for the whole set, so that the result does not depend on the
    division. A step of another shard's part does nothing.
    """

    def shard_obstacle(self, problem: Problem, /) -> str | None:
        """Return the reason why this problem's classes cannot be divided; ``None``: they can."""
        ...

    def join_shards(self, problem: Problem, parts: Sequence[tuple[range, S]], /) -> S:
        """Return one state from the shards' states, which cover all classes after equally many steps."""
        ...


@runtime_checkable
class ScoringMethod(Protocol):
    """`Method` that scores every real sample and then selects by the scores, as `potstill.score` writes them."""

    @property
    def selection_fields(self) -> tuple[str, ...]:
        """Fields that affect the selection alone; all others affect the scores."""
        ...

    def assets(self, problem: "Problem", /) -> "tuple[Asset, ...]": ...
    def columns(self, problem: "Problem", /) -> Mapping[str, Float[Tensor, " n"]]:
        """Return values of all samples by column name, none of them NaN; the first is the score."""
        ...


@runtime_checkable
class ReadsOtherData(Protocol):
    """`Method` that reads data beside those it distils, such as a target set: their content decides its bits, too."""

    def other_data(self, problem: "Problem", /) -> Mapping[str, str]:
        """Return the hash of the content by the field that names the data."""
        ...


def label_mode(method: Method[Any] | type[Method[Any]]) -> str:
    """Return a method's field ``labels`` (``soft``, ``learned``, …), or ``hard`` where it has none."""
    found = getattr(method, "labels", "hard")
    return found if isinstance(found, str) else "hard"
