"""What is to be learned from data: one file for each task. A source says its own; one that says none has classes.

A task is a frozen dataclass of JSON values, so that a card can hold it, registered by its name in the group ``tasks``.
"""

from potstill.metric import Metric
from potstill.tasks.classification import Classification
from potstill.tasks.forecast import Forecast
from potstill.tasks.regression import Regression
from potstill.tasks.retrieval import Retrieval
from potstill.tasks.task import Fits, Task, targets_of, task_of

__all__ = ["Classification", "Fits", "Forecast", "Metric", "Regression", "Retrieval", "Task", "targets_of", "task_of"]
