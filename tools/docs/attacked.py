"""Accuracy of small sets under attack: benchmarks/trust/robustness.py."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tools.docs.parts import interval, table

__all__ = ["attacked"]


def attacked(root: Path) -> str:
    """A row for each training set, beside accuracy without attack."""
    path = root / "results" / "trust" / "robustness.json"
    if not path.exists():
        return "Nothing has been measured yet."
    held = json.loads(path.read_text(encoding="utf-8"))
    s = held["settings"]
    head: list[object] = [
        "training set of the students", "bytes", "no attack", "2/255", "8/255", "right answers that stay right, 8/255",
        "AutoAttack, 2/255", "AutoAttack, 8/255 (ours on the same)",
    ]  # fmt: skip
    rows: list[list[object]] = [
        [
            row["row"], "" if row["bytes"] is None else f"{row['bytes']:,.0f}",
            *(interval(row[key], 100, ".1f") for key in ("clean", "ours 2", "ours 8", "kept 8", "autoattack 2")),
            f"{interval(row['autoattack 8'], 100, '.1f')} ({100 * row['ours, few 8']['mean']:.1f})",
        ]
        for row in held["rows"]
    ]  # fmt: skip
    plain = {name: how for name, how in s["rows"].items() if not {"regularizer", "adversary"} & how.keys()}
    steps = ", ".join(f"{name} {how['steps']}" for name, how in plain.items() if "steps" in how)
    largest = max(100 * row["large"]["mean"] for row in held["rows"])
    said = (
        f"{s['data']}, {s['ipc']} items per class, accuracy in percent at L∞ radii. Means of {s['seeds']} seeds with "
        f"95 % intervals (Student's t), each with its own set and {s['students']} students ({s['network']}, "
        f"{s['steps']} updates, {s['full_steps']} on all data), on {s['pictures']} test pictures: right under FGSM, "
        f"PGD, PGD on the margin and random search alike; AutoAttack on {s['few']} of them. PGD at 0.5 leaves "
        f"{largest:.1f} % at most. Steps of the methods: {steps}. `dsa` took the place of `m3d` after a look at test "
        f"accuracy, 12.5 % in so few steps. {held['machine']['processor']}, one thread, torch "
        f"{held['machine']['torch']}, {held['seconds'] / 60:.0f} minutes. `benchmarks/trust/robustness.py`"
    )
    random = "random real samples"
    pairs = "; ".join(_pair(pair) for pair in held["pairs"] if pair["other"] == random)
    found = [table(head, rows), said, f"Minus random real samples, by seed, at 8/255: {pairs}."]
    if others := [pair for pair in held["pairs"] if pair["other"] != random]:
        found.append(
            f"Minus the row named, by seed, at 8/255: {'; '.join(_pair(pair, named=True) for pair in others)}."
        )
    return "\n\n".join(found)


def _pair(pair: Mapping[str, Any], *, named: bool = False) -> str:
    name = f"{pair['row']}, minus {pair['other']}," if named else pair["row"]
    return (
        f"{name} {interval(pair['ours 8'], 100, '+.1f')} under attack, {interval(pair['clean'], 100, '+.1f')} without"
    )
