"""Distilled series with classes beside real ones in the same bytes: benchmarks/series_classes.py."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tools.docs.parts import table

__all__ = ["learner_table", "series_class_findings", "series_classes"]


def _result(root: Path) -> Any:
    path = root / "results" / "series_classes.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def series_classes(root: Path) -> str:
    """A table for each set and number of items, with all series, and how it was measured."""
    held = _result(root)
    if held is None:
        return "Nothing has been measured yet."
    parts = [_part(part) for part in held["parts"]]
    parts.append(
        f"Accuracy in per cent on the archive's own test part: means over {held['seeds']} sets with 95 % intervals, "
        f"{held['students']} students where a learner draws. No row has more bytes than the first. "
        f"{held['machine']['processor']}, one thread. `benchmarks/series_classes.py`"
    )
    return "\n\n".join(parts)


def _part(part: Mapping[str, Any]) -> str:
    heading = (
        f"**{part['name']}**: {part['train']:,} series of {'×'.join(map(str, part['shape']))} in {part['classes']} "
        f"classes; {part['items']} of each class learned."
    )
    return "\n\n".join([heading, learner_table(part, "series")])


def learner_table(part: Mapping[str, Any], noun: str) -> str:
    """A row for each set with its bytes, items and scores by learner, and one for all training data."""
    learners = list(part["full"])
    rows: list[list[object]] = []
    for row in part["rows"]:
        if "reason" in row:
            rows.append([row["row"], "none fits", *[""] * (len(learners) + 1)])
            continue
        scores = (format_score(row["scores"][n]) for n in learners)
        rows.append([row["row"], f"{row['bytes']:,.0f}", f"{row['items']:,}", *scores])
    rows.append([f"all {noun}", "", f"{part['train']:,}", *(f"{100 * part['full'][n]:.1f}" for n in learners)])
    return table(["set", "bytes", noun, *learners], rows)


def format_score(value: Mapping[str, Any]) -> str:
    """A score in per cent, with its interval where it has one."""
    ci = value["ci95"]
    return f"{100 * value['mean']:.1f}" + ("" if ci is None else f" [{100 * ci[0]:.1f}, {100 * ci[1]:.1f}]")


def series_class_findings(root: Path) -> str:
    """How often each learned row is above, below, or not told apart from the best real series."""
    held = _result(root)
    if held is None:
        return "Nothing has been measured yet."
    counts: dict[str, list[int]] = {}
    for pair in (pair for part in held["parts"] for pair in part["pairs"]):
        low, high = pair["difference"]["ci95"] or (-1.0, 1.0)
        found = counts.setdefault(pair["row"], [0, 0, 0])
        found[0 if low > 0 else 1 if high < 0 else 2] += 1
    rows: list[list[object]] = [[name, *found] for name, found in counts.items()]
    return table(["against the best real series", "above", "below", "not told apart"], rows)
