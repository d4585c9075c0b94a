"""Accuracy and equalised odds of small sets of biased data: benchmarks/trust/fairness.py."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tools.docs.parts import interval, table

__all__ = ["fairness"]


_DATA = {
    "colour": "Coloured {} (CMNIST-DD), {:,} training pictures, {} items per class; the test pictures are each in "
    "every colour ({:,}). {:g} %: training samples in the colour of their class.",
    "corruption": "Corrupted {} (CCIFAR10-DD, severity 4), {:,} training pictures, {} items per class; the test "
    "pictures are each with every corruption ({:,}). {:g} %: training samples with the corruption of their class.",
}


def fairness(root: Path) -> str:
    """Return a row for each training set, at each ratio of samples with the value of their class."""
    paths = [root / "results" / "trust" / f"fairness{end}.json" for end in ("", "-corruptions")]
    return "\n\n".join(
        _one(json.loads(path.read_text(encoding="utf-8"))) for path in paths if path.exists()
    ) or "Nothing has been measured yet."  # fmt: skip


def _one(held: Mapping[str, Any]) -> str:
    parts = held["parts"]
    head: list[object] = ["training set of the students", "bytes"]
    for part in parts:
        head += [f"{100 * part['ratio']:g} %: accuracy", "mean gap (by chance)"]
    rows: list[list[object]] = []
    for n, first in enumerate(parts[0]["rows"]):
        cells: list[object] = [first["row"], "" if first["bytes"] is None else f"{first['bytes']:,.0f}"]
        for part in parts:
            row = part["rows"][n]
            cells += [
                interval(row["accuracy"], 100, ".1f"),
                f"{interval(row['gap'], 100, '.1f')} ({100 * row['chance']:.1f})",
            ]
        rows.append(cells)
    s, biased = held["settings"], parts[0]
    bias = s.get("bias", "colour")
    described = _DATA[bias].format(s["data"], biased["train"], s["ipc"], biased["test"], 100 * biased["ratio"])
    said = (
        f"{described} Means of {s['seeds']} seeds with 95 % intervals (Student's t), each with its "
        f"own {bias}s, set and {s['students']} students ({s['network']}, {s['steps']} updates, {s['full_steps']} on "
        f"all data); dm: {s['iterations']} steps. Gap: equalised odds in points. {held['machine']['processor']}, one "
        f"thread, torch {held['machine']['torch']}. `benchmarks/trust/fairness.py`"
    )
    compared = [_pairs(part, part["pairs"] if n == 0 else [p for p in part["pairs"] if p["other"] == "dm"])
                for n, part in enumerate(parts)]  # fmt: skip
    return "\n\n".join([table(head, rows), said, " ".join(compared)])


def _pairs(part: Mapping[str, Any], pairs: Sequence[Mapping[str, Any]]) -> str:
    found = [
        f"{pair['row']} minus {pair['other']}: accuracy {interval(pair['accuracy'], 100, '+.1f')}, gap "
        f"{interval(pair['gap'], 100, '+.1f')}"
        for pair in pairs
    ]
    return f"At {100 * part['ratio']:g} %, by seed: {'; '.join(found)}."
