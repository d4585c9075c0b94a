"""Where independent jobs go: this process, or this machine's processes. It knows nothing of methods."""

from potstill.execution.choice import asked_executor, choose
from potstill.execution.executor import Executor, Serial, portable
from potstill.execution.processes import Processes

__all__ = ["Executor", "Processes", "Serial", "asked_executor", "choose", "portable"]
