"""How strong small sets are by the seconds they get: benchmarks/strong.py."""

import json
from pathlib import Path
from statistics import fmean
from typing import Any

from tools.docs.parts import mean_and_half, table

__all__ = ["SIZES", "longest_cells", "strong", "strong_best", "strong_few"]

_ERA = "float-era: before entropy coding"
_OWN, _LONG = "potstill-short", "potstill-long"
_NAMES = {
    "fashion-mnist-ipc1": "Fashion-MNIST, 31,440 bytes",
    "fashion-mnist-ipc10": "Fashion-MNIST, 314,400 bytes",
    "fashion-mnist-true31440": "Fashion-MNIST, 31,440 true bytes",
    "fashion-mnist-ipc50": "Fashion-MNIST, 1,572,000 bytes",
    "fashion-mnist-true3930": "Fashion-MNIST, 3,930 true bytes",
    "fashion-mnist-true39300": "Fashion-MNIST, 39,300 true bytes",
    "fashion-mnist-true196500": "Fashion-MNIST, 196,500 true bytes",
    "fashion-mnist-true314400": "Fashion-MNIST, 314,400 true bytes",
    "fashion-mnist-true1572000": "Fashion-MNIST, 1,572,000 true bytes",
    "mnist-ipc1": "MNIST (60,000), 31,440 bytes",
    "mnist-ipc10": "MNIST (60,000), 314,400 bytes",
    "mnist-ipc50": "MNIST (60,000), 1,572,000 bytes",
    "mnist-true3930": "MNIST (60,000), 3,930 true bytes",
    "mnist-true39300": "MNIST (60,000), 39,300 true bytes",
    "mnist-true31440": "MNIST (60,000), 31,440 true bytes",
    "mnist-true196500": "MNIST (60,000), 196,500 true bytes",
    "mnist-true314400": "MNIST (60,000), 314,400 true bytes",
    "mnist-true1572000": "MNIST (60,000), 1,572,000 true bytes",
    "mnist-5k-ipc1": "MNIST-5k, 31,440 bytes",
    "mnist-5k-true3930": "MNIST-5k, 3,930 true bytes",
}


def _cells(root: Path) -> dict[str, tuple[dict[str, Any], list[dict[str, Any]]]]:
    """What was measured on test data, by data and bytes: the machine, and the cells."""
    found: dict[str, tuple[dict[str, Any], list[dict[str, Any]]]] = {}
    for path in sorted((root / "results" / "strong").glob("*.json")):
        held = json.loads(path.read_text(encoding="utf-8"))
        found[path.stem] = held["machine"], [c for c in held["cells"].values() if c["where"] == "test"]
    return found


def _by_set(cell: dict[str, Any]) -> str:
    return " ".join(f"{100 * fmean(values):.1f}" for values in cell["values_of_sets"])


def strong(root: Path) -> str:
    """A table for each data set and size: what was made, in how many seconds, and what students reach."""
    parts: list[str] = []
    note = ""
    for name, (machine, cells) in _cells(root).items():
        of = [c for c in cells if c["network"].endswith("w128") and c["protocol"] == _OWN]
        if not of:
            continue  # measured by other protocols alone
        rows: list[list[object]] = [
            [
                f"`{c['arm']}`", c["inputs"], f"{c['bytes']['total']:,}",
                f"{c['seconds_asked']:g}" if c["seconds_asked"] else "—",
                f"{fmean(c['seconds']):,.0f}" if c["seconds_asked"] and c.get("seconds") else "—",
                f"{c['preparation_seconds']:,.0f}" if c["preparation_seconds"] else "",
                c["made_in"].rpartition("-")[2] or "—", mean_and_half(c["accuracy"]), _by_set(c), c["students"],
            ]
            for c in sorted(of, key=lambda c: -float(c["accuracy"]["mean"]))
        ]  # fmt: skip
        head: list[object] = [
            "arm", "inputs", "bytes", "seconds asked", "by the clock, s", "beforehand, s", "made in width",
            "accuracy, %", "each set", "students a set",
        ]  # fmt: skip
        note = (
            "± is half of a 95 % interval over means of sets (Student's t), sampling of the test data in it; sets are "
            "few, so it is wide. Seconds asked decide the number of steps, by what a step took when it was timed; by "
            "the clock: what they then took, mean over sets. Beforehand: by the clock, once for all sets. Other work "
            "was on the machine. "
            f"{machine['processor']}, one thread a run, torch {machine['torch']}."
        )
        parts.append(f"**{_NAMES.get(name, name)} ({_ERA})**\n\n{table(head, rows)}")
    return "\n\n".join([*parts, note]) if parts else "Nothing has been measured yet."


