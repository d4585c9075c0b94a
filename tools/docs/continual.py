"""Memories of a continual learner at equal bytes: benchmarks/uses/continual.py."""

import json
from pathlib import Path

from potstill.reports.continual import percent, points, span
from tools.docs.parts import measured_on, table

__all__ = ["continual"]


def continual(root: Path) -> str:
    """A row for each size and memory, what they show, and how it was measured."""
    parts = []
    for path in sorted((root / "results" / "uses").glob("continual-*.json")):
        held = json.loads(path.read_text(encoding="utf-8"))
        settings, learner = held["settings"], held["settings"]["learner"]
        rows: list[list[object]] = []
        for row in held["rows"]:
            name = f"{row['memory']}, made" if row["made"] else row["memory"]
            if "final" not in row:
                rows.append([f"{row['bytes']:,}", name, "one of each class does not fit", "", "", "", ""])
                continue
            measures = [percent(row[m]) for m in ("final", "average", "forgetting")]
            rows.append(
                [f"{row['bytes']:,}", name, *measures, points(row.get("difference")), f"{span(row['items'])}",
                 f"{row['seconds']:.0f}"]
            )  # fmt: skip
        head = [
            "bytes",
            "memory",
            "final",
            "average",
            "forgetting",
            "minus the best real",
            "samples",
            "seconds to make",
        ]
        said = (
            f"Accuracy in percent on {held['source']}, {held['samples']:,} training and {held['test_samples']:,} test "
            f"samples, {settings['steps']} steps of {settings['classes_per_step']} classes: means over "
            f"{held['orders']} orders with 95% intervals, differences paired by order. Learner: {learner['network']}, "
            f"{learner['steps']} updates. {measured_on(held['machine'])}. `benchmarks/uses/continual.py`"
        )
        parts.append("\n\n".join([table(head, [r + [""] * (len(head) - len(r)) for r in rows]),
                                  " ".join(held["sentences"]), said]))  # fmt: skip
    return "\n\n".join(parts) or "Nothing has been measured yet."
