"""Executors of independent jobs: this process, processes of this machine, ranks, or a Ray cluster."""

from potstill.execution.choice import choose_executor, resolve_executor
from potstill.execution.executor import Executor, Serial, is_picklable, parallelism
from potstill.execution.processes import Processes
from potstill.execution.ranks import Ranks, run_on_ranks
from potstill.execution.ray_cluster import Ray

__all__ = [
    "Executor", "Processes", "Ranks", "Ray", "Serial", "choose_executor", "is_picklable", "parallelism",
    "resolve_executor", "run_on_ranks",
]  # fmt: skip
