"""What `--method auto` loses against a full grid: benchmarks/auto.py."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from potstill.evaluation.candidate_trials import AccuracyLoss, paired_loss
from potstill.evaluation.statistics import summary
from tools.docs.parts import table

__all__ = ["auto", "fair_gaps", "mended", "repeated_gaps", "unseen"]


def auto(root: Path) -> str:
    """A row for each data set: the grid's best, the gap to what auto chose, how often that is worse, and the time."""
    shown: list[list[object]] = []
    machine: dict[str, Any] = {}
    for found, gaps, whole in repeated_gaps(root):
        machine = found["machine"]
        grid = _grid(found)
        means = {name: float(right.mean()) for name, right in grid.items()}
        best = max(means, key=lambda name: means[name])
        chosen = [_right(found, cell) for cell in found["auto"].values()]
        fair = [100 * _fair(grid, right) for right in chosen]
        spent = sum(cell["seconds"] for cell in found["grid"].values())
        share = sum(cell["seconds"] for cell in found["auto"].values()) / len(gaps) / spent
        real = sum(cell["answer"] == "real" for cell in found["auto"].values())
        shown.append(
            [
                f"{found['data']}, {found['bytes']:,} bytes", f"{len(found['grid'])} × {found['seconds']:g} s",
                f"`{best}` {100 * means[best]:.1f}",
                _interval(whole),
                ", ".join(f"{100 * gap.mean:+.1f}" for gap in gaps), f"{sum(fair) / len(fair):+.1f}",
                f"{_worse(gaps)} of {len(gaps)}", f"{real} of {len(gaps)}", f"{share:.2f}",
            ]
        )  # fmt: skip
    if not shown:
        return "Nothing has been measured yet."
    head: list[object] = [
        "data", "the grid's sets", "its best", "gap of auto, points", "of each repeat", "fair gap",
        "significantly worse", "answered with real samples", "its time / the grid's",
    ]  # fmt: skip
    return f"{table(head, shown)}\n\n{machine['processor']}, one thread, torch {machine['torch']}. `benchmarks/auto.py`"


def unseen(root: Path) -> str:
    """A row for each data set that the schedule was not made on: the grid's best, the best real samples, and auto."""
    rows: list[list[object]] = []
    machine: dict[str, Any] = {}
    near = worse = choices = 0
    for found, gaps, whole in repeated_gaps(root, "auto_unseen"):
        machine, grid = found["machine"], _grid(found)
        best, means = _best(grid)
        behind = _behind_real(found)
        near += whole["mean"] <= 1
        worse, choices = worse + _worse(behind), choices + len(gaps)
        rows.append(
            [
                f"{found['data']}, {found['bytes']:,} bytes", f"`{_short(best)}` {means[best]:.1f}",
                f"{means['real']:.1f}", _scores(found), _interval(whole), f"{_worse(gaps)} of {len(gaps)}",
                f"{_worse(behind)} of {len(gaps)}",
                f"{sum(cell['answer'] == 'real' for cell in found['auto'].values())} of {len(gaps)}",
            ]
        )  # fmt: skip
    if not rows:
        return "Nothing has been measured yet."
    head: list[object] = [
        "data", "best of the grid, one set each", "best coded real", "auto, each repeat", "gap to the grid's best",
        "significantly worse than it", "significantly worse than coded real", "answered with real samples",
    ]  # fmt: skip
    return (
        f"{table(head, rows)}\n\n{machine['processor']}, one thread of a busy machine, torch {machine['torch']}. "
        f"`benchmarks/unseen_data.py`, `benchmarks/auto.py`\n\n**The mean gap is at most a point on {near} of "
        f"{len(rows)}; {worse} of {choices} choices are significantly worse than coded real samples.**"
    )


