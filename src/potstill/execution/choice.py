"""Which executor suits a number of jobs."""

import os

import torch

from potstill.errors import unknown
from potstill.execution.executor import Executor, Serial, portable
from potstill.execution.processes import Processes

__all__ = ["asked_executor", "choose"]

NAMES = ("serial", "processes")
WORTH_STARTING = 4
"""Jobs below which starting processes (a few seconds each, to import torch) is not worth it."""


def choose(n_jobs: int, device: torch.device | str, *carried: object) -> Executor:
    """Where ``n_jobs`` long jobs run best: one process per core on the CPU, this process on a GPU or for few jobs.

    Args:
        carried: what each job carries; where that cannot be sent to another process, all stay in this one.
    """
    workers = min(_cores(), n_jobs)
    if torch.device(device).type != "cpu" or workers < 2 or n_jobs < WORTH_STARTING or not portable(carried):
        return Serial()
    return Processes(workers)


def asked_executor(executor: Executor | str | None) -> Executor | None:
    """The executor of that name, as all cores of this machine run it: ``serial`` or ``processes``. Values stay.

    Raises:
        PotstillError: there is none of that name.
    """
    if not isinstance(executor, str):
        return executor
    if executor not in NAMES:
        raise unknown("executor", executor, NAMES)
    return Serial() if executor == "serial" else Processes(_cores())


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
