"""One learned series beside real windows in the same bytes: benchmarks/series.py, …_chosen.py and …_horizons.py."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tools.docs.parts import table

__all__ = ["series_sets"]

CLAIM = 1.1
"""Error over that of all windows that is to be reached: `benchmarks/series_chosen.py`."""


def series_sets(root: Path) -> str:
    """A table for each series, with forecasts that learn nothing and all windows, and how it was measured."""
    path = root / "results" / "series.json"
    if not path.exists():
        return "Nothing has been measured yet."
    held = json.loads(path.read_text(encoding="utf-8"))
    chosen = {part["name"]: part for part in _read(root, "series_chosen").get("parts", ())}
    parts = [_part(part, chosen.get(part["name"])) for part in held["parts"]]
    parts.append(
        f"Mean squared errors of standardised values on the last fifth of the time, less is better: means over "
        f"{held['seeds']} sets with Student's t intervals, {held['students']} students where a learner draws. Windows "
        f"and points were set before anything was measured. {held['machine']['processor']}, one thread. "
        "`benchmarks/series.py`. The rows chosen beforehand: `benchmarks/series_chosen.py`, where the rule stands."
    )
    return "\n\n".join([*parts, *_horizons(_read(root, "series_horizons"))])


def _read(root: Path, name: str) -> Mapping[str, Any]:
    path = root / "results" / f"{name}.json"
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else {}


def _part(part: Mapping[str, Any], chosen: Mapping[str, Any] | None) -> str:
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
    if chosen is not None:
        test, way = chosen["test"], chosen["choice"]["chosen"]
        found = test["scores"]["chosen"]
        rows.insert(0, [
            f"**chosen beforehand**: {way['method']}, {way['points']} points", f"{test['bytes']['chosen']:,.0f}",
            f"{test['items']['chosen']:,}", *(_error(found[n]) if n in found else "" for n in learners),
        ])  # fmt: skip
    rows.append(["all windows", "", f"{part['train']:,}", *(f"{part['full']['scores'][n]:.3f}" for n in learners)])
    naive = ", ".join(f"{name} {value:.3f}" for name, value in part["full"]["naive"].items())
    heading = (
        f"**{part['name']}**: windows of {s['window']}, {s['horizon']} values to come, a series of {s['length']} "
        f"points. Without learning: {naive}. {_models(part)}{_against(part)}"
        f"{'' if chosen is None else ' ' + _beforehand(chosen)}"
    )
    return "\n\n".join([heading, table(["set", "bytes", "windows", *learners], rows)])


def _beforehand(chosen: Mapping[str, Any]) -> str:
    """Return what was chosen on held-out training windows, and by how much it is above all windows on test data."""
    way, over = chosen["choice"]["chosen"], chosen["test"]["over"]
    shares = ", ".join(f"{100 * (v - 1):+.0f} % ({n})" for n, v in over.items())
    gaps = ", ".join(f"{_gap(gap)} ({n})" for n, gap in chosen["test"]["difference"].items())
    within = [n for n, v in over.items() if v <= CLAIM]
    result = {0: "within 10 % for none", len(over): "within 10 % for all"}.get(
        len(within), f"within 10 % for {', '.join(within)} alone"
    )
    return (
        f"Chosen on {chosen['choice']['windows']} held-out training windows: {way['method']} with {way['points']} "
        f"points{'' if chosen['choice']['reached'] else ', the nearest, as none came within 5 %'}, over the error of "
        f"all windows {shares}: {result}. Minus the best real windows of its bytes: {gaps}."
    )


def _gap(gap: Mapping[str, Any]) -> str:
    ci = gap["ci95"]
    return f"{gap['mean']:+.3f}" + ("" if ci is None else f" [{ci[0]:+.3f}, {ci[1]:+.3f}]")


def _horizons(held: Mapping[str, Any]) -> list[str]:
    """Return the table of one learned series at several horizons, if that was measured."""
    if not held.get("parts"):
        return []
    made = f"made for {held['made']}"
    rows: list[list[object]] = []
    for part in held["parts"]:
        for at in part["horizons"]:
            for learner in at["full"]:
                cells = [at["rows"].get(row) for row in (made, "made for it", "best real windows")]
                rows.append([
                    f"{part['name']}, {part['points']} points", at["horizon"], learner,
                    *("" if c is None else _error(c[learner]) for c in cells), f"{at['full'][learner]:.3f}",
                ])  # fmt: skip
    head = ["series", "to come", "learner", f"`kip`, {made}", "`kip`, made for it", "best real windows", "all windows"]
    text = (
        "Other horizons: the same file, series of as many points that were made for that horizon, and the best real "
        f"windows of its bytes at it; {held['seeds']} sets, {held['students']} students of `mlp`. "
        "`benchmarks/series_horizons.py`"
    )
    return [table(head, rows), text]


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
    gaps = [f"{_gap(pair['difference'])} ({pair['learner']})" for pair in part["pairs"]]
    return " ".join([*sentences, f"By kip minus the best real windows: {', '.join(gaps)}."])
