"""Inputs stored as they are (Wang et al., arXiv:1811.10959)."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Generator, Tensor

from potstill.core import DecodeContext, Payload, Problem
from potstill.errors import PotstillError

__all__ = ["Pixels"]


@dataclass(frozen=True, kw_only=True)
class Pixels:
    """The inputs themselves, one stored item for each input.

    Decoding: ``x = inputs``.
    """

    @property
    def bounded(self) -> bool:
        """True: the payload holds values of inputs."""
        return True

    def sizes(self, numbers: tuple[int, ...], shape: tuple[int, ...], /) -> tuple[int, ...]:
        """Return the inputs of each class that its number of values allows.

        Raises:
            PotstillError: a class gets no input.
        """
        one = math.prod(shape)
        if min(numbers) < one:
            raise PotstillError(
                f"one input has {one:,} numbers, but the budget leaves {min(numbers):,} to a class; raise it"
            )
        return tuple(n // one for n in numbers)

    def encode(self, x: Tensor, problem: Problem, rng: Generator, /) -> Payload:
        """Return ``{"inputs": x}``."""
        return {"inputs": x}

    def decode(self, payload: Payload, context: DecodeContext, /) -> Tensor:
        """Return the inputs (n, …), in the order in which they are stored."""
        return payload["inputs"]

    def class_rows(self, payload: Payload, sizes: tuple[int, ...], classes: range, /) -> Mapping[str, slice]:
        """Return one row for each input."""
        return {"inputs": slice(sum(sizes[: classes.start]), sum(sizes[: classes.stop]))}
