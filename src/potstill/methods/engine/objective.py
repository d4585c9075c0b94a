"""The contracts of the matching engine: its state, what an objective sees and returns, and where networks come from."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Protocol, TypeAlias, TypeVar, runtime_checkable

from torch import Generator, Tensor

from potstill.core import Inputs, Network, Problem, StepCost
from potstill.functional.param_groups import ParamState, strip_prefix

__all__ = [
    "LOGITS",
    "SCORES",
    "TARGETS",
    "Apart",
    "Labels",
    "LossAndGrads",
    "MatchingState",
    "NetworkSource",
    "Objective",
    "ObjectiveInputs",
    "PoolMember",
    "Update",
    "inputs_of_view",
    "named_inputs",
]

Labels: TypeAlias = Literal["hard", "learned"]
"""As they are, or logits that move, shown as rows that sum to 1."""

ObjectiveInputs: TypeAlias = Mapping[str, Tensor]
"""What an objective looks at: ``inputs`` in model space (``inputs/NAME`` of each where they have names), ``labels``
(rows) where they are learned, and by its own name every leaf that is neither of the payload nor of the labels."""

TARGETS = "labels/targets"
"""The leaf of targets that are no classes: those of the samples that a set begins with."""

LossAndGrads: TypeAlias = tuple[float, Mapping[str, Tensor]]
"""A loss, and its gradients by the names of `Seen`."""

LOGITS = "labels/logits"
"""The leaf of learned labels that are rows which sum to 1: their logits."""

SCORES = "labels/scores"
"""The leaf of labels that are real values: of classes, in units where a hard label is one-hot − 1/k."""

B = TypeVar("B")


@dataclass(frozen=True, kw_only=True)
class PoolMember:
    """A network in training, as a value."""

    seed: int
    theta: Mapping[str, Tensor]
    velocity: Mapping[str, Tensor]
    buffers: Mapping[str, Tensor]
    num_correct: int = 0
    """Training samples that it classified rightly as it met them, of ``seen``."""
    num_samples: int = 0

    @property
    def accuracy(self) -> float:
        return self.num_correct / self.num_samples if self.num_samples else 0.0


@dataclass(frozen=True, kw_only=True)
class MatchingState:
    """Everything that evolves while a method matches."""

    params: ParamState
    """``payload/…``, and where labels are learned ``labels/logits`` or `SCORES`."""
    pool: tuple[PoolMember, ...] = ()
    """Networks that train along."""
    block_seed: int = 0
    """Seed of the draws that some steps share."""
    block_steps: int = 0
    """Steps made with them, or with the present network."""
    cached: Mapping[str, Tensor] = field(default_factory=dict)
    """What was taken of real samples, while more steps will use it."""
    memory: Mapping[str, Tensor] = field(default_factory=dict)
    """What an objective or its networks carry from step to step."""
    iteration: int = 0
    """Of ``iterations``: steps, or networks used up."""
    loss: float = 0.0
    """Of the step that led here."""


class Update(NamedTuple):
    """One descent of a step: down ``of``, once for each group of classes."""

    name: str
    loss_and_grads: Callable[[list[int], ObjectiveInputs], LossAndGrads]
    class_groups: list[list[int]]
    loss_divisor: int = 1
    """What the loss is divided by before it is shown."""


@runtime_checkable
class NetworkSource(Protocol):
    """Where networks come from, and how they go on."""

    def init_state(self, problem: Problem, state: MatchingState, rng: Generator, seed: int | None, /) -> MatchingState:
        """The first state with the networks that train along; ``seed``: that of the first, if it is drawn already."""
        ...

    def draw_networks(
        self, problem: Problem, state: MatchingState, rng: Generator, /
    ) -> tuple[Network, Network | None]:
        """The network that embeds, and one that classifies, for objectives that calibrate."""
        ...

    def advance(self, problem: Problem, state: MatchingState, net: Network, rng: Generator, /) -> MatchingState:
        """The state after ``net`` has served a step, its iteration counted."""
        ...

    def step_costs(self, problem: Problem, state: MatchingState, /) -> tuple[StepCost, ...]:
        """What they do in a step, for a plan."""
        ...


@runtime_checkable
class Objective(Protocol[B]):
    """What is compared. A block is what the descents of one step have in common, among it the network, ``net``."""

    def prepare(
        self, problem: Problem, networks: NetworkSource, state: MatchingState, rng: Generator, /
    ) -> tuple[MatchingState, B]: ...
    def updates(self, problem: Problem, state: MatchingState, block: B, /) -> Iterable[Update]:
        """In order; each is asked for when the one before it is made."""
        ...

    def init_memory(self, problem: Problem, rng: Generator, /) -> Mapping[str, Tensor]:
        """The first memory."""
        ...

    def finish_step(self, problem: Problem, state: MatchingState, block: B, /) -> MatchingState:
        """The state with what the objective carries along and what more steps will use."""
        ...

    def step_costs(
        self, problem: Problem, networks: NetworkSource, state: MatchingState, /
    ) -> tuple[StepCost, ...]: ...


@runtime_checkable
class Apart(Protocol):
    """An objective that is a sum over classes, or networks that do not depend on what is stored: neither lets a class
    see another's samples."""

    def shard_obstacle(self, problem: Problem, /) -> str | None:
        """What lets them after all; ``None``: nothing."""
        ...


def inputs_of_view(seen: ObjectiveInputs) -> Inputs:
    """The inputs in it, one tensor or several with names."""
    return seen["inputs"] if "inputs" in seen else strip_prefix("inputs/", seen)


def named_inputs(x: Inputs) -> dict[str, Tensor]:
    """Inputs by their names in `Seen`."""
    return {"inputs": x} if isinstance(x, Tensor) else {f"inputs/{n}": t for n, t in x.items()}