def strong_few(root: Path) -> str:
    """Tables of `strong` of the fewest bytes of Fashion-MNIST: the three highest means, and real samples."""
    parts = strong(root).split("\n\n")
    shown = []
    for at, part in enumerate(parts):
        if part.startswith(tuple(f"**{_NAMES[name]}" for name in _SHOWN)):
            head, rule, *rows = parts[at + 1].splitlines()
            kept = [row for n, row in enumerate(rows) if n < 3 or row.startswith(("| `random", "| `k-means"))]
            shown.append("\n".join([part, "", head, rule, *kept]))
    return "\n\n".join([*shown, parts[-1]])


_SHOWN = ("fashion-mnist-ipc1", "fashion-mnist-true3930")


_PUBLISHED = {
    ("fashion-mnist", 1): ("FreD 84.6", "IDC 81.0"),
    ("fashion-mnist", 10): ("FreD 89.1", "DANCE 86.3"),
    ("fashion-mnist", 50): ("IDC, plain, 89.1", "DSA 88.7"),
    ("mnist", 1): ("FreD 95.8", "IDC 94.2"),
    ("mnist", 10): ("IDC 98.4",),
    ("mnist", 50): ("DSA 99.2",),
}
"""Highest figures whose source was read, in float32 pictures: docs/benchmarks/strong.md, "Beside published figures"."""
SIZES = {key: float(published[0].split()[-1]) for key, published in _PUBLISHED.items()}
"""The best of these in per cent, by data set and pictures per class."""
_OURS = {1: "frepo-frequency", 10: ("ncfm-frequency160", "rfad-frequency160"), 50: "rfad-frequency256"}
"""What stands for ours at each size: the arm that was given the most time, not the one that scored best."""
_REAL = {1: "random-frequency", 10: "random-frequency160", 50: "random-frequency256"}


def _longest(cells: list[dict[str, Any]], arms: str | tuple[str, ...]) -> dict[str, Any]:
    """The cell of the first of these arms that there is: made longest; students of 1,200 updates, else of 300."""
    for arm in (arms,) if isinstance(arms, str) else arms:
        own = [c for c in cells if c["arm"] == arm and c["network"].endswith("w128") and c["protocol"] in (_OWN, _LONG)]
        if own:
            return max(own, key=lambda c: (c["seconds_asked"], c["protocol"] != _OWN))
    return {}


def longest_cells(root: Path, data: str, n: int) -> dict[str, dict[str, Any]]:
    """Cells of a data set at the bytes of ``n`` float32 pictures a class; empty where nothing was measured.

    Keys: ``ours``, ``start`` (what it began as), ``two bits`` (real pictures in those true bytes), ``eighth`` (ours in
    an eighth of them) and ``eighth two bits``.
    """
    found = _cells(root)
    same, true, eighth = (
        found.get(f"{data}-{size}", ({}, []))[1] for size in (f"ipc{n}", f"true{31440 * n}", f"true{3930 * n}")
    )
    return {
        "ours": _longest(same, _OURS[n]), "start": _longest(same, _REAL[n]), "two bits": _longest(true, "random-2bits"),
        "eighth": _longest(eighth, ("rfad-frequency256", "rfad-frequency160", _OURS[1])),
        "eighth two bits": _longest(eighth, "random-2bits"),
    }  # fmt: skip


def _said(cell: dict[str, Any]) -> str:
    """A cell's accuracy, its sets and students, and the minutes that it was given."""
    if not cell:
        return ""
    took = f", {cell['seconds_asked'] / 60:g} min" if cell["seconds_asked"] else ""
    return f"{mean_and_half(cell['accuracy'])}<br>({len(cell['values_of_sets'])}×{cell['students']}{took})"


def strong_best(root: Path) -> str:
    """By data and size: published figures, our set in the same bytes, and real samples in them, in three forms."""
    rows: list[list[object]] = []
    for (data, n), published in _PUBLISHED.items():
        cells = longest_cells(root, data, n)
        order = ("ours", "start", "two bits", "eighth", "eighth two bits")
        rows.append([data, n, "; ".join(published), *(_said(cells[key]) for key in order)])
    head: list[object] = ["data", "a class", "published", "ours", "its start", "2 bits", "ours, ⅛", "2 bits, ⅛"]
    return table(head, rows)
