"""A method that is worked by an engine: the dataclass of a paper's values, which builds the parts of one."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Protocol, TypeVar, runtime_checkable

from torch import Generator

from potstill.core import Asset, ClassShardable, Method, Metrics, Problem, Result, StepCost
from potstill.errors import PotstillError

__all__ = ["Engine", "EngineMethod"]

S = TypeVar("S")


@runtime_checkable
class Engine(Protocol[S]):
    """What does the work of many methods: final, and composed of values. Its verbs are those of `Method`."""

    def assets(self, problem: Problem, /) -> tuple[Asset, ...]: ...
    def init(self, problem: Problem, rng: Generator, /) -> S: ...
    def step(self, problem: Problem, state: S, rng: Generator, /) -> tuple[S, Metrics]: ...
    def done(self, problem: Problem, state: S, /) -> bool: ...
    def result(self, problem: Problem, state: S, /) -> Result: ...
    def num_steps(self, problem: Problem, /) -> int | None: ...
    def step_costs(self, problem: Problem, state: S, /) -> tuple[StepCost, ...] | None: ...


class EngineMethod(Method[S]):
    """Abstract: the verbs, written once. A method says its engine, and nothing else of what is done."""

    @abstractmethod
    def build_engine(self, problem: Problem) -> Engine[S]:
        """The engine with this method's parts, for these data. It may be asked for before there are assets."""

    def assets(self, problem: Problem) -> tuple[Asset, ...]:
        return self.build_engine(problem).assets(problem)

    def init(self, problem: Problem, rng: Generator) -> S:
        return self.build_engine(problem).init(problem, rng)

    def step(self, problem: Problem, state: S, rng: Generator) -> tuple[S, Metrics]:
        return self.build_engine(problem).step(problem, state, rng)

    def done(self, problem: Problem, state: S) -> bool:
        return self.build_engine(problem).done(problem, state)

    def result(self, problem: Problem, state: S) -> Result:
        return self.build_engine(problem).result(problem, state)

    def num_steps(self, problem: Problem) -> int | None:
        return self.build_engine(problem).num_steps(problem)

    def step_costs(self, problem: Problem, state: S) -> tuple[StepCost, ...] | None:
        return self.build_engine(problem).step_costs(problem, state)

    def shard_obstacle(self, problem: Problem) -> str | None:
        engine = self.build_engine(problem)
        return (
            engine.shard_obstacle(problem) if isinstance(engine, ClassShardable) else "it works on all classes at once"
        )

    def join_shards(self, problem: Problem, parts: Sequence[tuple[range, S]]) -> S:
        """
        Raises:
            PotstillError: its engine cannot match classes by themselves.
        """
        engine = self.build_engine(problem)
        if not isinstance(engine, ClassShardable):
            raise PotstillError(f"{type(self).__name__} works on all classes at once; ask ``shard_obstacle`` before")
        joined: S = engine.join_shards(problem, parts)
        return joined
