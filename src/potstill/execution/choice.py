"""Which executor suits a number of jobs."""

import torch

from potstill.core.registry import create
from potstill.execution.executor import Executor, Serial, is_picklable, num_cores
from potstill.execution.processes import Processes
from potstill.execution.ranks import active_ranks

__all__ = ["choose_executor", "resolve_executor"]

WORTH_STARTING = 4
"""Jobs below which starting processes (a few seconds each, to import torch) is not worth it."""


def choose_executor(n_jobs: int, device: torch.device | str, *carried: object) -> Executor:
    """Where ``n_jobs`` long jobs run best: the ranks of torchrun, where it started this process; else one process per
    core on the CPU, this process on a GPU or for few jobs.

    Args:
        carried: what each job carries; where that cannot be sent to another process, all stay in this one.
    """
    if (ranks := active_ranks()) is not None:
        return ranks
    workers = min(num_cores(), n_jobs)
    if torch.device(device).type != "cpu" or workers < 2 or n_jobs < WORTH_STARTING or not is_picklable(carried):
        return Serial()
    return Processes(workers)


def resolve_executor(executor: Executor | str | None) -> Executor | None:
    """The executor of that name with its settings, such as ``processes``, ``processes:workers=4`` or
    ``ray:address=auto``. Values stay.

    Raises:
        PotstillError: there is none of that name, or it has no such setting.
    """
    if not isinstance(executor, str):
        return executor
    found: Executor = create("executors", executor)
    return found
