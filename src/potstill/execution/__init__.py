"""Where independent jobs go: this process, this machine's processes, or a Ray cluster. It knows nothing of methods."""

from potstill.execution.choice import asked_executor, choose
from potstill.execution.cluster import Ray
from potstill.execution.executor import Executor, Serial, portable, side_by_side
from potstill.execution.processes import Processes
from potstill.execution.ranks import Ranks, ranked

__all__ = [
    "Executor",
    "Processes",
    "Ranks",
    "Ray",
    "Serial",
    "asked_executor",
    "choose",
    "portable",
    "ranked",
    "side_by_side",
]
