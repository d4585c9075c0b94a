"""Small sets of clinical tables and a comparison on a large one: benchmarks/clinical.py, benchmarks/survival.py and
benchmarks/large_table.py."""

import json
from pathlib import Path
from typing import Any

from tools.docs.parts import table

__all__ = ["clinical", "large_table", "survival"]

_METRICS = ("sensitivity", "auroc")


def _rate(value: dict[str, Any]) -> str:
    mean, ends = 100 * value["mean"], value["ci95"]
    return f"{mean:.1f}" if ends is None else f"{mean:.1f} [{100 * ends[0]:.1f}, {100 * ends[1]:.1f}]"


def clinical(root: Path) -> str:
    """A table for each clinical table: a row for each way, and what is told apart from random rows."""
    path = root / "results" / "clinical.json"
    if not path.exists():
        return "Nothing has been measured yet."
    held = json.loads(path.read_text(encoding="utf-8"))
    parts = []
    for found in held["tables"]:
        learners = list(found["rows"][0]["scores"])
        head = ["way", "rows", "bytes", *(f"{n}: found, AUROC" for n in learners)]
        rows: list[list[object]] = [
            [row["way"], f"{row['items']:,.0f}", "" if row["bytes"] is None else f"{row['bytes']:,.0f}",
             *(", ".join(_rate(row["scores"][n][m]) for m in _METRICS) for n in learners)]
            for row in found["rows"]
        ]  # fmt: skip
        reached = [row["scores"][n]["specificity"]["mean"] for row in found["rows"] for n in learners]
        told = [
            f"{p['way']} {100 * p['difference']['mean']:+.1f} [{100 * p['difference']['ci95'][0]:+.1f}, "
            f"{100 * p['difference']['ci95'][1]:+.1f}]"
            for p in found["pairs"]
            if p["other"] == "random" and p["difference"]["ci95"][0] * p["difference"]["ci95"][1] > 0
        ]
        apart = (
            f"Told apart from random rows of the same bytes, mean of learners, in points: {'; '.join(told)}."
            if told
            else "No way is told apart from random rows of the same bytes (mean of learners)."
        )
        said = (
            f"**{found['table']}**: {found['patients']:,} patients, {found['inputs']} columns, {found['positive']:.0%} "
            f"of the class to be found. {apart} Specificity reached: {100 * min(reached):.0f} to "
            f"{100 * max(reached):.0f} %."
        )
        parts.append("\n\n".join([said, table(head, rows)]))
    n, share = held["settings"]["seeds"], held["settings"]["specificity"]
    parts.append(
        f"Found: percent of the ill at a specificity of {share:.0%} on held-out patients; AUROC in percent; both on "
        f"test patients, means and 95 % intervals over n = {n} splits with a set each. {held['machine']['processor']}, "
        "one thread. `benchmarks/clinical.py`"
    )
    return "\n\n".join(parts)


def survival(root: Path) -> str:
    """A table for each table with times until an event, and what is told apart from random rows."""
    path = root / "results" / "survival.json"
    if not path.exists():
        return "Nothing has been measured yet."
    held = json.loads(path.read_text(encoding="utf-8"))
    parts = []
    for found in held["tables"]:
        learners = list(found["rows"][0]["scores"])
        rows: list[list[object]] = [
            [row["way"], f"{row['items']:,.0f}", "" if row["bytes"] is None else f"{row['bytes']:,.0f}",
             *(_rate(row["scores"][n]) for n in learners)]
            for row in found["rows"]
        ]  # fmt: skip
        gaps = "; ".join(
            f"{p['way']} {100 * p['difference']['mean']:+.1f} [{100 * p['difference']['ci95'][0]:+.1f}, "
            f"{100 * p['difference']['ci95'][1]:+.1f}]"
            for p in found["pairs"]
        )
        said = (
            f"**{found['table']}**: {found['patients']:,} patients, {found['inputs']} inputs, {found['events']:.0%} "
            f"with the event. Minus random rows of the same bytes, mean of learners, in points: {gaps}."
        )
        parts.append("\n\n".join([said, table(["way", "rows", "bytes", *learners], rows)]))
    parts.append(
        f"Concordance in percent on test patients: means and 95 % intervals over n = {held['settings']['seeds']} "
        f"splits with a set each. {held['machine']['processor']}, one thread. `benchmarks/survival.py`"
    )
    return "\n\n".join(parts)


def large_table(root: Path) -> str:
    """One sentence and the table of a comparison on a large table."""
    path = root / "results" / "large_table.json"
    if not path.exists():
        return "Nothing has been measured yet."
    held = json.loads(path.read_text(encoding="utf-8"))
    head = ["per class", "method", "accuracy", "seconds"]
    rows: list[list[object]] = [
        [row["ipc"], row["method"], f"{100 * row['mean']:.1f} [{100 * row['low']:.1f}, {100 * row['high']:.1f}]",
         f"{row['seconds']:.1f}"]
        for row in held["leaderboard"]
    ]  # fmt: skip
    said = (
        f"`{held['command']}` on {held['rows']:,} flights of {held['columns']} mixed columns took "
        f"{held['seconds'] / 60:.1f} minutes by the clock, {held['cpu_seconds'] / 60:.1f} of the processor, and at "
        f"most {held['peak_bytes'] / 1e9:.1f} GB of memory ({held['machine']['processor']}, two shared cores, load "
        f"{held['load']} at the start; one run). Accuracies are those of one set each, intervals over "
        f"{held['leaderboard'][0]['n']} students; to answer always the largest class has "
        f"{100 * held['largest_class']:.1f}, so look at screening before you choose by accuracy. "
        "`benchmarks/large_table.py`"
    )
    return "\n\n".join([said, table(head, rows)])
