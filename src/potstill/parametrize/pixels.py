"""Pixels: the inputs themselves, one stored item for each input (Wang et al., arXiv:1811.10959)."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Generator, Tensor

from potstill.core import Payload, Problem
from potstill.errors import PotstillError

__all__ = ["Pixels"]


@dataclass(frozen=True, kw_only=True)
class Pixels:
    """The inputs themselves: what is stored is what a network sees."""

    @property
    def bounded(self) -> bool:
        """True: the payload holds the values of inputs."""
        return True

    def sizes(self, numbers: tuple[int, ...], shape: tuple[int, ...], /) -> tuple[int, ...]:
        """As many inputs as the numbers of each class make up.

        Raises:
            PotstillError: fewer than one.
        """
        one = math.prod(shape)
        if min(numbers) < one:
            raise PotstillError(
                f"one input has {one:,} numbers, but the budget leaves {min(numbers):,} to a class; raise it"
            )
        return tuple(n // one for n in numbers)

    def encode(self, x: Tensor, problem: Problem, rng: Generator, /) -> Payload:
        """``{"inputs": x}``."""
        return {"inputs": x}

    def decode(self, payload: Payload, shape: tuple[int, ...], /) -> Tensor:
        """The inputs (n, …), in the order they are stored."""
        return payload["inputs"]

    def class_rows(self, payload: Payload, sizes: tuple[int, ...], classes: range, /) -> Mapping[str, slice]:
        """One row for each input."""
        return {"inputs": slice(sum(sizes[: classes.start]), sum(sizes[: classes.stop]))}
