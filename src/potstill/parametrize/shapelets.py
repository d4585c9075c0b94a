"""Series as a coarse curve and a few short shapes where it needs them; for series with classes. Ours.

Shapelets are short pieces that tell a class (Ye and Keogh, KDD 2009). Sets of series are learned through them in
ShapeCond (2026), whose program could not be read here. An input is a curve through few knots, to which shapes are
added, each at a place of its own::

    x = B b + Σ_k  P(place_k) s_k

B draws straight lines between evenly spaced knots, P puts a shape of ``length`` points at a place. Places are those
where a real series differs most from its curve, one after another; they are stored and stay, shapes and knots are
learned.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor

from potstill.core import DecodeContext, Payload, Problem
from potstill.errors import PotstillError

__all__ = ["Shapelets"]

_BYTES = 4
"""Bytes of one float32 value."""


@dataclass(frozen=True, kw_only=True)
class Shapelets:
    """A curve through few knots, and short shapes added to it at stored places.

    The payload: ``knots`` (n, c, knots), ``shapes`` (n, count, c, length) and ``places`` (n, count), ascending (int16,
    or int32 of series of more than 32,768 points), grouped by class.

    Decoding: of series (c, t) straight lines between the knots, the first at the first point and the last at the last
    one; to points ``places[i, k]`` … ``places[i, k] + length − 1`` of all channels ``shapes[i, k]`` is added.

    Raises:
        PotstillError: a setting is out of its range.
    """

    kinds: ClassVar[tuple[str, ...]] = ("signal",)
    count: int = 2
    """Shapes of a series."""
    length: int = 0
    """Points of a shape; 0: a tenth of the series', at least 3."""
    knots: int = 0
    """Knots of the curve, at least 2; 0: a tenth of the series' points, at least 2."""

    def __post_init__(self) -> None:
        if self.count < 1 or min(self.length, self.knots) < 0 or self.knots == 1:
            raise PotstillError(
                "shapelets: count must be at least 1, length at least 0 and knots 0 or at least 2, not "
                f"{self.count}, {self.length} and {self.knots}"
            )

    @property
    def bounded(self) -> bool:
        """False: series have no range."""
        return False

    def _form(self, shape: tuple[int, ...]) -> tuple[int, int, int, int]:
        """Return the channels, the points, and those of a shape and of the curve."""
        if len(shape) != 2:
            raise PotstillError(f"shapelets: inputs must be series (channels, points), not {shape}; take pixels")
        c, t = shape
        length, knots = self.length or min(t, max(3, t // 10)), self.knots or min(t, max(2, t // 10))
        if max(length, knots) > t:
            raise PotstillError(
                f"shapelets: shapes of {length} points and {knots} knots do not fit into series of {t} points; make "
                "length and knots smaller"
            )
        return c, t, length, knots

    def sizes(self, numbers: tuple[int, ...], shape: tuple[int, ...], /) -> tuple[int, ...]:
        """Return the inputs of each class that its bytes allow, places included.

        Raises:
            PotstillError: a class gets no input, or inputs are no series.
        """
        c, t, length, knots = self._form(shape)
        one = _BYTES * c * (knots + self.count * length) + self.count * _place_dtype(t).itemsize
        if _BYTES * min(numbers) < one:
            raise PotstillError(
                f"shapelets: one series takes {one:,} bytes, but the budget leaves {_BYTES * min(numbers):,} of a "
                "class; raise it, or lower count, length or knots"
            )
        return tuple(_BYTES * n // one for n in numbers)

    def encode(self, x: Float[Tensor, "n c t"], problem: Problem, rng: Generator, /) -> Payload:
        """Return the nearest curve of each series, and shapes of what is left; draws nothing."""
        _, t, length, knots = self._form(problem.train.input.shape)
        lines = _lines(knots, t, x.device)
        base = x.double() @ torch.linalg.pinv(lines.double())
        left = x.double() - base @ lines.double()
        places = []
        for _ in range(self.count):
            energy = left.square().sum(1).unfold(1, length, 1).sum(2)
            place = energy.argmax(1)
            places.append(place)
            left.scatter_(2, _points(place[:, None], length, x.shape[1])[:, 0], 0.0)
        at = torch.stack(places, 1).sort(1).values
        rest, shapes = x.double() - base @ lines.double(), []
        for k in range(self.count):  # what two shapes share goes to the first
            points = _points(at[:, k : k + 1], length, x.shape[1])[:, 0]
            shapes.append(rest.gather(2, points))
            rest.scatter_(2, points, 0.0)
        return {
            "knots": base.to(x.dtype), "shapes": torch.stack(shapes, 1).to(x.dtype), "places": at.to(_place_dtype(t))
        }  # fmt: skip

    def decode(self, payload: Payload, context: DecodeContext, /) -> Float[Tensor, "n c t"]:
        """Return the curves with their shapes (n, c, t)."""
        c, t, length, knots = self._form(context.shape)
        base, shapes = payload["knots"], payload["shapes"]
        x: Tensor = base @ _lines(knots, t, base.device).to(base.dtype)
        points = _points(payload["places"].long().clamp(0, t - length), length, c)
        for k in range(shapes.shape[1]):
            x = x.scatter_add(2, points[:, k], shapes[:, k])
        return x

    def class_rows(self, payload: Payload, sizes: tuple[int, ...], classes: range, /) -> dict[str, slice]:
        """Return the rows of consecutive classes."""
        rows = slice(sum(sizes[: classes.start]), sum(sizes[: classes.stop]))
        return dict.fromkeys(payload, rows)


def _place_dtype(points: int) -> torch.dtype:
    """Return the smallest integer type that holds every place."""
    return torch.int16 if points <= 2**15 else torch.int32


def _lines(knots: int, points: int, device: torch.device) -> Float[Tensor, "knots points"]:
    """Return the matrix of straight lines between evenly spaced knots."""
    at = torch.linspace(0, knots - 1, points, device=device)
    return (1 - (at - torch.arange(knots, device=device)[:, None]).abs()).clamp(min=0)


def _points(places: Int[Tensor, "n k"], length: int, channels: int) -> Int[Tensor, "n k c length"]:
    """Return the points of shapes at places, the same of each channel."""
    points = places[:, :, None] + torch.arange(length, device=places.device)
    return points[:, :, None].expand(-1, -1, channels, -1)
