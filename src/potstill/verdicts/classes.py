"""Limits of an accuracy where classes are unequal: the rate of the largest class, small classes, the spread."""

from collections.abc import Mapping, Sequence
from typing import Any

from potstill.tasks.metric import Metric
from potstill.verdicts.verdict import count_noun, mapping_of, number_of

__all__ = [
    "LARGEST",
    "POPULAR",
    "ClassScore",
    "class_scores",
    "class_spread",
    "class_warnings",
    "largest_class",
    "largest_class_line",
]

POPULAR = "popular items"
"""Name, under ``naive`` in a scorecard, of recommending what most users met."""
LARGEST = "largest class"
"""Name, under ``naive`` in a scorecard, of the answer that is always the largest class."""
FEW_SAMPLES, UNEQUAL, WIDE, MANY = 10, 4.0, 0.25, 6
"""Test samples of a class that are few, ratio of unequal classes, spread that is wide, classes named in a line."""
_BALANCED = 1.2
"""Ratio to 1/k up to which the rate of the largest class says nothing."""

ClassScore = tuple[str, float, int | None]
"""Name, accuracy and test samples (``None``: an older scorecard) of a class."""


def class_scores(scorecard: Mapping[str, Any]) -> list[ClassScore]:
    """Return the accuracy of each class, in label order; empty without classes."""
    rows, found = scorecard.get("per_class"), []
    for row in rows if isinstance(rows, Sequence) and not isinstance(rows, str) else ():
        held = mapping_of(row)
        mean, n = number_of(held.get("mean")), number_of(held.get("n"))
        if mean is not None:
            found.append((str(held.get("name", "")), mean, None if n is None else int(n)))
    return found


def largest_class(scorecard: Mapping[str, Any]) -> tuple[str, float] | None:
    """Return the largest class of the training data and the accuracy of always answering it, if it is known."""
    held = mapping_of(mapping_of(scorecard.get("naive")).get(LARGEST))
    score = number_of(held.get("score"))
    return None if score is None else (str(held.get("class", "")), score)


def largest_class_line(scorecard: Mapping[str, Any]) -> str:
    """Return ``always the largest class (no): 76.9%``; empty where classes are nearly equal."""
    found, k = largest_class(scorecard), len(class_scores(scorecard))
    if found is None or (k and found[1] <= _BALANCED / k):
        return ""
    return f"always the largest class ({found[0]}): {Metric.from_scorecard(scorecard).format(found[1])}"


def class_warnings(scorecard: Mapping[str, Any]) -> list[str]:
    """Return a sentence for classes of fewer than 10 test samples, and one for very unequal classes."""
    sized = sorted(((n, name) for name, _, n in class_scores(scorecard) if n is not None))
    if len(sized) < 2:
        return []
    few, said = [(n, name) for n, name in sized if n < FEW_SAMPLES], []
    if few:
        named = ", ".join(f"{name} {n}" for n, name in few[:MANY]) + (
            f" and {len(few) - MANY} more" * (len(few) > MANY)
        )
        said.append(
            f"{'a class has' if len(few) == 1 else f'{len(few):,} classes have'} fewer than {FEW_SAMPLES} test samples "
            f"({named}): their accuracy is little more than a guess"
        )
    (least, smallest), (most, largest) = sized[0], sized[-1]
    if most >= UNEQUAL * max(1, least):
        said.append(
            f"classes are unequal ({largest} {count_noun(most, 'test samples')}, {smallest} {least:,}): the accuracy "
            f"is mostly that of {largest}"
        )
    return said


def class_spread(scorecard: Mapping[str, Any]) -> str:
    """Return the accuracy of each class, or of the lowest and the highest, where they differ by 25 points or more."""
    rows = sorted(class_scores(scorecard), key=lambda row: row[1])
    if len(rows) < 2 or rows[-1][1] - rows[0][1] < WIDE:
        return ""
    shown = rows if len(rows) <= MANY else [*rows[:3], rows[-1]]
    parts = [f"{name} {100 * mean:.1f}%" for name, mean, _ in shown]
    if len(rows) > MANY:
        parts[-1] = f"highest {parts[-1]}"
        parts[0] = f"lowest {parts[0]}"
    return ", ".join(parts)
