"""A generator as the set: benchmarks/generator_as_set.py."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tools.docs.frontier import NAMES
from tools.docs.parts import interval, table

__all__ = ["generator_set"]

WORDS = {
    "start 500": "the generator as it starts, 500 drawn", "dm 10": "after `dm`, 10 drawn",
    "dm 50": "after `dm`, 50 drawn", "dm 500": "after `dm`, 500 drawn", "real": "coded real pictures (`--method real`)",
}  # fmt: skip


def generator_set(root: Path) -> str:
    """A table for each data set and budget, a row for each way."""
    path = root / "results" / "generator_as_set.json"
    if not path.exists():
        return "Nothing has been measured yet."
    held = json.loads(path.read_text(encoding="utf-8"))
    blocks = [_block(part) for part in held["data"].values()]
    students = sorted({part["students"] for part in held["data"].values()})
    about = (
        "Test accuracy in percent: means over sets with 95 % intervals (Student's t), students of 600 updates "
        f"({' or '.join(map(str, students))} a set); minus the start, minus real: the difference in pairs and its "
        "interval. *Drawn* is per class. More budgets: [bytes](../benchmarks/bytes.md). "
        "Training of the generator before the first step is not in the bytes and takes "
        f"about half a minute. {held['machine']['processor']}, torch {held['machine']['torch']}. "
        "`benchmarks/generator_as_set.py`"
    )
    return "\n\n".join([*blocks, about])


def _gap(row: Mapping[str, Any], key: str, network: str) -> str:
    """Return a difference and its interval; empty where there is none."""
    gap = row.get(key, {}).get(network)
    if gap is None:
        return ""
    return "{:+.1f} [{:+.1f}, {:+.1f}]".format(*(100 * value for value in (gap["mean"], *gap["ci95"])))


def _block(part: Mapping[str, Any]) -> str:
    networks = list(next(iter(part["rows"].values()))["scores"])
    head: list[object] = ["way", "bytes", "pictures"]
    head += [cell for n in networks for cell in (f"`{n}`", "minus the start", "minus real")]
    rows: list[list[object]] = []
    for row, of in part["rows"].items():
        cells: list[object] = [WORDS[row], f"{of['bytes']:,.0f}", f"{of['items']:,.0f}"]
        for n in networks:
            cells += [interval(of["scores"][n], 100, ".1f"), *(_gap(of, key, n) for key in ("over start", "over real"))]
        rows.append(cells)
    n = next(iter(part["rows"].values()))["scores"][networks[0]]["n"]
    title = f"**{NAMES.get(part['name'], part['name'])}, {part['budget']:,} bytes, n = {n} sets**"
    return f"{title}\n\n{table(head, rows)}"
