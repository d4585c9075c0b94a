"""What sets of other kinds of data are worth: benchmarks/kinds.py."""

import json
from pathlib import Path
from statistics import fmean
from typing import Any

from potstill.evaluation.statistics import summary
from tools.docs.parts import table

__all__ = ["kinds"]


def _three(values: list[float]) -> str:
    return f"{fmean(values):.4g} ({', '.join(f'{v:.3g}' for v in values)})"


def _gap(own: list[float], other: list[float]) -> str:
    """The difference, paired by set, with Student's t over sets."""
    found = summary([a - b for a, b in zip(own, other, strict=True)])
    ends = found["ci95"]
    return f"{found['mean']:+.3g}" + ("" if ends is None else f" [{ends[0]:+.3g}, {ends[1]:+.3g}]")


def kinds(root: Path) -> str:
    """A row for each kind, learner and method: the mean over sets and each of them."""
    path = root / "results" / "kinds.json"
    if not path.exists():
        return "Nothing has been measured yet."
    held = json.loads(path.read_text(encoding="utf-8"))
    rows: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    sizes: dict[tuple[str, str], list[int]] = {}
    for key, cell in held["cells"].items():
        kind, method, _ = key.split()
        sizes.setdefault((kind, method), []).append(cell["bytes"])
        for learner, found in cell["learners"].items():
            rows.setdefault((kind, learner, method), []).append(found)
    shown: list[list[object]] = []
    for (kind, learner, method), found in sorted(rows.items(), key=lambda r: r[0][:2]):
        metric, same = found[0]["score"], [f["baselines"]["random"]["mean"] for f in found]
        full = [f["full"]["mean"] for f in found if f["full"] is not None]
        shown.append([
            kind, learner, f"{metric['metric']}, {metric['direction']} is better", f"`{method}`",
            _three([f["score"]["mean"] for f in found]), _three(same), _gap([f["score"]["mean"] for f in found], same),
            _three(full) if full else "",
            f"{max(sizes[kind, method]):,}",
        ])  # fmt: skip
    head: list[object] = [
        "data",
        "learner",
        "score",
        "method",
        "its sets",
        "random, same bytes",
        "difference",
        "full data",
        "bytes",
    ]
    machine = held["machine"]
    said = (
        "Mean over sets, and each in brackets; differences are paired by set, with 95 % intervals of Student's t: "
        "wide, as sets are few. 3 students a set (a learner that draws nothing is fitted once), by protocol "
        "`potstill`; pairs: 2 sets × 2 students, shortened. Penguins' body mass (342 rows), hourly water flow (1,268 "
        "points in time), 1,911 emoji with their names at 32 × 32. Settings were not searched; dc's rate is a "
        "tenth of the published one, at which it diverged on the table. "
        f"{machine['processor']}, torch {machine['torch']}. `benchmarks/kinds.py`"
    )
    return f"{table(head, shown)}\n\n{said}"
