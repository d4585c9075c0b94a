"""Learning tasks: one file each. Sources without a task have classes.

A task is a frozen dataclass of JSON values, so that metadata can hold it, registered by name in the group ``tasks``.
"""

from potstill.tasks.classification import Classification
from potstill.tasks.forecast import Forecast
from potstill.tasks.geometry import (
    GEOMETRIC,
    InvariantTargets,
    MovableTargets,
    Movement,
    invariant_operations,
    move_boxes,
    move_maps,
)
from potstill.tasks.metric import Metric
from potstill.tasks.regression import Regression
from potstill.tasks.retrieval import Retrieval
from potstill.tasks.task import FittableTask, MultiMetricTask, Task, get_targets, get_task

__all__ = [
    "GEOMETRIC",
    "Classification",
    "FittableTask",
    "Forecast",
    "InvariantTargets",
    "Metric",
    "MovableTargets",
    "Movement",
    "MultiMetricTask",
    "Regression",
    "Retrieval",
    "Task",
    "get_targets",
    "get_task",
    "invariant_operations",
    "move_boxes",
    "move_maps",
]  # fmt: skip
