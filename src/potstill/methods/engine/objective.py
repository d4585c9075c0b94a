"""Protocols and state of the matching engine: objective, network source, class shards."""

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar, Generic, Literal, NamedTuple, Protocol, TypeAlias, TypeVar, runtime_checkable

from torch import Generator, Tensor

from potstill.core import Inputs, Network, Problem, StepCost
from potstill.functional.param_groups import ParamState, strip_prefix

__all__ = [
    "LOGITS", "SCORES", "TARGETS", "JointObjective", "Labels", "LearnedTargets", "LossAndGrads", "MatchingState",
    "NetworkSource", "Objective", "ObjectiveInputs", "PoolMember", "ShardablePart", "StaticNetworks", "Update",
    "inputs_of_view", "named_inputs",
]  # fmt: skip

Labels: TypeAlias = Literal["hard", "learned"]
"""Hard labels, or learned logits whose softmax are soft labels."""

ObjectiveInputs: TypeAlias = Mapping[str, Tensor]
"""Tensors passed to the objective: ``inputs`` in model space (``inputs/NAME`` for each of several), soft ``labels`` if
learned, and extra parameters by name."""

TARGETS = "labels/targets"
"""Parameter name of targets that are no classes: those of the initial samples."""

LossAndGrads: TypeAlias = tuple[float, Mapping[str, Tensor]]
"""A loss, and its gradients by the names of `ObjectiveInputs`."""

LOGITS = "labels/logits"
"""Parameter name of the logits of learned soft labels."""

SCORES = "labels/scores"
"""Parameter name of learned real-valued labels; for classes a hard label is one-hot − 1/k."""

B = TypeVar("B")


@dataclass(frozen=True, kw_only=True)
class PoolMember:
    """A network in training: parameters, momentum buffers, and its accuracy on the training batches so far."""

    seed: int
    theta: Mapping[str, Tensor]
    velocity: Mapping[str, Tensor]
    buffers: Mapping[str, Tensor]
    num_correct: int = 0
    num_samples: int = 0

    @property
    def accuracy(self) -> float:
        return self.num_correct / self.num_samples if self.num_samples else 0.0


@dataclass(frozen=True, kw_only=True)
class MatchingState:
    """State of a matching run, as a checkpoint holds it.

    Attributes:
        params: ``payload/…``, and ``labels/…`` where labels are learned, with their optimizer state.
        pool: networks that train along.
        block_seed: seed of draws that several steps share.
        block_steps: steps made with that seed, or with the present network.
        cached: tensors of real samples that more steps will use.
        memory: tensors that the objective or its networks carry from step to step.
        iteration: steps made, or networks used up.
        loss: loss of the last step.
    """

    params: ParamState
    pool: tuple[PoolMember, ...] = ()
    block_seed: int = 0
    block_steps: int = 0
    cached: Mapping[str, Tensor] = field(default_factory=dict)
    memory: Mapping[str, Tensor] = field(default_factory=dict)
    iteration: int = 0
    loss: float = 0.0


class Update(NamedTuple):
    """An optimizer step for each group of classes; the metric is the summed loss over ``loss_divisor``."""

    name: str
    loss_and_grads: Callable[[list[int], ObjectiveInputs], LossAndGrads]
    class_groups: list[list[int]]
    loss_divisor: int = 1


@runtime_checkable
class NetworkSource(Protocol):
    """Source of the networks that real and synthetic samples are compared in."""

    def init_state(self, problem: Problem, state: MatchingState, rng: Generator, seed: int | None, /) -> MatchingState:
        """Return the first state with its networks; ``seed``: seed of the first network, if already drawn."""
        ...

    def draw_networks(
        self, problem: Problem, state: MatchingState, rng: Generator, /
    ) -> tuple[Network, Network | None]:
        """Return the network that embeds, and one that classifies for objectives that calibrate."""
        ...

    def advance(self, problem: Problem, state: MatchingState, net: Network, rng: Generator, /) -> MatchingState:
        """Return the state after ``net`` was used for a step, with the iteration counted."""
        ...

    def step_costs(self, problem: Problem, state: MatchingState, /) -> tuple[StepCost, ...]:
        """Return the costs of the networks in a step, for a plan."""
        ...


