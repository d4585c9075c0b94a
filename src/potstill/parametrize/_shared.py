"""What the parametrizations of pictures share: the shape they need and the numbers a problem grants."""

import math
from typing import Protocol, runtime_checkable

from potstill.core import Problem
from potstill.errors import PotstillError

__all__ = ["ReducedResolution", "image_shape", "stored_numbers"]


@runtime_checkable
class ReducedResolution(Protocol):
    """A parametrization that stores pictures in fewer pixels than they have."""

    @property
    def min_side(self) -> int:
        """Pixels along the shorter side of what is stored from which on a method takes it by itself."""

    def stored_size(self, shape: tuple[int, ...], /) -> tuple[int, int]:
        """Height and width, in pixels, of what is stored of pictures (c, h, w).

        Raises:
            PotstillError: the inputs are no pictures.
        """


def image_shape(name: str, shape: tuple[int, ...]) -> tuple[int, int, int]:
    """The shape (c, h, w) of a picture.

    Raises:
        PotstillError: the inputs are no pictures.
    """
    if len(shape) != 3:
        raise PotstillError(
            f"parametrization {name} needs pictures (channels, height, width), but inputs have shape {list(shape)}; "
            "take pixels"
        )
    return shape[0], shape[1], shape[2]


def stored_numbers(problem: Problem) -> tuple[int, ...]:
    """float32 numbers that each class may store: what `Problem.sizes` hands to ``Parametrization.sizes``."""
    one = math.prod(problem.train.input.shape)
    return problem.value_budget or tuple(count * one for count in problem.counts)
