"""What clients of a federation can send, by accuracy and bytes: benchmarks/uses/federated.py."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from potstill.reports.continual import percent, points, span
from potstill.reports.federated import traffic
from tools.docs.parts import measured_on, table

__all__ = ["federated"]

_HEAD = ["clients", "way", "accuracy", "minus the best set", "kB up", "kB down", "inputs", "nearest is a client's"]


def federated(root: Path) -> str:
    """A table for each file of results, what it shows, and how it was measured."""
    parts = []
    for path in sorted((root / "results" / "uses").glob("federated-*.json"), key=lambda path: path.stem):
        held = json.loads(path.read_text(encoding="utf-8"))
        settings, learner = held["settings"], held["settings"]["learner"]
        networks = settings["networks"]
        several = "; each network is trained on the sets, and accuracy is their mean" if len(networks) > 1 else ""
        said = (
            f"Accuracy in percent on {held['source']}, {held['samples']:,} training samples at {held['number']} "
            f"clients and {held['test_samples']:,} test samples: means over {held['splits']} partitions with 95% "
            f"intervals, differences paired by partition. Networks: {', '.join(networks)}{several}; "
            f"{learner['steps']} updates. "
            f"{measured_on(held['machine'])}. "
            "`benchmarks/uses/federated.py`"
        )
        rows = [_row(row) for row in held["rows"]]
        parts.append("\n\n".join([table(_HEAD, rows), " ".join(held["sentences"]), said]))
    return "\n\n".join(parts) or "Nothing has been measured yet."


def _row(row: Mapping[str, Any]) -> list[object]:
    if "accuracy" not in row:
        reason = "needs one network" if "the same network" in row["reason"] else "does not fit"
        return [row["partition"], row["way"], reason, "", "", "", "", ""]
    return [
        row["partition"], row["way"], percent(row["accuracy"]), points(row.get("difference")), traffic(row["up"]),
        traffic(row["down"]), span(row["items"]) if row["sends"] != "models" else "",
        "" if row["nearest"] is None else f"{100 * row['nearest']:.0f} %",
    ]  # fmt: skip