@runtime_checkable
class Objective(Protocol[B]):
    """Compare real and synthetic samples; a block holds what the updates of one step share, and the network ``net``."""

    def prepare(
        self, problem: Problem, networks: NetworkSource, state: MatchingState, rng: Generator, /
    ) -> tuple[MatchingState, B]:
        """Draw networks, real samples and augmentation of a step."""
        ...

    def updates(self, problem: Problem, state: MatchingState, block: B, /) -> Iterable[Update]:
        """Yield the updates of a step in order; each is made before the next is taken."""
        ...

    def init_memory(self, problem: Problem, rng: Generator, /) -> Mapping[str, Tensor]:
        """Return the initial memory."""
        ...

    def finish_step(self, problem: Problem, state: MatchingState, block: B, /) -> MatchingState:
        """Return the state with the objective's memory and cached tensors."""
        ...

    def step_costs(
        self, problem: Problem, networks: NetworkSource, state: MatchingState, /
    ) -> tuple[StepCost, ...]: ...


@runtime_checkable
class LearnedTargets(Protocol):
    """Learned rows that take the place of targets that are no classes, such as a similarity of pairs."""

    def initial(self, y: Tensor, rng: Generator, /) -> Tensor:
        """Return the first rows (n, q) for the targets of the initial samples."""
        ...

    def export(self, rows: Tensor, /) -> Tensor:
        """Return the targets of the set, as its task takes them."""
        ...


class StaticNetworks:
    """Base of network sources whose networks do not train: every step is an iteration."""

    def init_state(self, problem: Problem, state: MatchingState, rng: Generator, seed: int | None) -> MatchingState:
        return state

    def advance(self, problem: Problem, state: MatchingState, net: Network, rng: Generator) -> MatchingState:
        return replace(state, iteration=state.iteration + 1)

    def step_costs(self, problem: Problem, state: MatchingState) -> tuple[StepCost, ...]:
        return ()


class JointObjective(Generic[B]):
    """Base of objectives that make one update of all classes in a step."""

    metric: ClassVar[str] = "loss"

    @abstractmethod
    def loss_and_grads(self, problem: Problem, state: MatchingState, block: B, view: ObjectiveInputs) -> LossAndGrads:
        """Return the loss and its gradients by the names of ``view``."""

    def init_memory(self, problem: Problem, rng: Generator) -> Mapping[str, Tensor]:
        return {}

    def updates(self, problem: Problem, state: MatchingState, block: B) -> Iterator[Update]:
        def gradient(classes: list[int], view: ObjectiveInputs) -> LossAndGrads:
            return self.loss_and_grads(problem, state, block, view)

        yield Update(self.metric, gradient, [list(range(problem.num_classes))])

    def finish_step(self, problem: Problem, state: MatchingState, block: B) -> MatchingState:
        return state


@runtime_checkable
class ShardablePart(Protocol):
    """Objective that is a sum over classes, or networks that do not depend on the synthetic samples."""

    def shard_obstacle(self, problem: Problem, /) -> str | None:
        """Return the reason why classes cannot be matched separately; ``None``: they can."""
        ...


def inputs_of_view(view: ObjectiveInputs) -> Inputs:
    """Return the inputs, one tensor or several by name."""
    return view["inputs"] if "inputs" in view else strip_prefix("inputs/", view)


def named_inputs(x: Inputs) -> dict[str, Tensor]:
    """Return inputs by their names in `ObjectiveInputs`."""
    return {"inputs": x} if isinstance(x, Tensor) else {f"inputs/{n}": t for n, t in x.items()}
