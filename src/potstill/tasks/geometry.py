"""Targets of images whose pixels an augmentation moves: those that stay valid, and those that move along.

A class does not depend on position; a mask does. A task lists the operations that leave its targets valid
(`InvariantTargets`), or moves its targets as the pixels were moved (`MovableTargets`, with `move_maps` and
`move_boxes`). For a task with neither, augmentations skip the operations that move pixels.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = [
    "GEOMETRIC", "InvariantTargets", "MovableTargets", "Movement", "PartlyMovableTargets", "invariant_operations",
    "move_boxes", "move_maps",
]  # fmt: skip

GEOMETRIC = ("flip", "shift", "scale", "rotate", "crop", "shuffle")
"""Operations that move pixels: flips, shifts, scaling, rotations, resized crops, shuffled patches."""


@dataclass(frozen=True, slots=True)
class Movement:
    """Movement of the pixels of images (m, c, h, w) by one draw of an augmentation."""

    maps: Callable[[Tensor], Tensor]
    """Resamples float32 maps (m, c, h, w) of those images as their pixels; zeros come from outside."""
    matrix: Float[Tensor, "n 3 3"] | None
    """Homogeneous matrix, n = m or 1, from positions in the moved image to those before, (x, y) in [-1, 1] from edge
    to edge; ``None`` where patches were shuffled."""
    size: tuple[int, int]
    """Height and width in pixels."""


@runtime_checkable
class InvariantTargets(Protocol):
    """Task whose targets stay valid under operations that move pixels."""

    @property
    def invariant_to(self) -> tuple[str, ...]:
        """Operations out of `GEOMETRIC`; ``("*",)`` for all."""
        ...


@runtime_checkable
class MovableTargets(Protocol):
    """Task whose targets move with the pixels, such as masks and boxes."""

    def move_targets(self, y: Tensor, movement: Movement, /) -> Tensor:
        """Return the targets (m, …) of the moved images, of the same shape."""
        ...


@runtime_checkable
class PartlyMovableTargets(MovableTargets, Protocol):
    """Task whose targets move with the pixels, but not under some operations."""

    @property
    def unmovable(self) -> tuple[str, ...]:
        """Operations out of `GEOMETRIC` that the targets cannot follow."""
        ...


def invariant_operations(task: Any) -> tuple[str, ...]:
    """Return the operations of `GEOMETRIC` that leave the task's targets valid."""
    said = task.invariant_to if isinstance(task, InvariantTargets) else ()
    return GEOMETRIC if "*" in said else said


def move_maps(maps: Tensor, movement: Movement, fill: float = 0) -> Tensor:
    """Move dense targets (m, h, w) or (m, c, h, w) as the pixels of their images.

    Real values, such as depths, are interpolated. For integers, such as classes, each position gets the value with the
    largest share in it.

    Args:
        fill: value from outside the image, such as the background class.
    """
    if maps.ndim == 3:
        return move_maps(maps[:, None], movement, fill)[:, 0]
    if maps.is_floating_point():
        return movement.maps(maps - fill) + fill
    values: Tensor = torch.cat([maps.flatten(), maps.new_tensor([int(fill)])]).unique()  # type: ignore[no-untyped-call]
    shares = torch.stack([movement.maps((maps == value).float()) for value in values.tolist()])
    beyond = (values == int(fill)).nonzero()[0, 0]
    shares[beyond] += 1 - shares.sum(0)
    return values[shares.argmax(0)]


def move_boxes(boxes: Float[Tensor, "m b 4"], movement: Movement) -> Float[Tensor, "m b 4"]:
    """Return the bounding boxes of moved boxes (left, top, right, bottom, in pixels), clipped to the image.

    A box that left the image has no area.

    Raises:
        ValueError: patches were shuffled.
    """
    if movement.matrix is None:
        raise ValueError("boxes cannot be moved where patches change places")
    h, w = movement.size
    forward = torch.linalg.inv(movement.matrix.double()).to(boxes.device).expand(len(boxes), 3, 3)
    left, top, right, bottom = boxes.double().unbind(-1)
    x = torch.stack([left, right, left, right], -1) * 2 / w - 1  # (m, b, 4 corners)
    y = torch.stack([top, top, bottom, bottom], -1) * 2 / h - 1
    moved = torch.stack([x, y, torch.ones_like(x)], -1) @ forward.transpose(1, 2)[:, None]
    x, y = ((moved[..., 0] + 1) * w / 2).clamp(0, w), ((moved[..., 1] + 1) * h / 2).clamp(0, h)
    return torch.stack([x.amin(-1), y.amin(-1), x.amax(-1), y.amax(-1)], -1).to(boxes.dtype)
