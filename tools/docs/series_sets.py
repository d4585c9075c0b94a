"""One learned series beside real windows in the same bytes: benchmarks/series.py."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tools.docs.parts import table

__all__ = ["series_sets"]


def series_sets(root: Path) -> str:
    """A table for each series, with forecasts that learn nothing and all windows, and how it was measured."""
    path = root / "results" / "series.json"
    if not path.exists():
        return "Nothing has been measured yet."
    held = json.loads(path.read_text(encoding="utf-8"))
    parts = [_part(part) for part in held["parts"]]
    parts.append(
        f"Mean squared errors of standardised values on the last fifth of the time, less is better: means over "
        f"{held['seeds']} sets with Student's t intervals, {held['students']} students where a learner draws. Windows "
        f"and points were set before anything was measured. {held['machine']['processor']}, one thread. "
        "`benchmarks/series.py`"
    )
    return "\n\n".join(parts)


def _part(part: Mapping[str, Any]) -> str:
    s, learners = part["settings"], list(part["full"]["scores"])
    rows: list[list[object]] = []
    for row in part["rows"]:
        if "reason" in row:
            rows.append([row["row"], "none fits", *[""] * (len(learners) + 1)])
            continue
        rows.append(
            [
                row["row"],
                f"{row['bytes']:,.0f}",
                f"{row['items']:,}",
                *(_error(row["scores"][n]) if n in row["scores"] else "" for n in learners),
            ]
        )
    rows.append(["all windows", "", f"{part['train']:,}", *(f"{part['full']['scores'][n]:.3f}" for n in learners)])
    naive = ", ".join(f"{name} {value:.3f}" for name, value in part["full"]["naive"].items())
    heading = (
        f"**{part['name']}**: windows of {s['window']}, {s['horizon']} values to come, a series of {s['length']} "
        f"points. Without learning: {naive}. {_models(part)}{_against(part)}"
    )
    return "\n\n".join([heading, table(["set", "bytes", "windows", *learners], rows)])


def _models(part: Mapping[str, Any]) -> str:
    """Return the errors of models that are fitted to the whole series."""
    shown = [
        f"{name} {v['score']:.3f} ({'; '.join(dict.fromkeys(v['models']))})"
        for name, v in part.get("yardsticks", {}).items()
    ]
    return f"Fitted to the whole training series: {', '.join(shown)}. " if shown else ""


def _error(value: Mapping[str, Any]) -> str:
    ci = value["ci95"]
    return f"{value['mean']:.3f}" + ("" if ci is None else f" [{ci[0]:.3f}, {ci[1]:.3f}]")


def _against(part: Mapping[str, Any]) -> str:
    """Return by how much the learned series is above all windows, and below the best real ones."""
    full = part["full"]["scores"]
    sentences = []
    for name in ("kip, series", "condtsf, series"):
        first = next((row["scores"] for row in part["rows"] if row["row"] == name), None)
        if first is not None:
            over = ", ".join(f"{100 * (first[n]['mean'] / full[n] - 1):+.0f} % ({n})" for n in full if n in first)
            sentences.append(f"By {name.partition(',')[0]}, over the error of all windows: {over}.")
    gaps = []
    for pair in part["pairs"]:
        gap = pair["difference"]
        ci = gap["ci95"]
        gaps.append(
            f"{gap['mean']:+.3f}" + ("" if ci is None else f" [{ci[0]:+.3f}, {ci[1]:+.3f}]") + f" ({pair['learner']})"
        )
    return " ".join([*sentences, f"By kip minus the best real windows: {', '.join(gaps)}."])
