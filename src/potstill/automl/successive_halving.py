"""Successive halving (Jamieson and Talwalkar, arXiv:1502.07943): who goes on to the next rung, and for how long.

Every rung has the same time, shared by fewer candidates than the one before, so that those who go on have more of it.
What a candidate makes in that time is counted in steps, so that a run can be repeated without a clock.
"""

import math
from collections.abc import Sequence

__all__ = ["rung_sizes", "share", "steps_in", "survivors"]


def rung_sizes(candidates: int) -> tuple[int, ...]:
    """Return the maximum number of candidates of each rung: a third, rounded up, to one, which goes on alone.

    Raises:
        ValueError: there is no candidate.
    """
    if candidates < 1:
        raise ValueError(f"at least one candidate is needed, not {candidates}")
    sizes = [candidates]
    while sizes[-1] > 1:
        sizes.append(math.ceil(sizes[-1] / 3))
    return tuple(sizes)


def share(seconds: float, rung: int, sizes: Sequence[int]) -> float:
    """Seconds of each candidate of ``rung``, of ``seconds`` for all rungs of these sizes that are still to come."""
    return max(0.0, seconds) / (len(sizes) - rung) / sizes[rung]


def steps_in(seconds: float, cost: float, least: int = 1) -> int:
    """Steps of ``cost`` seconds each that fit into ``seconds``, ``least`` at least."""
    return max(least, int(seconds / cost)) if cost > 0 else least


def survivors(scores: Sequence[float], keep: int) -> tuple[int, ...]:
    """Places of the ``keep`` best scores, best first; of equal ones the first, and no number counts as the least."""
    ranked = sorted(
        range(len(scores)), key=lambda i: (math.isnan(scores[i]), -scores[i] if scores[i] == scores[i] else 0, i)
    )
    return tuple(ranked[:keep])
