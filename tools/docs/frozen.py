"""What sets for a linear classifier of a frozen backbone are worth: benchmarks/frozen.py."""

import json
from pathlib import Path
from typing import Any

from potstill.evaluation.statistics import summary
from tools.docs.parts import table

__all__ = ["frozen"]


def frozen(root: Path) -> str:
    """A row for each method: the mean over sets, each of them, and the difference to random ones."""
    path = root / "results" / "frozen.json"
    if not path.exists():
        return "Nothing has been measured yet."
    held = json.loads(path.read_text(encoding="utf-8"))
    rows: dict[str, list[dict[str, Any]]] = {}
    for key, cell in held["cells"].items():
        rows.setdefault(key.partition(" ")[0], []).append(cell)
    means = {row: [100 * c["score"]["mean"] for c in cells] for row, cells in rows.items()}
    shown: list[list[object]] = []
    for row, found in means.items():
        gap = ""
        if row != "random" and len(found) == len(means["random"]):
            difference = summary([a - b for a, b in zip(found, means["random"], strict=True)])
            ends = difference["ci95"]
            gap = f"{difference['mean']:+.1f}" + ("" if ends is None else f" [{ends[0]:+.1f}, {ends[1]:+.1f}]")
        seconds = sum(c["seconds"] for c in rows[row]) / len(found)
        mean = f"{sum(found) / len(found):.1f} ({', '.join(f'{v:.1f}' for v in found)})"
        shown.append([f"`{row}`", mean, gap, f"{seconds:.0f}"])
    train, test = held["pictures"]
    machine = held["machine"]
    said = (
        f"Accuracy in percent of a linear classifier of {held['network']}, trained on one 32 × 32 picture of each of "
        f"ten classes: mean over at most {max(map(len, means.values()))} sets and each of them; differences to random "
        "ones are paired by set, with 95 % intervals of Student's t. `photo-patches`, "
        f"{train} pictures of each class to train with and {test} to test. Logistic regression on the features of all "
        f"{train * 10:,} gets {100 * held['whole']:.1f}. {machine['processor']}, one thread, torch {machine['torch']}. "
        "`benchmarks/frozen.py`"
    )
    return f"{table(['method', 'its sets', 'difference to random', 'seconds of a core'], shown)}\n\n{said}"
