"""Base class of methods that an engine runs: a frozen dataclass of a paper's values."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Protocol, TypeVar, runtime_checkable

from torch import Generator

from potstill.core import Asset, ClassShardable, Method, Metrics, Problem, Release, Result, Source, StepCost
from potstill.errors import PotstillError
from potstill.methods.engine.fit import fit
from potstill.methods.engine.regularized import regularize

__all__ = ["Engine", "EngineMethod"]

S = TypeVar("S")


@runtime_checkable
class Engine(Protocol[S]):
    """Final class, composed of parts, that does the work of many methods; its members are those of `Method`."""

    def assets(self, problem: Problem, /) -> tuple[Asset, ...]: ...
    def init(self, problem: Problem, rng: Generator, /) -> S: ...
    def step(self, problem: Problem, state: S, rng: Generator, /) -> tuple[S, Metrics]: ...
    def done(self, problem: Problem, state: S, /) -> bool: ...
    def result(self, problem: Problem, state: S, /) -> Result: ...
    def num_steps(self, problem: Problem, /) -> int | None: ...
    def step_costs(self, problem: Problem, state: S, /) -> tuple[StepCost, ...] | None: ...


class EngineMethod(Method[S]):
    """Abstract: a method that implements `build_engine` alone."""

    @abstractmethod
    def build_engine(self, problem: Problem) -> Engine[S]:
        """Return the engine with this method's parts; also called before the assets are built."""

    def fit(self, source: Source, *, ipc: int = 1, seed: int = 0, release: Release | None = None) -> Result:
        """Run the method on training data without files, checkpoints and codecs; see `potstill.methods.engine.fit`."""
        return fit(self, source, ipc=ipc, seed=seed, release=release)

    def engine(self, problem: Problem) -> Engine[S]:
        """Return the engine with the problem's regularizer in its objective, if it has one."""
        engine: Engine[S] = regularize(self.build_engine(problem), problem)
        return engine

    def assets(self, problem: Problem) -> tuple[Asset, ...]:
        return self.engine(problem).assets(problem)

    def init(self, problem: Problem, rng: Generator) -> S:
        return self.engine(problem).init(problem, rng)

    def step(self, problem: Problem, state: S, rng: Generator) -> tuple[S, Metrics]:
        return self.engine(problem).step(problem, state, rng)

    def done(self, problem: Problem, state: S) -> bool:
        return self.engine(problem).done(problem, state)

    def result(self, problem: Problem, state: S) -> Result:
        return self.engine(problem).result(problem, state)

    def num_steps(self, problem: Problem) -> int | None:
        return self.engine(problem).num_steps(problem)

    def step_costs(self, problem: Problem, state: S) -> tuple[StepCost, ...] | None:
        return self.engine(problem).step_costs(problem, state)

    def shard_obstacle(self, problem: Problem) -> str | None:
        engine = self.engine(problem)
        if not isinstance(engine, ClassShardable):
            return "it works on all classes at once"
        return engine.shard_obstacle(problem)

    def join_shards(self, problem: Problem, parts: Sequence[tuple[range, S]]) -> S:
        """Join the states of class shards.

        Raises:
            PotstillError: the engine cannot match classes separately.
        """
        engine = self.engine(problem)
        if not isinstance(engine, ClassShardable):
            raise PotstillError(f"{type(self).__name__} works on all classes at once; call shard_obstacle first")
        joined: S = engine.join_shards(problem, parts)
        return joined
