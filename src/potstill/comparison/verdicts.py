"""Test every pair of rows at one size under one protocol, and say which are better."""

from collections.abc import Mapping, Sequence
from itertools import combinations, groupby
from typing import Any, TypeAlias

import numpy as np

from potstill.evaluation.samples import SampleScores
from potstill.evaluation.statistics import count_answers, difference, holm_correction, paired_difference
from potstill.tasks.metric import Metric

__all__ = ["LEVEL", "against", "compare_pairs", "format_size", "tested"]

LEVEL = 0.05
"""Of p, corrected by Holm over all pairs at one size under one protocol. All pairs, and not those with the best alone:
the best was picked by the same scores."""
FEW = 3
"""Sets below which a paired test has hardly any power, which is said."""
ENOUGH = 5
"""Sets below which it is said that more would tell more. Ours."""


def tested(sets: int) -> str:
    """Return how a leaderboard with so many repeats was tested, in words."""
    if sets < 2:
        return (
            "each has one set: t-tests over its students and the test samples, corrected by Holm over all pairs at one "
            "size under one protocol, say which of these sets is better, and not which method, as another seed may "
            f"turn it; ask for {FEW} sets or more"
        )
    few = f"; {sets} are few, so little can be told: ask for {FEW} or more" if sets < FEW else ""
    few = few or ("; more sets tell smaller differences" if sets < ENOUGH else "")
    return (
        f"t-tests over {sets} sets of each, paired by their seeds, and over the test samples, corrected by Holm "
        f"over all pairs at one size under one protocol (intervals are not corrected){few}"
    )


BySet: TypeAlias = Mapping[int, SampleScores]
"""Scores of single test samples, by the number of the set."""


def against(
    a: Mapping[int, Sequence[float]], b: Mapping[int, Sequence[float]], sets: int, metric: Metric, samples: int,
    single: tuple[BySet, BySet] = ({}, {}),
) -> dict[str, Any]:  # fmt: skip
    """``a`` less ``b``: ``mean``, ``ci95``, ``p``, by which ``kind`` of test, and its ``n``.

    Args:
        a, b: the scores of each set's students, by the number of the set.
        sets: asked for in all. Of one, students are tested (``welch``); of several, the sets' means (``paired``).
        samples: in the test split.
        single: of either side the scores of the single test samples, where they are known.
    """
    answers = count_answers(metric, samples)
    if sets < 2:
        found = difference(a[0], b[0], answers, samples=(single[0].get(0), single[1].get(0)))
        return {**found, "kind": "welch", "n": min(len(a[0]), len(b[0]))}
    both = sorted(a.keys() & b.keys())
    means, others = [_mean(a[at]) for at in both], [_mean(b[at]) for at in both]
    students = min((len(side[at]) for side in (a, b) for at in both), default=1)
    sides = [over_sets(side, both) for side in single]
    gaps = None if any(side is None for side in sides) else sides[0] - sides[1]
    found = paired_difference(
        means, others, answers, samples=None if gaps is None else SampleScores.from_matrix(gaps), students=students
    )  # fmt: skip
    return {**found, "kind": "paired", "n": len(both)}


def over_sets(single: BySet, sets: Sequence[int]) -> Any:
    """A row of scores of test samples for each set, as a matrix; ``None`` where one is not known."""
    if not sets or any(at not in single for at in sets) or len({single[at].rows.size for at in sets}) > 1:
        return None
    return np.stack([single[at].rows for at in sets])


