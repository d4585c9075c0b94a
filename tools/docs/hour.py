"""Rows of `benchmarks/hour.py`: what an hour makes of a set at 4 kB, and what stops it."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from potstill.evaluation.statistics import difference, summary

__all__ = ["ablation"]

NETWORKS = {"convnet-d3-w32": "width 32", "convnet-d3-w128": "width 128"}


def ablation(root: Path) -> str:
    """Return the table of arms, seconds and both widths, of every data set that was measured."""
    rows: list[str] = []
    said: list[str] = []
    for path in sorted((root / "results/hour").glob("*.json")):
        found = json.loads(path.read_text())
        rows += [*_real(found), *_arms(found)]
        said += _differences(found, found)
        if (long := path.parent / "long" / path.name).exists():
            in_steps = json.loads(long.read_text())
            rows += _arms(in_steps, in_steps=True)
            said += _differences(found, in_steps, unit=" steps")
    head = ["data", "set", "seconds", "items", "bytes", *NETWORKS.values()]
    about = "Minus coded real samples, in points with 95 % intervals of Welch's t over sets, three at least: "
    return "\n".join(
        [_row(head), _row(["---"] * len(head)), *rows, *(["", about + "; ".join(said) + "."] if said else [])]
    )


def _differences(found: dict[str, Any], made: dict[str, Any], unit: str = " seconds") -> list[str]:
    """Differences of arms with three sets or more from the real samples of ``found``, each in words."""
    sets: dict[tuple[str, str, str], list[float]] = {}
    for key, cell in made["cells"].items():
        if not key.startswith("real|"):
            arm, length, _, network = key.split("|")
            sets.setdefault((arm, length, network), []).append(cell["accuracy"])
    said = []
    for (arm, length, network), values in sets.items():
        real = found["cells"].get(f"real|{network}")
        if real is None or len(values) < 3:
            continue
        gap = difference(values, real["sets"])
        low, high = gap["ci95"]
        said.append(
            f"`{arm}`, {int(length):,}{unit}, {NETWORKS[network]} {100 * gap['mean']:+.1f} "
            f"[{100 * low:+.1f}, {100 * high:+.1f}]"
        )
    return said


def _real(found: dict[str, Any]) -> list[str]:
    cells = [found["cells"].get(f"real|{network}") for network in NETWORKS]
    if not any(cells):
        return []
    ways = [f"{c['selection']}, `{c['codec']}`, {c['labels']}" for c in cells if c]
    sizes = [[f"{c[name]:,}" for c in cells if c] for name in ("items", "bytes")]
    return [_row([
        found["data"], "real: " + "; ".join(dict.fromkeys(ways)), "", *("; ".join(dict.fromkeys(s)) for s in sizes),
        *(_mean(c["sets"]) if c else "" for c in cells),
    ])]  # fmt: skip


def _arms(found: dict[str, Any], *, in_steps: bool = False) -> list[str]:
    """Rows by arm and seconds; ``in_steps``: keys have steps, and the seconds are what these took."""
    sets: dict[tuple[str, int], dict[str, list[dict[str, Any]]]] = {}
    for key, cell in found["cells"].items():
        if not key.startswith("real|"):
            arm, seconds, _, network = key.split("|")
            sets.setdefault((arm, int(seconds)), {}).setdefault(network, []).append(cell)
    rows = []
    for (arm, seconds), widths in sorted(sets.items(), key=lambda item: (item[0][0] != "base", *item[0])):
        first = next(iter(widths.values()))
        length = f"{seconds:,} steps, {_clock(first)} s" if in_steps else f"{seconds:,}"
        rows.append(_row([
            found["data"], f"`{arm}`", length, f"{first[0]['items']:,}",
            f"{round(np.mean([c['bytes'] for c in first])):,}",
            *(_mean([c["accuracy"] for c in widths[n]]) if n in widths else "" for n in NETWORKS),
        ]))  # fmt: skip
    return rows


def _clock(cells: list[dict[str, Any]]) -> str:
    return f"{np.mean([cell['clock'] for cell in cells]):.0f}"


def _mean(values: list[float]) -> str:
    if len(values) == 1:
        return f"{100 * values[0]:.1f}"
    found = summary(values)
    low, high = found["ci95"]
    return f"{100 * found['mean']:.1f} ± {50 * (high - low):.1f} ({len(values)})"


def _row(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"
