"""Inputs, and compensators that are added to the inputs of every class (UFC; Zhang et al., arXiv:2408.06927).

A class c stores p inputs x_ci. For each place i all classes share m compensators u_ji::

    decoded = {x_ci} ∪ {x_ci + u_ji}        i = 1 … p, j = 1 … m

A budget of n inputs for each of k classes holds p = ⌊n k / (k + m)⌋ inputs, which decode to p · (1 + m) of each class,
as published. Compensators start at zero, as published. The published code clamps decoded pixels when it saves them;
here they stay as they were optimised.
"""

import math
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from potstill.core import DecodeContext, Payload, Problem
from potstill.errors import PotstillError

__all__ = ["Compensators"]


@dataclass(frozen=True, kw_only=True)
class Compensators:
    """Inputs of each class, and compensators added to the inputs of all classes.

    The payload: ``inputs`` (k · p, …), grouped by class, and ``decoder/compensators`` (m, p, …).

    Decoding: a class's inputs x_1 … x_p become x_i and ``x_i + compensators[j, i]``, j = 1 … m. Within a class decoded
    inputs come as they are first, then with the first compensators, and so on. Compensators cost inputs in all, not in
    each class: with ten classes and ``count=4``, ten inputs of each buy seven and their sums, with a thousand nine.

    Raises:
        PotstillError: a setting is out of its range.
    """

    count: int = 4
    """m, at least 1: compensators of each stored input (published: 4, one for each network)."""

    def __post_init__(self) -> None:
        if self.count < 1:
            raise PotstillError(f"compensators: count must be at least 1, not {self.count}")

    @property
    def bounded(self) -> bool:
        """False: compensators are no values of inputs."""
        return False

    def sizes(self, numbers: tuple[int, ...], shape: tuple[int, ...], /) -> tuple[int, ...]:
        """Return (1 + m) · p for every class.

        Raises:
            PotstillError: a class gets no input.
        """
        k, one, total = len(numbers), math.prod(shape), sum(numbers)
        p = total // (one * (k + self.count))
        if p < 1:
            raise PotstillError(
                f"compensators: one input of each of {k} classes and {self.count} compensators take "
                f"{one * (k + self.count):,} numbers, but the budget has {total:,}; raise it or lower count"
            )
        return ((1 + self.count) * p,) * k

    def encode(self, x: Tensor, problem: Problem, rng: Generator, /) -> Payload:
        """Return the first of every 1 + m initial inputs of a class, and compensators of zero; draws nothing."""
        k, shape = problem.num_classes, x.shape[1:]
        stored = x.reshape(k, 1 + self.count, -1, *shape)[:, 0]
        nothing = torch.zeros(self.count, stored.shape[1], *shape, dtype=x.dtype, device=x.device)
        return {"inputs": stored.flatten(0, 1), "decoder/compensators": nothing}

    def decode(self, payload: Payload, context: DecodeContext, /) -> Tensor:
        """Inputs as they are and with each compensator (n, …), grouped by class."""
        added = payload["decoder/compensators"]
        stored = payload["inputs"].reshape(-1, 1, added.shape[1], *context.shape)
        return torch.cat([stored, stored + added], 1).flatten(0, 2)
