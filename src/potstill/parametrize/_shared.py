"""Helpers of the parametrizations of images."""

import math
from typing import Protocol, runtime_checkable

from potstill.core import Problem
from potstill.errors import PotstillError

__all__ = ["ReducedResolution", "image_shape", "require_input_values", "stored_numbers"]


@runtime_checkable
class ReducedResolution(Protocol):
    """A parametrization that stores images in fewer pixels than they have."""

    @property
    def min_side(self) -> int:
        """Minimum side of stored images, in pixels, at which methods choose it by default."""

    def stored_size(self, shape: tuple[int, ...], /) -> tuple[int, int]:
        """Return height and width of stored images, for images of ``shape`` (c, h, w).

        Raises:
            PotstillError: the inputs are no images.
        """


def image_shape(name: str, shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Return the shape (c, h, w) of an image.

    Raises:
        PotstillError: the inputs are no images.
    """
    if len(shape) != 3:
        raise PotstillError(
            f"parametrization {name} needs images (channels, height, width), but inputs have shape {list(shape)}; "
            "take pixels"
        )
    return shape[0], shape[1], shape[2]


def stored_numbers(problem: Problem) -> tuple[int, ...]:
    """float32 numbers that each class may store: what `Problem.sizes` hands to ``Parametrization.sizes``."""
    one = math.prod(problem.train.input.shape)
    return problem.value_budget or tuple(count * one for count in problem.counts)


def require_input_values(problem: Problem, what: str) -> None:
    """Refuse a parametrization whose payload moves at a rate of its own, for engines with another rule.

    Raises:
        PotstillError: it does.
    """
    if problem.payload_lr is not None:
        raise PotstillError(
            f"{what} optimises pictures, but the parametrization stores a network's weights; take pixels, or a method "
            "that matches, such as dm"
        )
