"""Augmentations without what would make a task's targets wrong, and targets that move with their pictures."""

from typing import Any

import torch
from torch import Tensor

from potstill.augment.siamese import Siamese
from potstill.core import Augmentation, GeometricAugmentation, TargetMovingAugmentation, Task
from potstill.tasks import GEOMETRIC, MovableTargets, invariant_operations

__all__ = ["can_mix_targets", "fit_to_task", "move_targets"]


def fit_to_task(augment: Augmentation, task: Task, *, moves_targets: bool) -> tuple[Augmentation, tuple[str, ...]]:
    """The augmentation without the operations that move pixels under which the task's targets would be wrong, and which
    these are: of `potstill.tasks.GEOMETRIC`, or ``("*",)`` for one that does not say what its operations are.

    Args:
        moves_targets: who applies it moves targets along (`moved_targets`), where task and augmentation know how.
    """
    stay = set(invariant_operations(task))
    if stay >= set(GEOMETRIC):
        return augment, ()
    if not isinstance(augment, GeometricAugmentation):
        return Siamese(strategy=()), ("*",)
    if moves_targets and isinstance(task, MovableTargets) and isinstance(augment, TargetMovingAugmentation):
        return augment, ()
    wrong = tuple(name for name in augment.geometric if name not in stay)
    return (augment.without(wrong) if wrong else augment), wrong


def can_mix_targets(task: Task | None) -> bool:
    """Whether targets of two samples may be mixed in the shares of their pictures; ``None`` is a task of classes. Where
    places in a picture count, or may, they may not."""
    return task is None or set(invariant_operations(task)) >= set(GEOMETRIC)


def move_targets(task: Task | None, augment: Augmentation, y: Tensor, params: Any, shape: tuple[int, ...]) -> Tensor:
    """Targets (m, …) of pictures of ``shape`` (c, h, w) to which the augmentation was applied with ``params``."""
    if (
        not isinstance(task, MovableTargets)
        or not isinstance(augment, TargetMovingAugmentation)
        or not augment.geometric
    ):
        return y
    with torch.no_grad():
        return task.move_targets(y, augment.movement(params, shape))
