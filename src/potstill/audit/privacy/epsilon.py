"""A lower bound of ε from one run (Steinke, Nasr, Jagielski 2023, arXiv:2305.08846).

Each canary is put among the records with probability one half, one set is made, and an attack guesses of some canaries
which were in. Under (ε, δ)-differential privacy so many right guesses are unlikely; the bound is the least ε under
which they are not.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jaxtyping import Bool, Float
from scipy.special import bdtr, bdtrc  # type: ignore[import-untyped]
from torch import Tensor

__all__ = ["GUESSES", "EpsilonBound", "Guess", "bound_epsilon", "guess_p_value", "least_epsilon"]

GUESSES = (0.02, 0.05, 0.1, 0.25)
"""Parts of the canaries that an attack guesses to be in. They are fixed before anything is made."""
LARGEST = 50.0
"""Largest bound that is searched for."""


@dataclass(frozen=True, kw_only=True)
class Guess:
    """Guesses of one attack."""

    attack: str
    guesses: int
    correct: int
    both: bool
    """True if the same number of canaries were guessed to be out as in."""
    bound: float
    """Lower bound of ε by these guesses, at the level of all tests together."""

    def to_json(self) -> dict[str, Any]:
        """Return the guesses as JSON values."""
        return {
            "attack": self.attack, "guesses": self.guesses, "correct": self.correct, "both": self.both,
            "bound": self.bound,
        }  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class EpsilonBound:
    """Result of a one-run audit."""

    bound: float
    """Lower bound of ε; 0: no claim is refuted."""
    level: float
    """Chance that the bound is right."""
    delta: float
    canaries: int
    best: Guess
    guesses: Sequence[Guess]
    claimed: float | None = None
    """ε that is claimed; ``None``: none."""

    @property
    def refutes(self) -> bool:
        """True if the claimed ε is below the bound."""
        return self.claimed is not None and self.bound > self.claimed

    def to_json(self) -> dict[str, Any]:
        """Return the result as JSON values."""
        return {
            "bound": self.bound, "level": self.level, "delta": self.delta, "canaries": self.canaries,
            "claimed": self.claimed, "refuted": self.refutes, "guesses": [g.to_json() for g in self.guesses],
        }  # fmt: skip


def guess_p_value(canaries: int, guesses: int, correct: int, epsilon: float, delta: float) -> float:
    """Return the largest chance of so many right guesses under (ε, δ)-differential privacy.

    Args:
        canaries: records that were put in with probability one half each.
        guesses: canaries of which the attack guessed, at most all.
        correct: right guesses.
        epsilon, delta: of the claim.
    """
    if correct <= 0:
        return 1.0
    q = 1 / (1 + math.exp(-epsilon))
    tail = float(bdtrc(correct - 1, guesses, q))
    if delta <= 0:
        return min(1.0, tail)
    alpha, total = 0.0, 0.0
    for i in range(1, correct + 1):
        low = bdtr(correct - i - 1, guesses, q) if correct - i > 0 else 0.0
        total += float(bdtr(correct - i, guesses, q) - low)
        alpha = max(alpha, total / i)
    return min(1.0, tail + 2 * canaries * delta * alpha)


def least_epsilon(canaries: int, guesses: int, correct: int, delta: float, alpha: float) -> float:
    """Return the largest ε that so many right guesses refute at level 1 − ``alpha``; 0 if they refute none."""
    if guess_p_value(canaries, guesses, correct, 0.0, delta) > alpha:
        return 0.0
    low, high = 0.0, LARGEST
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (
            (middle, high) if guess_p_value(canaries, guesses, correct, middle, delta) <= alpha else (low, middle)
        )
    return low


def bound_epsilon(
    values: Mapping[str, Float[Tensor, " m"]], included: Bool[Tensor, " m"], *, delta: float, level: float,
    claimed: float | None = None,
) -> EpsilonBound:  # fmt: skip
    """Return the bound of the best guesses of all attacks.

    The level holds for the best of them: each is tested at its share of 1 − ``level``.

    Args:
        values: of each canary by attack, lower for those that seem to be in.
        included: canaries that were in.
        delta: δ of the claim; 0 without one.
        level: chance that the bound is right.
        claimed: ε of the claim.
    """
    m = len(included)
    sizes = sorted({max(1, round(part * m)) for part in GUESSES})
    plans = [(name, size, both) for name in values for size in sizes for both in (False, True) if 2 * size <= m]
    alpha, guesses = (1 - level) / len(plans), []
    for name, size, both in plans:
        order = values[name].argsort(stable=True)
        right = int(included[order[:size]].sum()) + (int((~included[order[-size:]]).sum()) if both else 0)
        total = 2 * size if both else size
        bound = least_epsilon(m, total, right, delta, alpha)
        guesses.append(Guess(attack=name, guesses=total, correct=right, both=both, bound=bound))
    best = max(guesses, key=lambda g: (g.bound, g.correct / g.guesses))
    return EpsilonBound(
        bound=best.bound, level=level, delta=delta, canaries=m, best=best, guesses=guesses, claimed=claimed
    )
