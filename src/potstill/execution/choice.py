"""Which executor suits a number of jobs."""

import os

import torch

from potstill.execution.executor import Executor, Serial, portable
from potstill.execution.processes import Processes

__all__ = ["choose"]

WORTH_STARTING = 4
"""Jobs below which starting processes (a few seconds each, to import torch) is not worth it."""


def choose(n_jobs: int, device: torch.device | str, *carried: object) -> Executor:
    """Where ``n_jobs`` long jobs run best: one process per core on the CPU, this process on a GPU or for few jobs.

    Args:
        carried: what each job carries; where that cannot be sent to another process, all stay in this one.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    workers = min(cores, n_jobs)
    if torch.device(device).type != "cpu" or workers < 2 or n_jobs < WORTH_STARTING or not portable(carried):
        return Serial()
    return Processes(workers)
