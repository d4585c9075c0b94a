"""The result of all cells: a row for each way, differences from the set, and what they show."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from potstill.evaluation.statistics import difference, summary

__all__ = ["LABELS", "conclude"]

LABELS = {
    "set": "set, as integers", "real-integers": "real, as integers", "real-coded": "real, coded",
    "model": "quantised model", "all": "all real data", "set-file": "set, as its file",
    "real-file": "real, coded as small",
}  # fmt: skip
"""Rows in order, with what they are called."""
BASELINES = ("real-integers", "real-coded")


def conclude(result: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``rows``, a ``verdict`` and ``sentences`` of a result."""
    tested = result["test_samples"]
    rows = [_row(cell, tested) for cell in result["cells"]]
    by_name = {row["name"]: row for row in rows}
    set_row = by_name["set"]
    for row in rows:
        if "accuracy" in row and row is not set_row:
            base = by_name["set-file"] if row["name"] == "real-file" else set_row
            row["difference"] = difference(base["accuracy"]["values"], row["accuracy"]["values"], tested)
    return {"rows": rows, **_verdict(result, set_row, by_name)}


def _row(cell: Mapping[str, Any], tested: int) -> dict[str, Any]:
    name = cell["name"]
    row = {"name": name, "label": LABELS[name], **{k: v for k, v in cell.items() if k not in ("seeds", "name")}}
    if "reason" in cell:
        return row
    row["accuracy"] = summary([s["accuracy"] for s in cell["seeds"]], tested)
    row["n"] = len(cell["seeds"])
    if name == "model":
        return row
    reached = [s for s in cell["seeds"] if s["updates"] is not None]
    row["reached"] = len(reached)
    if 2 * len(reached) > row["n"]:
        row["updates"] = int(statistics.median(s["updates"] for s in reached))
        row["seconds"] = statistics.median(s["seconds"] for s in reached)
        row["multiply_adds"] = row["updates"] * cell["operations"]
    return row


def _verdict(
    result: Mapping[str, Any], set_row: Mapping[str, Any], rows: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    percent = f"{100 * set_row['accuracy']['mean']:.1f} %"
    target = f"{100 * result['settings']['target']:g} %"
    reached = f"not {target}"
    if (count := set_row.get("updates")) is not None:
        after = f"after {count:,} update{'' if count == 1 else 's'}"
        reached = f"{target} {after}, on training samples that it was made of"
    sentences = [
        f"The set of {set_row['bytes']:,} bytes trains a {result['settings']['head']} head to {percent} ({reached})."
    ]
    real = max((rows[n] for n in BASELINES if "accuracy" in rows.get(n, {})), key=_mean, default=None)
    kind = "untested"
    if real is not None:
        gap = real["difference"]
        kind = _side(gap)
        named = f"the better of real samples in these bytes ({real['label']}, {100 * _mean(real):.1f} %)"
        told = {
            "ahead": f"It beats {named} by {_points(gap)}.",
            "behind": f"It does not beat {named}: it is behind by {_points(gap)}.",
            "untested": f"Two seeds or more would tell it apart from {named}.",
        }
        sentences.append(told.get(kind, f"It is not told apart from {named}: {_points(gap, signed=True)}."))
    model = rows.get("model", {})
    model_kind = None
    if "accuracy" in model:
        model_kind = _side(model["difference"])
        sentences.append(_about_model(model, model_kind))
    if "accuracy" in (coded := rows["real-file"]):
        held, gap = rows["set-file"], coded["difference"]
        sentences.append(
            f"With a decoder on the device, the set's file of {held['bytes']:,} bytes trains to "
            f"{100 * _mean(held):.1f} %, as many bytes of coded real samples to {100 * _mean(coded):.1f} %: "
            f"{_points(gap, signed=True)}."
        )
    program = result.get("program") or {}
    if "gap" in program:
        sentences.append(f"The C program is within {100 * program['gap']:.2f} points of the NumPy learner.")
    return {"verdict": {"kind": kind, "model": model_kind}, "sentences": sentences}


def _about_model(model: Mapping[str, Any], kind: str) -> str:
    reach = f"A quantised model of {model['bytes']:,} bytes has {100 * _mean(model):.1f} % without any training"
    if kind == "ahead":
        return f"{reach}, {_points(model['difference'])} less: the set is better even where nothing else is trained."
    return (
        f"{reach}: ship that where the device only classifies, and a set where it must train itself (other classes, "
        "samples of its own, a head of another kind)."
    )


def _mean(row: Mapping[str, Any]) -> float:
    return float(row["accuracy"]["mean"])


def _side(gap: Mapping[str, Any]) -> str:
    """Return on which side of a baseline the set is: ``ahead``, ``behind``, ``not told apart`` or ``untested``."""
    ci = gap["ci95"]
    if ci is None:
        return "untested"
    return "ahead" if ci[0] > 0 else "behind" if ci[1] < 0 else "not told apart"


def _points(gap: Mapping[str, Any], *, signed: bool = False) -> str:
    ci: Sequence[float] | None = gap["ci95"]
    value = f"{100 * gap['mean']:+.1f}" if signed else f"{100 * abs(gap['mean']):.1f}"
    return f"{value} points" + ("" if ci is None else f" (95% interval {100 * ci[0]:+.1f} to {100 * ci[1]:+.1f})")
