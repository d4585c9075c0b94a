"""Objects cut from pictures by their boxes and pasted into others, with few overlaps."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Generator, Tensor

__all__ = ["Canvas", "CutObject", "cut_object", "place_object"]


@dataclass(frozen=True, slots=True)
class CutObject:
    """An object with the pixels around it."""

    pixels: Float[Tensor, "c h w"]
    row: Float[Tensor, "5"]
    """Its box within the pixels, and its class."""


@dataclass(frozen=True, slots=True)
class Canvas:
    """A ground with objects in the order in which they are pasted."""

    ground: Float[Tensor, "c h w"]
    fixed: Float[Tensor, "m 5"]
    """Boxes of objects that the ground shows."""
    objects: tuple[CutObject, ...] = ()
    corners: tuple[tuple[int, int], ...] = ()
    """Left and top of each object's pixels."""

    @property
    def rows(self) -> Float[Tensor, "total 5"]:
        """Boxes and classes: those of the ground, then the objects'."""
        moved = [
            o.row + o.row.new_tensor([x, y, x, y, 0]) for o, (x, y) in zip(self.objects, self.corners, strict=True)
        ]
        return torch.cat([self.fixed, *(row[None] for row in moved)])

    def painted(self) -> Float[Tensor, "c h w"]:
        """Return the picture."""
        x = self.ground.clone()
        for o, (left, top) in zip(self.objects, self.corners, strict=True):
            _, h, w = o.pixels.shape
            x[:, top : top + h, left : left + w] = o.pixels
        return x

    def with_object(self, o: CutObject, corner: tuple[int, int]) -> "Canvas":
        """Return the canvas with a further object over the others."""
        return Canvas(self.ground, self.fixed, (*self.objects, o), (*self.corners, corner))

    def keep(self, stays: Tensor) -> "Canvas":
        """Return the canvas with the objects for which ``stays`` (objects,) is true."""
        at = stays.nonzero().flatten().tolist()
        return Canvas(
            self.ground, self.fixed, tuple(self.objects[i] for i in at), tuple(self.corners[i] for i in at)
        )  # fmt: skip


def cut_object(x: Float[Tensor, "c h w"], row: Float[Tensor, "5"], context: float) -> CutObject:
    """Return the object of a box, with the pixels around it.

    Args:
        x: the picture.
        row: left, top, right, bottom and class.
        context: margin as a share of the picture's shorter side; a box loses the share of its own area, so that small
            objects get more of what is around them.
    """
    _, h, w = x.shape
    left, top, right, bottom = row[:4].tolist()
    margin = round(context * min(h, w) * (1 - (right - left) * (bottom - top) / (h * w)))
    x0, y0 = max(int(left) - margin, 0), max(int(top) - margin, 0)
    x1, y1 = min(-int(-right // 1) + margin, w), min(-int(-bottom // 1) + margin, h)
    return CutObject(x[:, y0:y1, x0:x1].clone(), row - row.new_tensor([x0, y0, x0, y0, 0]))


def place_object(canvas: Canvas, o: CutObject, overlap: float, rng: Generator) -> Canvas:
    """Return the canvas with the object at a random place, or as it was where it would cover too much there.

    Args:
        overlap: most that the box and any other may share, as a part of the smaller one.
        rng: draws the place.
    """
    _, h, w = canvas.ground.shape
    _, tall, wide = o.pixels.shape
    left, top = (int(torch.randint(side + 1, (), generator=rng)) for side in (w - wide, h - tall))
    moved, rows = o.row[:4] + o.row.new_tensor([left, top, left, top]), canvas.rows
    if len(rows):
        low, high = torch.maximum(rows[:, :2], moved[:2]), torch.minimum(rows[:, 2:4], moved[2:])
        shared = (high - low).clamp_min(0).prod(1)
        smaller = torch.minimum((rows[:, 2:4] - rows[:, :2]).prod(1), (moved[2:] - moved[:2]).prod())
        if bool((shared > overlap * smaller).any()):
            return canvas
    return canvas.with_object(o, (left, top))
