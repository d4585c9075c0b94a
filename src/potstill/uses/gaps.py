"""A difference with its interval, in the words of the sentences of a use."""

from collections.abc import Mapping
from typing import Any

__all__ = ["gap_in_points", "side_of"]


def side_of(gap: Mapping[str, Any]) -> str:
    """Return where an interval lies: ``above``, ``below``, ``not told apart`` or ``untested``."""
    ci = gap["ci95"]
    if ci is None:
        return "untested"
    return "above" if ci[0] > 0 else "below" if ci[1] < 0 else "not told apart"


def gap_in_points(gap: Mapping[str, Any]) -> str:
    """Return a difference of fractions in points, with its interval where it has one."""
    ci = gap["ci95"]
    size = f"{100 * gap['mean']:+.1f} points"
    return size if ci is None else f"{size} (95% interval {100 * ci[0]:+.1f} to {100 * ci[1]:+.1f})"
