"""Small: inputs are stored at a part of their size and enlarged when they are decoded.

The plainest way to store more inputs in the same numbers: one of 1 / f of the height and of the width takes 1 / f² of
them, and decodes by bilinear interpolation (``align_corners=False``) as single cells of ``tiles`` do. So f² as many
inputs fit, each of which is stored on its own: unlike with ``tiles``, any number of them, not only multiples of f².

The start is means of areas of the initial inputs.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Generator, Tensor

from potstill.core import Payload, Problem
from potstill.errors import PotstillError
from potstill.functional.transforms import resize, shrink
from potstill.parametrize._shared import image_shape

__all__ = ["LowResolution"]


@dataclass(frozen=True, kw_only=True)
class LowResolution:
    """Inputs at a part of their size.

    The payload: ``inputs`` (n, c, ⌈h/f⌉, ⌈w/f⌉), grouped by class.

    Raises:
        PotstillError: a setting is out of its range.
    """

    kinds: ClassVar[tuple[str, ...]] = ("image",)
    factor: int = 2
    """f, at least 1: how much smaller each side is."""

    def __post_init__(self) -> None:
        if self.factor < 1:
            raise PotstillError(f"small: factor must be at least 1, not {self.factor}")

    @property
    def bounded(self) -> bool:
        """True: stored values are values of inputs, and interpolation does not leave their range."""
        return True

    def sizes(self, numbers: tuple[int, ...], shape: tuple[int, ...], /) -> tuple[int, ...]:
        """As many small inputs as the numbers of each class make up.

        Raises:
            PotstillError: fewer than one, or no pictures.
        """
        one = math.prod(self._small(shape))
        if min(numbers) < one:
            raise PotstillError(
                f"small: one input has {one:,} numbers, but the budget leaves {min(numbers):,} to a class; raise it or "
                "factor"
            )
        return tuple(n // one for n in numbers)

    def _small(self, shape: tuple[int, ...]) -> tuple[int, int, int]:
        c, h, w = image_shape("small", shape)
        return c, math.ceil(h / self.factor), math.ceil(w / self.factor)

    def encode(self, x: Tensor, problem: Problem, rng: Generator, /) -> Payload:
        """Means of areas; draws nothing."""
        return {"inputs": shrink(x, self._small(problem.train.input.shape)[1:])}

    def decode(self, payload: Payload, shape: tuple[int, ...], /) -> Tensor:
        """The enlarged inputs (n, c, h, w), in the order they are stored."""
        return resize(payload["inputs"], (shape[-2], shape[-1]))

    def class_rows(self, payload: Payload, sizes: tuple[int, ...], classes: range, /) -> Mapping[str, slice]:
        """One row for each input."""
        return {"inputs": slice(sum(sizes[: classes.start]), sum(sizes[: classes.stop]))}
