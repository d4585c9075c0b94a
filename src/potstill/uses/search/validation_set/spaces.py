"""Spaces of hyperparameters with gradients: logarithms of numbers, and choices relaxed by a softmax.

A point of a space is a flat vector λ of its coordinates. A number has one coordinate, its logarithm; a choice among k
options has k, logits whose softmax weighs the options.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from jaxtyping import Float64
from torch import Generator, Tensor

from potstill.errors import PotstillError

__all__ = ["LARGEST_LOGIT", "Choice", "LogRange", "Space", "Values"]

LARGEST_LOGIT = 6.0
"""Largest logit of a relaxed choice, at which an option weighs 400 times as much as one of logit 0. Ours."""

Values: TypeAlias = Mapping[str, Tensor]
"""Numbers (count,) and weights of options (k,), by the names of hyperparameters."""


@dataclass(frozen=True, kw_only=True)
class LogRange:
    """One positive number, or several with the same range, uniform in the logarithm.

    Raises:
        PotstillError: the ends are not positive numbers in order.
    """

    name: str
    low: float
    high: float
    count: int = 1
    """Number of numbers, such as a weight decay for each group of features."""

    def __post_init__(self) -> None:
        if not 0 < self.low < self.high < math.inf or self.count < 1:
            raise PotstillError(
                f"a range needs 0 < low < high and a count of at least 1, but {self.name} has {self.low:g} to "
                f"{self.high:g} and {self.count}; change it"
            )

    @property
    def box(self) -> tuple[list[float], list[float]]:
        """Smallest and largest coordinates."""
        return [math.log(self.low)] * self.count, [math.log(self.high)] * self.count

    def decode(self, at: Float64[Tensor, " count"]) -> Tensor:
        return at.exp()

    def encode(self, value: float | str | Sequence[float]) -> list[float]:
        try:
            numbers = [float(v) for v in ([value] * self.count if isinstance(value, float | int | str) else value)]
        except (TypeError, ValueError):
            numbers = []
        if len(numbers) != self.count or not all(0 < v < math.inf for v in numbers):
            raise PotstillError(f"{self.name} must be {self.count} positive numbers, not {value!r}; change it")
        return [math.log(v) for v in numbers]


@dataclass(frozen=True, kw_only=True)
class Choice:
    """One of several options, relaxed to a mixture of all of them.

    Raises:
        PotstillError: fewer than two options, or one of them twice.
    """

    name: str
    options: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(set(self.options)) != len(self.options) or len(self.options) < 2:
            raise PotstillError(
                f"a choice needs two different options or more, but {self.name} has {', '.join(self.options)!r}; "
                "change it"
            )

    @property
    def count(self) -> int:
        """Number of coordinates."""
        return len(self.options)

    @property
    def box(self) -> tuple[list[float], list[float]]:
        """Smallest and largest coordinates."""
        return [0.0] * self.count, [LARGEST_LOGIT] * self.count

    def decode(self, at: Float64[Tensor, " k"]) -> Tensor:
        return at.softmax(0)

    def encode(self, value: float | str | Sequence[float]) -> list[float]:
        if value not in self.options:
            raise PotstillError(f"{self.name} must be one of {', '.join(self.options)}, not {value!r}; change it")
        return [LARGEST_LOGIT * (option == value) for option in self.options]


@dataclass(frozen=True)
class Space:
    """Several hyperparameters.

    Raises:
        PotstillError: there are none, or two have the same name.
    """

    parts: tuple[LogRange | Choice, ...]

    def __post_init__(self) -> None:
        listed = [part.name for part in self.parts]
        if not listed or len(set(listed)) != len(listed):
            raise PotstillError(
                f"a space needs hyperparameters with different names, but has {', '.join(listed) or 'none'}; change it"
            )

    @property
    def size(self) -> int:
        """Number of coordinates."""
        return sum(part.count for part in self.parts)

    @property
    def directions(self) -> int:
        """Number of independent directions of a gradient: equal steps of all logits of a choice change nothing."""
        return sum(part.count - isinstance(part, Choice) for part in self.parts)

    @property
    def box(self) -> tuple[Float64[Tensor, " p"], Float64[Tensor, " p"]]:
        """Smallest and largest coordinates."""
        boxes = [part.box for part in self.parts]
        low, high = (
            torch.tensor([end for box in boxes for end in box[side]], dtype=torch.float64) for side in (0, 1)
        )  # fmt: skip
        return low, high

    @property
    def centre(self) -> Float64[Tensor, " p"]:
        """Middle of the box: the geometric mean of each range, and equal weights of options."""
        low, high = self.box
        return (low + high) / 2

    def sample(self, n: int, rng: Generator, scale: float = 1.0, shift: float = 0.0) -> Float64[Tensor, "n p"]:
        """Draw points uniformly from the box.

        Args:
            n: number of points.
            rng: generator on the CPU.
            scale: width of the box that is drawn from, in widths of the space's own.
            shift: distance of its centre from the space's own, in widths.
        """
        low, high = self.box
        part = torch.rand(n, self.size, generator=rng, dtype=torch.float64)
        return self.centre + (high - low) * (shift + scale * (part - 0.5))

    def decode(self, at: Float64[Tensor, " p"]) -> dict[str, Tensor]:
        """Return the values at a point, differentiable by it."""
        sizes = [part.count for part in self.parts]
        return {
            part.name: part.decode(own) for part, own in zip(self.parts, torch.split(at, sizes), strict=True)
        }  # fmt: skip

    def encode(self, values: Mapping[str, float | str | Sequence[float]]) -> Float64[Tensor, " p"]:
        """Return the point of values: numbers, and names of options.

        Raises:
            PotstillError: a hyperparameter is missing, or of no such name, or its value is none of it.
        """
        listed = [part.name for part in self.parts]
        if odd := sorted(set(values) ^ set(listed)):
            raise PotstillError(f"values are needed of {', '.join(listed)}, but {odd[0]} is not in both; change it")
        found = [number for part in self.parts for number in part.encode(values[part.name])]
        return torch.tensor(found, dtype=torch.float64)
