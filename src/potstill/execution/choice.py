"""Choice of the executor for a number of jobs."""

import torch

from potstill.core.registry import create
from potstill.execution.executor import Executor, Serial, is_picklable, num_cores
from potstill.execution.processes import Processes
from potstill.execution.ranks import active_ranks

__all__ = ["choose_executor", "resolve_executor"]

WORTH_STARTING = 4
"""Fewest jobs for which processes are started, which takes a few seconds each."""


def choose_executor(n_jobs: int, device: torch.device | str, *carried: object) -> Executor:
    """Return the executor for ``n_jobs`` long jobs.

    The ranks of torchrun, where it started this process; else a process per core on the CPU; else, on a GPU or for few
    jobs, this process.

    Args:
        carried: values that each job carries; where they cannot be pickled, jobs stay in this process.
    """
    if (ranks := active_ranks()) is not None:
        return ranks
    workers = min(num_cores(), n_jobs)
    if torch.device(device).type != "cpu" or workers < 2 or n_jobs < WORTH_STARTING or not is_picklable(carried):
        return Serial()
    return Processes(workers)


def resolve_executor(executor: Executor | str | None) -> Executor | None:
    """Return the executor of a name with settings, such as ``processes:workers=4`` or ``ray:address=auto``.

    Raises:
        PotstillError: no such executor or setting.
    """
    if not isinstance(executor, str):
        return executor
    created: Executor = create("executors", executor)
    return created
