"""One iteration, as the parts of a recovery see it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from torch import Generator, Tensor

from potstill.core import Problem
from potstill.methods.decoupled._state import RecoverState
from potstill.methods.decoupled._teachers import Member

__all__ = ["Turn", "Voice", "Voices", "in_turn", "together"]


@dataclass(frozen=True, kw_only=True)
class Turn:
    """What an iteration is about."""

    problem: Problem
    members: Sequence[Member]
    """All teachers."""
    state: RecoverState
    items: Tensor
    """Of the batch, those that move."""
    y: Tensor
    """The class of each picture that is seen."""
    rng: Generator


@dataclass(frozen=True)
class Voice:
    """A teacher that is asked."""

    number: int
    member: Member
    weight: float


Voices: TypeAlias = Callable[[Turn], list[Voice]]
"""Which teachers an iteration asks."""


def together(turn: Turn) -> list[Voice]:
    """All of them."""
    return [Voice(n, member, 1 / len(turn.members)) for n, member in enumerate(turn.members)]


def in_turn(turn: Turn) -> list[Voice]:
    """One after the other."""
    number = turn.state.iteration % len(turn.members)
    return [Voice(number, turn.members[number], 1.0)]
