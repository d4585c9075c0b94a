"""Augmentations that keep a task's targets right, and targets that move with their images."""

from typing import Any

import torch
from torch import Tensor

from potstill.augment.siamese import Siamese
from potstill.core import Augmentation, GeometricAugmentation, TargetMovingAugmentation, Task
from potstill.tasks import GEOMETRIC, MovableTargets, PartlyMovableTargets, invariant_operations, is_ragged

__all__ = ["can_mix_targets", "fit_to_task", "move_targets"]


def fit_to_task(augment: Augmentation, task: Task, *, moves_targets: bool) -> tuple[Augmentation, tuple[str, ...]]:
    """Return the augmentation without operations that make the task's targets wrong, and the dropped operations.

    Dropped operations are of `potstill.tasks.GEOMETRIC`, or ``("*",)`` if the augmentation does not name its own.

    Args:
        moves_targets: True if the caller moves targets along (`move_targets`), if task and augmentation support it.
    """
    stay = set(invariant_operations(task))
    if stay >= set(GEOMETRIC):
        return augment, ()
    if not isinstance(augment, GeometricAugmentation):
        return Siamese(strategy=()), ("*",)
    if moves_targets and isinstance(task, MovableTargets) and isinstance(augment, TargetMovingAugmentation):
        unmovable = task.unmovable if isinstance(task, PartlyMovableTargets) else ()
        stay = set(augment.geometric).difference(unmovable)
    wrong = tuple(name for name in augment.geometric if name not in stay)
    return (augment.without(wrong) if wrong else augment), wrong


def can_mix_targets(task: Task | None) -> bool:
    """Return True if targets of two samples may be mixed (not if positions in an image matter, or their number
    differs); ``None``: classes."""
    return task is None or (not is_ragged(task) and set(invariant_operations(task)) >= set(GEOMETRIC))


def move_targets(task: Task | None, augment: Augmentation, y: Tensor, params: Any, shape: tuple[int, ...]) -> Tensor:
    """Return the targets (m, …) of images of ``shape`` (c, h, w) after the augmentation with ``params``."""
    if (
        not isinstance(task, MovableTargets)
        or not isinstance(augment, TargetMovingAugmentation)
        or not augment.geometric
    ):
        return y
    with torch.no_grad():
        return task.move_targets(y, augment.movement(params, shape))
