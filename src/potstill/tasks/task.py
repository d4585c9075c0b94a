"""Contract of a task, and the task of a source."""

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from potstill.tasks.classification import Classification
from potstill.tasks.metric import Metric

__all__ = [
    "CheckedTargets", "CoarseMapTask", "FittableTask", "MultiMetricTask", "PackedTargets", "PixelTask", "Task",
    "get_targets", "get_task", "is_coarse",
]  # fmt: skip


@runtime_checkable
class Task(Protocol):
    """Learning task: form of the targets, training loss and metric.

    For images a task also says how targets change when pixels move (`potstill.tasks.InvariantTargets`,
    `potstill.tasks.MovableTargets`); otherwise augmentations do not move them.
    """

    @property
    def name(self) -> str:
        """Registered name."""
        ...

    @property
    def metric(self) -> Metric: ...
    @property
    def unit(self) -> str:
        """Unit of a budget in one word: ``class``, ``item``, ``pair``, ``window``."""
        ...

    @property
    def outputs(self) -> int:
        """Width of a network's output."""
        ...

    def loss(self, output: Tensor, y: Tensor, /) -> Float[Tensor, ""]:
        """Return the mean loss of outputs (n, …) on targets (n, …), differentiable in both."""
        ...

    def predict(self, output: Tensor, /) -> Tensor:
        """Return the predictions to score from outputs (n, …), such as the most likely class (n,)."""
        ...

    def score(self, answers: Tensor, y: Tensor, groups: Tensor | None = None, /) -> float:
        """Return the metric of predictions (n, …) for a whole test split with targets ``y`` (n, …), both on the CPU.

        Args:
            groups: group number of each sample (n,), for metrics that depend on groups; ``None``: no groups.
        """
        ...

    def chance_score(self, y: Tensor, /) -> float:
        """Return the score without knowledge of a test split, which a student with non-finite weights gets."""
        ...


@runtime_checkable
class MultiMetricTask(Protocol):
    """A task with further metrics beside the main one, by which sets are compared."""

    @property
    def further_metrics(self) -> Mapping[str, Metric]:
        """Further metrics by name."""
        ...

    def further_scores(self, answers: Tensor, y: Tensor, groups: Tensor | None, /) -> Mapping[str, float]:
        """Return the further metrics that can be computed, by name. Arguments as for `Task.score`."""
        ...


@runtime_checkable
class FittableTask(Protocol):
    """Task with statistics of the training data, such as mean and deviation of its targets."""

    def fit(self, targets: Tensor, /) -> Task:
        """Return the task with the statistics of the training targets (n, …)."""
        ...


@runtime_checkable
class PixelTask(Protocol):
    """Task with a target for each pixel: networks output (n, outputs, h, w) for pictures (n, c, h, w)."""

    @property
    def network(self) -> str:
        """Network where none is named."""
        ...


@runtime_checkable
class CoarseMapTask(PixelTask, Protocol):
    """Task of pixels whose networks may also output a coarser map (n, outputs, r, s)."""

    @property
    def coarse(self) -> bool:
        """True where maps may be coarser than pictures."""
        ...


@runtime_checkable
class CheckedTargets(Protocol):
    """Task that knows which targets are none of its own, such as boxes outside their pictures."""

    def check_targets(self, y: Tensor, /) -> None:
        """
        Raises:
            ValueError: ``y`` (n, …) holds targets that are none.
        """
        ...


@runtime_checkable
class PackedTargets(Protocol):
    """Task whose targets a file has in another form, of fewer bits."""

    def pack_targets(self, y: Tensor, /) -> Tensor:
        """Return int64 targets (n, …) as the file has them."""
        ...

    def unpack_targets(self, stored: Tensor, /) -> Tensor:
        """Return what `pack_targets` was given.

        Raises:
            ValueError: ``stored`` is no such result.
        """
        ...


def get_task(source: Any) -> Task:
    """Return the source's task; classification where it has none."""
    task = getattr(source, "task", None)
    return Classification(k=len(source.classes)) if task is None else task


def is_coarse(task: Any) -> bool:
    """Return True where networks of a task may output maps that are coarser than the pictures."""
    return isinstance(task, CoarseMapTask) and task.coarse


def get_targets(source: Any) -> Tensor:
    """Return the targets of all samples (n, …), on the CPU; the labels where a source has no targets."""
    targets: Tensor | None = getattr(source, "targets", None)
    labels: Tensor = source.labels
    return labels if targets is None else targets
