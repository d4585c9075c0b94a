"""Successive halving (arXiv:1502.07943) of candidates: rounds of more and more updates for fewer and fewer."""

import math
from dataclasses import dataclass

__all__ = ["ETA", "Round", "halving_rounds"]

ETA = 3
"""Factor of the updates, and divisor of the candidates, from one round to the next."""
LAST = 3
"""Candidates up to which a round is the last."""
LEAST_UPDATES = 5
"""Updates of the first round, at least."""


@dataclass(frozen=True, kw_only=True)
class Round:
    """One round: so many of the best candidates, each trained from scratch for so many updates."""

    candidates: int
    updates: int


def halving_rounds(candidates: int, updates: int) -> tuple[Round, ...]:
    """Return the rounds, of which the last trains for ``updates``.

    Each trains from scratch: its learning rate falls to zero by its end, and depends on nothing that came before.
    """
    sizes = [candidates]
    while sizes[-1] > LAST and updates // ETA ** len(sizes) >= LEAST_UPDATES:
        sizes.append(math.ceil(sizes[-1] / ETA))
    return tuple(Round(candidates=size, updates=updates // ETA ** (len(sizes) - 1 - n)) for n, size in enumerate(sizes))