def compare_pairs(
    rows: Sequence[dict[str, Any]], scores: Mapping[str, Mapping[int, Sequence[float]]], sets: int, metric: Metric,
    samples: int, single: Mapping[str, BySet] | None = None,
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:  # fmt: skip
    """Test the rows, say for each its ``rank``, whether it is ``best`` or ``not_told_apart`` from it, and correct their
    differences from random.

    Args:
        rows: of the board, those of one size and protocol beside each other, best first; failed ones are passed over.
        scores: by the row's ``id``, the scores of each set's students by the number of the set.
        samples: in the test split.
        single: by the row's ``id``, the scores of the single test samples by the number of the set.

    Returns:
        The tests, of every pair, and the verdicts, one for each size and protocol.
    """
    known = single or {}
    tests: list[dict[str, Any]] = []
    verdicts: list[dict[str, Any]] = []
    for key, group in groupby(rows, key=lambda row: (row["unit"], row["amount"], row["protocol"])):
        ranked = [row for row in group if row["id"] in scores]
        if not ranked:
            continue
        where = dict(zip(("unit", "amount", "protocol"), key, strict=True))
        found = [
            {**where, "a": a, "b": b}
            | against(scores[a], scores[b], sets, metric, samples, (known.get(a, {}), known.get(b, {})))
            for a, b in combinations([row["id"] for row in ranked], 2)
        ]
        for test, p in zip(found, holm_correction([test["p"] for test in found]), strict=True):
            sure = p is not None and p <= LEVEL
            test |= {
                "p_holm": p,
                "verdict": "not told apart" if not sure else "a" if metric.better(test["mean"], 0.0) else "b",
            }
        tests += found
        verdicts.append({**where, **_verdict(ranked, found, metric)})
    return tests, verdicts


def _verdict(ranked: Sequence[dict[str, Any]], tests: Sequence[Mapping[str, Any]], metric: Metric) -> dict[str, Any]:
    """The best of one size and protocol, what is not told apart from it, and a sentence. ``ranked`` is marked."""
    by_pair = {(t["a"], t["b"]): t for t in tests}
    best = ranked[0]
    worse = [row["id"] for row in ranked[1:] if by_pair[best["id"], row["id"]]["verdict"] == "a"]
    for at, row in enumerate(ranked):
        row |= {"rank": at + 1, "best": at == 0, "not_told_apart": row["id"] not in worse}
        if (gap := row.get("difference")) is not None and (rival := gap.get("over")) is not None:
            pair = by_pair.get((row["id"], rival)) or by_pair[rival, row["id"]]
            gap["p_holm"] = pair["p_holm"]
    others = [row for row in ranked[1:] if row["not_told_apart"]]
    gap = best.get("difference")
    beats: bool | None = None
    if gap is not None:
        p = gap["p_holm"] if gap.get("over") is not None else gap["p"]
        beats = p is not None and p <= LEVEL and metric.better(gap["mean"], 0.0)
    return {
        "best": best["id"], "not_told_apart": [row["id"] for row in others], "worse": worse, "beats_random": beats,
        "text": _sentence(best, others, worse, beats, metric),
    }  # fmt: skip


def _sentence(
    best: Mapping[str, Any],
    others: Sequence[Mapping[str, Any]],
    worse: Sequence[str],
    beats: bool | None,
    metric: Metric,
) -> str:
    """``At 10 items per class under potstill: dm has the best mean …``."""
    name, score = _name(best), metric.format(best["score"]["mean"])
    head = f"At {format_size(best['unit'], best['amount'])} under {best['protocol']}"
    if not others and not worse:
        return f"{head}: {name} alone was measured, with {score}."
    first = f"{head}: {name} is better than all others, with {score}." if not others else (
        f"{head}: {name} has the best mean, {score}, but cannot be told apart from {_and([_name(r) for r in others])}."
    )  # fmt: skip
    gap = best.get("difference")
    if gap is None:
        return first + (" Random real samples lead." if best["method"] == "random" else "")
    by = f"{metric.format_difference(gap['mean'])} {metric.difference_unit}" + (
        "" if gap["ci95"] is None else f" [{', '.join(map(metric.format_difference, gap['ci95']))}]"
    )
    p = gap.get("p_holm", gap["p"])
    if beats:
        return f"{first} Over random: {by}, p = {p:.2g}."
    doubt = "" if p is None else f", p = {p:.2g}"
    return f"{first} That it is better than random real samples cannot be said: {by}{doubt}."


def format_size(unit: str, amount: int) -> str:
    """A size in words: ``10 items per class``, ``20,000 bytes``."""
    noun = "byte" if unit == "bytes" else "item"
    return f"{amount:,} {noun}" + ("" if amount == 1 else "s") + {"ipc": " per class", "items": " in all"}.get(unit, "")


def _name(row: Mapping[str, Any]) -> str:
    """A row's method with the parametrization and the store that were asked for."""
    return " ".join(
        str(row[key]) for key in ("method", "parametrization", "requested_codec") if row.get(key) is not None
    )


def _and(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
