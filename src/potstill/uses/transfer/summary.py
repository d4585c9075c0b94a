"""The result of all networks: a row for each way, paired intervals over networks, and what they show."""

from collections.abc import Mapping
from typing import Any

from potstill.evaluation.statistics import paired_difference, summary
from potstill.uses.gaps import gap_in_points, side_of

__all__ = ["NAMES", "OWN", "conclude", "describe_labels"]

OWN = "this set"
"""The way of the set that is measured."""
NAMES = {
    "none": "no pre-training", OWN: OWN, "random": "random pictures with the teacher's vectors",
    "k-means": "pictures nearest to k-means centres, with these vectors", "all data": "all pictures with these vectors",
    "teacher": "the teacher's vectors themselves",
}  # fmt: skip
"""Ways in words."""


def conclude(result: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``rows``, ``differences`` of the set from the other ways, a ``verdict`` for each, and ``sentences``."""
    cells, tested = result["cells"], result["test_samples"]

    def values(way: str, measure: str) -> list[float]:
        return [float(c[measure]) for c in cells if c["way"] == way and c[measure] is not None]

    rows = [
        {
            "way": way, **result["sets"].get(way, {}),
            **{m: summary(v, tested) for m in ("accuracy", "probe") if (v := values(way, m))},
        }
        for way in result["ways"]
    ]  # fmt: skip
    gaps = {
        way: {
            m: paired_difference(values(OWN, m), other) for m in ("accuracy", "probe") if (other := values(way, m))
        }
        for way in result["ways"] if way != OWN
    }  # fmt: skip
    verdict = {way: side_of(gap["accuracy"]) for way, gap in gaps.items() if "accuracy" in gap}
    return {"rows": rows, "differences": gaps, "verdict": verdict, "sentences": _sentences(result, gaps, verdict)}


def describe_labels(labels: int | str) -> str:
    """Return ``10 labels for`` or ``1% of the labels of``, to stand before the classes."""
    return f"{labels} of the labels of" if isinstance(labels, str) else f"{labels} labels for"


def _sentences(
    result: Mapping[str, Any], gaps: Mapping[str, Mapping[str, Any]], sides: Mapping[str, str]
) -> list[str]:  # fmt: skip
    """Return whether pre-training on the set helps, and whether real pictures of the same bytes do better."""
    unclear = {"not told apart": "not told apart", "untested": "two networks or more would tell"}
    helps = unclear | {"above": "it helps", "below": "it does harm"}
    real = unclear | {"above": "the learned set is better", "below": "keep real pictures"}
    most = unclear | {"above": "the small set does better than all of them", "below": "the small set loses some"}
    return [
        f"With {describe_labels(result['labels'])} each class of {result['target']}, pre-training on this set of "
        f"{result['source']} changes accuracy by {gap_in_points(gaps['none']['accuracy'])}: {helps[sides['none']]}.",
        *(
            f"Beside {NAMES[way]} in the same bytes it is {gap_in_points(gaps[way]['accuracy'])}: {real[sides[way]]}."
            for way in ("random", "k-means")
        ),
        f"Beside {NAMES['all data']} it is {gap_in_points(gaps['all data']['accuracy'])}: {most[sides['all data']]}.",
    ]
