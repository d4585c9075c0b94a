"""What the parametrizations of pictures share: the shape they need and the numbers a problem grants."""

import math
from typing import Protocol, runtime_checkable

from potstill.core import Problem
from potstill.errors import PotstillError

__all__ = ["LEAST_CELL", "Reduced", "numbers_of", "picture"]

LEAST_CELL = 8
"""Pixels along a cell's shorter side from which on a method's own parametrization of fewer pixels is taken (ours;
published cells have 14 and more). Quick sets of ``m3d`` over tiles, beside whole pictures of the same bytes, held out,
means of two sets: digits in cells of 4 pixels 28 points behind, MNIST-5k shrunk to cells of 6 12 behind, of 8 1 behind,
of 10 and 14 2 and 1 ahead (``benchmarks/tiny_pictures.py``, results/tiny-pictures.json)."""


@runtime_checkable
class Reduced(Protocol):
    """A parametrization that stores pictures in fewer pixels than they have."""

    def cell(self, shape: tuple[int, ...], /) -> tuple[int, int]:
        """Height and width, in pixels, of what is stored of pictures (c, h, w).

        Raises:
            PotstillError: the inputs are no pictures.
        """


def picture(name: str, shape: tuple[int, ...]) -> tuple[int, int, int]:
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


def numbers_of(problem: Problem) -> tuple[int, ...]:
    """float32 numbers that each class may store: what `Problem.sizes` hands to ``Parametrization.sizes``."""
    one = math.prod(problem.train.input.shape)
    return problem.numbers or tuple(count * one for count in problem.counts)
