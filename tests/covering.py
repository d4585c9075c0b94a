"""A few cases of many, in which every value is still there; the rest is slow, and only ``make test-all`` runs it."""

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import combinations
from typing import Any

import pytest

__all__ = ["covering"]


def covering(cases: Iterable[Sequence[Any]], strength: int = 1) -> list[Any]:
    """All ``cases`` as parameters, marked slow but for a small choice of them.

    In the choice is every value that an argument has in any case, or, of ``strength`` 2, every pair of values that two
    arguments have together. What is least used comes first, so that values of a short list are met alike often.
    """
    rows = [tuple(case) for case in cases]
    holds = [set(combinations(enumerate(row), strength)) for row in rows]
    left, used = set().union(*holds), Counter[Any]()
    kept: set[int] = set()
    while left:
        best = max(
            range(len(rows)), key=lambda n: (len(holds[n] & left), -sum(used[v] for v in enumerate(rows[n])), -n)
        )
        kept.add(best)
        left -= holds[best]
        used.update(enumerate(rows[best]))
    return [pytest.param(*row, marks=() if n in kept else pytest.mark.slow) for n, row in enumerate(rows)]
