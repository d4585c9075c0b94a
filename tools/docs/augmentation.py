"""Whether adapting an augmentation by validation data helps: benchmarks/uses/augmentation.py."""

import json
from pathlib import Path

from potstill.evaluation.statistics import paired_difference
from potstill.reports.continual import percent, points
from tools.docs.parts import table

__all__ = ["augmentation"]

_WAYS = ("none", "raw", "weights", "adapted", "both parts", "both parts, raw")


def augmentation(root: Path) -> str:
    """A row for each augmentation, and how it was measured."""
    path = root / "results" / "uses" / "augmentation.json"
    if not path.exists():
        return "Nothing has been measured yet."
    held = json.loads(path.read_text(encoding="utf-8"))
    rows: list[list[object]] = []
    for name, case in held["cases"].items():
        of = {row["way"]: row["accuracy"] for row in case["rows"]}
        gap = paired_difference(of["adapted"]["values"], of["raw"]["values"])
        rows.append([name, *(percent(of[way]) for way in _WAYS), points(gap)])
    first = next(iter(held["cases"].values()))
    head = ["data, augmentation", *_WAYS, "adapted minus raw"]
    networks = ", ".join(sorted({case["network"] for case in held["cases"].values()}))
    said = (
        f"Accuracy in percent on test data, means over {first['seeds']} networks and validation parts with 95% "
        f"intervals for new test samples, too; the last column is paired; {networks}, {first['steps']} "
        f"updates. {held['machine']['processor']}, one thread, torch {held['machine']['torch']}. `replaced` puts other "
        "samples in the place of 60 % and keeps the labels, `turned` turns half of the pictures upside down, "
        "`mirrored` changes the sign of 60 % of the rows; `noise` has 0.2 standard deviations, `much noise` 3. "
        "`benchmarks/uses/augmentation.py`"
    )
    return "\n\n".join([table(head, rows), said])
