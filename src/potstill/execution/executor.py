"""Contract of an executor, and the executor of this process."""

import io
import os
import pickle
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import FunctionType
from typing import Any, Protocol, TypeVar, runtime_checkable

import torch

from potstill.errors import PotstillError

__all__ = [
    "Executor", "ParallelExecutor", "Serial", "WorkerPool", "dumps", "is_picklable", "num_cores", "parallelism",
    "torch_threads",
]  # fmt: skip

J = TypeVar("J")
R = TypeVar("R")
P = TypeVar("P", bound="WorkerPool")


@runtime_checkable
class Executor(Protocol):
    """Runs one function on independent jobs."""

    def map(self, fn: Callable[[J], R], jobs: Sequence[J], /) -> Iterator[R]:
        """Yield ``fn(job)`` in the order of ``jobs``, each as soon as it and all before it are done.

        The exception of a job is raised at its turn; later jobs may or may not have run.
        """
        ...


@runtime_checkable
class ParallelExecutor(Protocol):
    """Executor that runs several jobs at a time."""

    threads: int
    """Torch threads of each job."""

    def num_workers(self) -> int:
        """Return the jobs at a time."""
        ...


class WorkerPool(ABC):
    """Abstract: workers that end with a ``with`` block."""

    @abstractmethod
    def close(self) -> None:
        """Stop the workers; a later ``map`` starts new ones."""

    def __enter__(self: P) -> P:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def parallelism(executor: Executor) -> tuple[int, int | None]:
    """Return the jobs at a time and the threads of each; ``None``: those of this process."""
    return (executor.num_workers(), executor.threads) if isinstance(executor, ParallelExecutor) else (1, None)


def num_cores() -> int:
    """Return the cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def torch_threads(threads: int) -> Iterator[None]:
    """Set the number of torch threads in the ``with`` block."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@dataclass(frozen=True)
class Serial:
    """Executor of this process: one job after another, with ``threads`` threads, so that results equal those of
    `Processes`."""

    threads: int = 1

    def map(self, fn: Callable[[J], R], jobs: Sequence[J], /) -> Iterator[R]:
        """Yield results in order, each computed when it is requested."""
        for job in jobs:
            with torch_threads(self.threads):
                result = fn(job)
            yield result


class _Pickler(pickle.Pickler):
    """Pickler that refuses objects of the main script, which workers do not run."""

    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, type) or callable(value):
            home = getattr(value, "__module__", None)
            if home == "__main__" and hasattr(value, "__qualname__"):
                raise pickle.PicklingError(f"{value.__qualname__} is defined in the main script")
            if isinstance(value, type | FunctionType) and getattr(sys.modules.get(str(home)), "__spec__", 1) is None:
                raise pickle.PicklingError(f"{home}, in which it is defined, is in no file that can be imported")
        return NotImplemented


def dumps(value: Any) -> bytes:
    """Pickle ``value`` for a worker.

    Raises:
        PotstillError: it cannot be pickled.
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
    """Return True if ``values`` can be sent to another process."""
    try:
        dumps(values)
    except PotstillError:
        return False
    return True
