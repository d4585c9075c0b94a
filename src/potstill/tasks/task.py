"""What a task is, and which one a source has."""

from typing import Any, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from potstill.tasks.classification import Classification
from potstill.tasks.metric import Metric

__all__ = ["FittableTask", "Task", "get_targets", "get_task"]


@runtime_checkable
class Task(Protocol):
    """What is to be learned: what the targets are, which loss trains on them, and which metric scores them.

    Where inputs are pictures it says what becomes of its targets when pixels move (`potstill.tasks.InvariantTargets`,
    `potstill.tasks.MovableTargets`). One that does not gets no augmentation that moves them.
    """

    @property
    def name(self) -> str:
        """Its name in the registry."""
        ...

    @property
    def metric(self) -> Metric: ...
    @property
    def unit(self) -> str:
        """What a budget is per, in one word: ``class``, ``item``, ``pair``, ``window``."""
        ...

    @property
    def outputs(self) -> int:
        """Width of a network's head."""
        ...

    def loss(self, output: Tensor, y: Tensor, /) -> Float[Tensor, ""]:
        """The mean loss of a network's outputs (n, …) on targets (n, …), differentiable by both."""
        ...

    def predict(self, output: Tensor, /) -> Tensor:
        """What is kept of a network's outputs (n, …) to score them, e.g. the likeliest class (n,)."""
        ...

    def score(self, answers: Tensor, y: Tensor, /) -> float:
        """The metric of the answers (n, …) to a whole test split with targets ``y`` (n, …), both on the CPU."""
        ...

    def chance_score(self, y: Tensor, /) -> float:
        """The score of who knows nothing of a test split: what a student counts as whose weights are not finite."""
        ...


@runtime_checkable
class FittableTask(Protocol):
    """A task that has numbers of the training part in it, such as the mean and the deviation of its targets."""

    def fit(self, targets: Tensor, /) -> Task:
        """The task with the numbers of these targets (n, …), the training part's."""
        ...


def get_task(source: Any) -> Task:
    """The source's task; classification of its classes where it says none."""
    found = getattr(source, "task", None)
    return Classification(k=len(source.classes)) if found is None else found


def get_targets(source: Any) -> Tensor:
    """The targets of all samples of a source (n, …), on the CPU; its labels where it has no others."""
    found: Tensor | None = getattr(source, "targets", None)
    labels: Tensor = source.labels
    return labels if found is None else found
