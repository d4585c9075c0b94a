"""Targets of pictures whose pixels are moved by an augmentation: which stay valid, and those that move along.

A class is that of the picture however it lies; a mask is not. A task says for which operations its targets stay as they
are (`InvariantTargets`), or moves them by what was drawn for the picture (`MovableTargets`), for which `move_maps` and
`move_boxes` are there. An augmentation leaves out what moves the pixels of a task that says neither.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = [
    "GEOMETRIC",
    "InvariantTargets",
    "MovableTargets",
    "Movement",
    "invariant_operations",
    "move_boxes",
    "move_maps",
]

GEOMETRIC = ("flip", "shift", "scale", "rotate", "crop", "shuffle")
"""Operations that move pixels: mirror images, shifts, changes of size, rotations, crops that are resized, patches that
change places."""


@dataclass(frozen=True, slots=True)
class Movement:
    """How the pixels of pictures (m, c, h, w) were moved by one draw of an augmentation."""

    maps: Callable[[Tensor], Tensor]
    """Any maps (m, c, h, w) of those pictures, float32, resampled as their pixels were; zeros come from beyond them."""
    matrix: Float[Tensor, "n 3 3"] | None
    """Homogeneous, n = m or 1: from places in the moved picture to those in the picture as it was, (x, y) in [-1, 1]
    from edge to edge. ``None`` where there is no such matrix: patches changed places."""
    size: tuple[int, int]
    """Height and width, in pixels."""


@runtime_checkable
class InvariantTargets(Protocol):
    """A task whose targets stay right under operations that move pixels."""

    @property
    def invariant_to(self) -> tuple[str, ...]:
        """These, of `GEOMETRIC`; ``("*",)`` for any."""
        ...


@runtime_checkable
class MovableTargets(Protocol):
    """A task whose targets move with the pixels of their pictures, such as masks and boxes."""

    def move_targets(self, y: Tensor, movement: Movement, /) -> Tensor:
        """The targets (m, …) of pictures that were moved so, of the same shape."""
        ...


def invariant_operations(task: Any) -> tuple[str, ...]:
    """The operations of `GEOMETRIC` under which a task says that its targets stay as they are."""
    said = task.invariant_to if isinstance(task, InvariantTargets) else ()
    return GEOMETRIC if "*" in said else said


def move_maps(maps: Tensor, movement: Movement, fill: float = 0) -> Tensor:
    """Dense targets (m, h, w) or (m, c, h, w) as their pictures were moved.

    Real values, such as depths, are interpolated as pixels are. Of whole numbers, such as classes, each place takes the
    one that most of it comes from.

    Args:
        fill: what comes from beyond the picture, such as the background's class.
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
    """Boxes (left, top, right, bottom, in pixels) around where their corners were moved to, cut off at the picture's
    edges: one that left the picture has no area.

    Raises:
        ValueError: patches changed places, so that a box is none any more.
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