def mended(root: Path) -> str:
    """A row for each data set that was measured again after its losses were looked into, and a sentence on them all."""
    rows: list[list[object]] = []
    again = {found["data"]: (found, whole) for found, _, whole in repeated_gaps(root, "auto_mended")}
    worse = choices = 0
    others = []
    for found, _, whole in repeated_gaps(root, "auto_before"):
        behind = _behind_real(found)
        worse, choices = worse + _worse(behind), choices + len(behind)
        if found["data"] not in again:
            others.append(f"`{found['data']}`")
            continue
        now, gap = again[found["data"]]
        cells = [
            [_scores(of), _interval(of_all), f"{_worse(_behind_real(of))} of {len(of['auto'])}"]
            for of, of_all in ((found, whole), (now, gap))
        ]
        rows.append([f"{found['data']}, {found['bytes']:,} bytes", *cells[0], *cells[1]])
    if not rows:
        return "Nothing has been measured yet."
    head: list[object] = ["data"]
    for when in ("before", "now"):
        head += [f"auto {when}", f"gap to the grid's best {when}", f"significantly worse than coded real {when}"]
    return (
        f"{table(head, rows)}\n\nBefore, {worse} of {choices} choices on {len(rows) + len(others)} sets were "
        f"significantly worse than coded real samples. Not measured again: {', '.join(others)}."
    )


def _best(grid: dict[str, torch.Tensor]) -> tuple[str, dict[str, float]]:
    """The grid's best way, and the mean of each in points."""
    means = {name: 100 * float(right.mean()) for name, right in grid.items()}
    return max(means, key=lambda name: means[name]), means


def _short(name: str) -> str:
    """A candidate without its settings, but for what it is made over."""
    method, _, rest = name.partition(":")
    over = rest.partition("/")[2].partition("%")[0].partition(":")[0]
    return f"{method}/{over}" if over else method


def _scores(found: dict[str, Any]) -> str:
    return ", ".join(f"{100 * float(cell['accuracy']):.1f}" for cell in found["auto"].values())


def _behind_real(found: dict[str, Any]) -> list[AccuracyLoss]:
    """The gap of each choice to the grid's coded real samples."""
    real = _grid(found)["real"]
    return [paired_loss(real, _right(found, cell), confidence=0.975) for cell in found["auto"].values()]


def _interval(whole: dict[str, Any]) -> str:
    ends = whole["ci95"]
    return f"{whole['mean']:+.1f}" + ("" if ends is None else f" [{ends[0]:+.1f}, {ends[1]:+.1f}]")


def repeated_gaps(root: Path, folder: str = "auto") -> list[tuple[dict[str, Any], list[AccuracyLoss], dict[str, Any]]]:
    """Of each data set the file, the gap of each repeat, and their mean in points with its interval."""
    measured = []
    for path in sorted((root / "results" / folder).glob("*.json")):
        found = json.loads(path.read_text(encoding="utf-8"))
        if found["auto"]:
            grid = _grid(found)
            best = max(grid, key=lambda name: float(grid[name].mean()))
            gaps = [paired_loss(grid[best], _right(found, cell), confidence=0.975) for cell in found["auto"].values()]
            measured.append((found, gaps, summary([100 * gap.mean for gap in gaps])))
    return measured


def fair_gaps(root: Path) -> list[float]:
    """Of each data set the mean gap in points, where other samples picked the grid's best."""
    of = [(_grid(found), [_right(found, cell) for cell in found["auto"].values()]) for found, *_ in repeated_gaps(root)]
    return [100 * sum(_fair(grid, right) for right in chosen) / len(chosen) for grid, chosen in of]


def _right(found: dict[str, Any], cell: dict[str, Any]) -> torch.Tensor:
    if "merits" in cell:
        return torch.tensor(cell["merits"], dtype=torch.float64)
    bits = np.frombuffer(bytes.fromhex(cell["right"]), np.uint8)
    rows, columns = found["students"], found["held"]
    return torch.from_numpy(np.unpackbits(bits, count=rows * columns).reshape(rows, columns)).double()


def _grid(found: dict[str, Any]) -> dict[str, torch.Tensor]:
    """Of each candidate what students got right, the mean of its sets."""
    of: dict[str, list[torch.Tensor]] = {}
    for name, cell in found["grid"].items():
        of.setdefault(name.rpartition(" ")[0], []).append(_right(found, cell))
    return {name: torch.stack(sets).mean(0) for name, sets in of.items()}


def _fair(grid: dict[str, torch.Tensor], chosen: torch.Tensor) -> float:
    """The gap, where one half of the samples says what is best and the other how good it is, both ways."""
    gaps = []
    for half in (0, 1):
        best = max(grid, key=lambda name: float(grid[name][:, half::2].mean()))
        other = 1 - half
        gaps.append(float(grid[best][:, other::2].mean() - chosen[:, other::2].mean()))
    return sum(gaps) / 2


def _worse(gaps: list[AccuracyLoss]) -> int:
    return sum(gap.low > 0 for gap in gaps)
