"""Detectors of poison, and how much of a trigger distilling keeps: benchmarks/trust/poisoning.py."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tools.docs.parts import interval, table

__all__ = ["poisoning"]

_NAMES = {
    "inversion": "trigger inversion", "spectral": "spectral signature", "clustering": "activation clustering",
    "agreement": "label agreement", "neighbours": "nearest trusted samples",
    "influence": "influence on trusted samples",
}  # fmt: skip


def poisoning(root: Path) -> str:
    """Return the tables of detectors, and of what is left of the trigger."""
    path = root / "results" / "trust" / "poisoning.json"
    if not path.exists():
        return "Nothing has been measured yet."
    held = json.loads(path.read_text(encoding="utf-8"))
    clean_digits = json.loads((path.parent / "poisoning-thresholds.json").read_text(encoding="utf-8"))
    s, sets = held["settings"], held["sets"]
    detectors = table(
        ["detector", "threshold", "AUC", "AUC where the trigger works", *(f"AUC, {name}" for name in s["methods"]),
         "poisoned sets found", "false alarms"],
        [
            [
                _NAMES[one["detector"]], f"{one['threshold']:g}", _area(one["auc"]), _area(one["auc working"]),
                *(_value(one["by method"][name]) for name in s["methods"]), _rate(one["found"]),
                _rate(one["false alarms"]),
            ]
            for one in held["detectors"]
        ]
        + [[_any_of(held), "", "", "", *([""] * len(s["methods"])), _rate(held["any"]["found"]),
            _rate(held["any"]["false alarms"])]],
    )  # fmt: skip
    rates = ", ".join(f"{100 * rate:g}" for rate in s["rates"])
    steps = ", ".join(f"`{name}` {how['steps']} steps" for name, how in s["methods"].items() if "steps" in how)
    seconds = f"{held['seconds'] / 60:.0f} minutes of one core"
    said = (
        f"{sets['poisoned']} poisoned and {sets['clean']} clean sets of {' and '.join(s['data'])}, {s['ipc']} items "
        f"per class: random real samples, {steps} ({s['network']}). A white square of {s['side']} × {s['side']} pixels "
        f"on {rates} % of {s['real']:,} real pictures, another target class for each of the {s['sets']} poisoned sets "
        "of a data set and method; the clean sets are of the same pictures without it. "
        f"{s['trusted']:,} trusted pictures are others. AUC within data set and method, with 95 % bootstrap intervals "
        f"over sets; the trigger works in {sets['working']} sets, where {100 * s['works']:.0f} % of the stamped test "
        "pictures of other classes or more become the target: so few that their intervals are too narrow. Of the "
        "poisoned sets of real samples, "
        f"{sets['without a stamp']} hold no stamped one. Thresholds are the largest scores of "
        f"{clean_digits['n']} clean sets of {clean_digits['data']}, rounded up. {held['machine']['processor']}, torch "
        f"{held['machine']['torch']}, {seconds}. `benchmarks/trust/poisoning.py`"
    )
    few = [one for one in held["detectors"] if one["auc"]["poisoned"] < sets["poisoned"]]
    said += "".join(
        f" The row of {_NAMES[one['detector']]} is of the first {one['auc']['poisoned']} poisoned and "
        f"{one['auc']['clean']} clean ones of these sets, made again on another day; the trigger works in "
        f"{one['auc working']['poisoned'] if one['auc working'] else 0}."
        for one in few
    )
    paper = held["paper"]
    papers = (
        f"By the papers' thresholds, an anomaly index of 2 is passed by {_rate(paper['index above 2'])} clean and "
        f"{_rate(paper['index above 2, poisoned'])} poisoned sets; a silhouette of 0.15 in a class by "
        f"{_rate(paper['silhouette above 0.15'])} clean ones."
    )
    left = table(
        ["students of", *(f"{100 * rate:g} % stamped" for rate in s["rates"]), "clean pictures",
         *(f"accuracy, {100 * rate:g} %" for rate in s["rates"]), "accuracy, clean"],
        [_left_row(held, name, s["rates"]) for name in ("all data", *s["methods"])],
    )  # fmt: skip
    pairs = "; ".join(
        f"{pair['row']} minus {pair['other']} {interval(pair, 100, '+.1f')}" for pair in held["pairs"]
    )  # fmt: skip
    n = "/".join(str(one["n"]) for one in held["left"] if one["row"] == "all data")
    students = (
        "Share of stamped test pictures of other classes that become the target, and accuracy on clean test pictures, "
        f"in percent: means of {n} sets by rate ({s['students']} students each) with 95 % intervals (Student's t). "
        "*Clean pictures*: the same share for students of clean sets. Paired differences of the share over all rates: "
        f"{pairs}."
    )
    return "\n\n".join([detectors, said, papers, left, students])


def _area(value: Mapping[str, Any] | None) -> str:
    if value is None:
        return ""
    low, high = value["ci95"]
    return f"{value['auc']:.2f} [{low:.2f}, {high:.2f}]"


def _rate(value: Mapping[str, Any]) -> str:
    low, high = (100 * end for end in value["ci95"])
    return f"{value['hits']} of {value['n']} ({100 * value['rate']:.0f} %, {low:.0f} to {high:.0f})"


def _left_row(held: Mapping[str, Any], name: str, rates: list[float]) -> list[object]:
    by_rate = {one["rate"]: one for one in held["left"] if one["row"] == name}
    clean = held["clean"][name]
    label = {"all data": "all real pictures", "random": "random real samples"}.get(name, f"`{name}`")
    return [
        label, *(interval(by_rate[rate]["success"], 100, ".1f") for rate in rates),
        interval(clean["success"], 100, ".1f"),
        *(interval(by_rate[rate]["accuracy"], 100, ".1f") for rate in rates), interval(clean["accuracy"], 100, ".1f"),
    ]  # fmt: skip


def _value(area: Mapping[str, Any] | None) -> str:
    return "" if area is None else f"{area['auc']:.2f}"


def _any_of(held: dict[str, Any]) -> str:
    """Return the name of the row of all detectors, which may be older than the last of them."""
    known = held["any"].get("detectors", 5)
    return "any of them" if known == len(held["detectors"]) else f"any of the first {known}"
