"""Point clouds, a kind from outside: benchmarks/point_clouds.py."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tools.docs.parts import interval, table

__all__ = ["point_clouds"]

_NETWORKS = ("point-net", "edge-net")
_NAMES = {
    "dm": "`dm`", "sorted": "`dm` on sorted features", "sadm": "the same, turned (SADM)",
    "16 points": "real clouds of 16 points", "32 points": "real clouds of 32 points",
}  # fmt: skip


def point_clouds(root: Path) -> str:
    """A table for each number of clouds of a class, a row for each way."""
    path = root / "results" / "point_clouds.json"
    if not path.exists():
        return "Nothing has been measured yet."
    held = json.loads(path.read_text(encoding="utf-8"))
    full = ", ".join(f"{100 * held['full'][n]:.1f} (`{n}`)" for n in _NETWORKS)
    about = (
        f"Test accuracy in percent of generated solids in 8 classes: means of {held['sets']} sets with 95 % intervals "
        f"(Student's t), each the mean of {held['students']} students; minus 32 points: the difference in "
        f"pairs and its interval. All 480 training clouds: {full}. `point-net` was matched, `edge-net` was not. "
        f"{held['machine']['processor']}, torch {held['machine']['torch']}. `benchmarks/point_clouds.py`"
    )
    return "\n\n".join([*(_block(each, rows) for each, rows in held["rows"].items()), about])


def _block(each: str, rows: Mapping[str, Any]) -> str:
    head: list[object] = ["way", "bytes", "clouds"]
    for name in _NETWORKS:
        head += [f"`{name}`", "minus 32 points"]
    cells: list[list[object]] = []
    for row, of in rows.items():
        line: list[object] = [_NAMES.get(row, f"{row} clouds"), f"{of['bytes']:,.0f}", f"{of['items']:,.0f}"]
        for name in _NETWORKS:
            gap = of.get("over 32 points", {}).get(name)
            line += [interval(of["scores"][name], 100, ".1f"), "" if gap is None else interval(gap, 100, "+.1f")]
        cells.append(line)
    tried = "; ".join(
        f"{_NAMES[row]} {', '.join(f'{100 * score:.0f} at {rate}' for rate, score in of['rates'].items())}"
        for row, of in rows.items()
        if "rates" in of
    )
    title = f"**{each} cloud{'' if each == '1' else 's'} of each class**"
    return f"{title}\n\n{table(head, cells)}\n\nOn held-out training clouds, by rate, one set each: {tried}."
