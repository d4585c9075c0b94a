"""What an executor is, and the one that stays in this process."""

import io
import os
import pickle
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import FunctionType
from typing import Any, Protocol, TypeVar, runtime_checkable

import torch

from potstill.errors import PotstillError

__all__ = [
    "Executor",
    "ParallelExecutor",
    "Serial",
    "dumps",
    "is_picklable",
    "num_cores",
    "parallelism",
    "torch_threads",
]

J = TypeVar("J")
R = TypeVar("R")


@runtime_checkable
class Executor(Protocol):
    """Runs one function over independent jobs."""

    def map(self, fn: Callable[[J], R], jobs: Sequence[J], /) -> Iterator[R]:
        """``fn(job)`` of every job, in the order of ``jobs``, each as soon as it and all before it are done.

        The first exception of a job is raised when its turn comes; jobs after it may or may not have run.
        """
        ...


@runtime_checkable
class ParallelExecutor(Protocol):
    """An executor that runs jobs side by side, and can say how many."""

    threads: int
    """Of torch, that each has."""

    def num_workers(self) -> int:
        """Jobs at a time."""
        ...


def parallelism(executor: Executor) -> tuple[int, int | None]:
    """Jobs that it runs at a time, for a forecast, and the threads of each; ``None``: those of this process."""
    return (executor.num_workers(), executor.threads) if isinstance(executor, ParallelExecutor) else (1, None)


def num_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def torch_threads(threads: int) -> Iterator[None]:
    """Torch computes with so many threads inside; afterwards with as many as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@dataclass(frozen=True)
class Serial:
    """One job after another in this process, with ``threads`` threads, so that results equal those of `Processes`."""

    threads: int = 1

    def map(self, fn: Callable[[J], R], jobs: Sequence[J], /) -> Iterator[R]:
        """Results in order, each computed when it is asked for."""
        for job in jobs:
            with torch_threads(self.threads):
                result = fn(job)
            yield result


class _Pickler(pickle.Pickler):
    """Refuses what only the main script knows: workers do not run it again."""

    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, type) or callable(value):
            home = getattr(value, "__module__", None)
            if home == "__main__" and hasattr(value, "__qualname__"):
                raise pickle.PicklingError(f"{value.__qualname__} is defined in the main script")
            if isinstance(value, type | FunctionType) and getattr(sys.modules.get(str(home)), "__spec__", 1) is None:
                raise pickle.PicklingError(f"{home}, in which it is defined, is in no file that can be imported")
        return NotImplemented


def dumps(value: Any) -> bytes:
    """``value`` as bytes for a worker.

    Raises:
        PotstillError: it cannot be sent, and why.
    """
    buffer = io.BytesIO()
    try:
        _Pickler(buffer, protocol=pickle.HIGHEST_PROTOCOL).dump(value)
    except (pickle.PicklingError, TypeError, AttributeError, RuntimeError) as error:
        raise PotstillError(
            f"a job for another process must be picklable, but {error}; "
            "define it at the top of an importable module, or use Serial()"
        ) from error
    return buffer.getvalue()


def is_picklable(*values: Any) -> bool:
    """Whether ``values`` can be sent to another process."""
    try:
        dumps(values)
    except PotstillError:
        return False
    return True
