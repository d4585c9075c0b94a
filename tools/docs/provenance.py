"""Keyed marks: what they cost, what they survive, and which models give a set away: benchmarks/trust/provenance.py."""

import json
from pathlib import Path
from typing import Any

from tools.docs.parts import interval, table

__all__ = ["provenance"]


def provenance(root: Path) -> str:
    """Return the tables of sets, of distortions and of models."""
    path = root / "results" / "trust" / "provenance.json"
    if not path.exists():
        return "Nothing has been measured yet."
    held = json.loads(path.read_text(encoding="utf-8"))
    s = held["settings"]
    sets = table(
        ["set", "change", "score", "bytes", "accuracy, marked minus unmarked", "items that prove it", "exponent"],
        [
            [
                one["set"].replace("/", ", "), f"{100 * one['relative']:.0f} %",
                f"{one['score']:.1f} (at least {one['least_score']:.1f})",
                f"{one['bytes']:,} → {one['marked_bytes']:,.0f}", interval(one["utility"], 100, "+.2f"),
                _span([n for n in one["proves"] if n], "d"), _span([n for n in one["exponent"] if n], ".2f"),
            ]
            for one in held["sets"]
        ],
    )  # fmt: skip
    keys = sum(one["keys"] for one in held["sets"])
    unmarked = sum(one["unmarked"] for one in held["sets"]) / len(held["sets"])
    said = (
        f"{s['ipc']} items per class, {s['codec']}; {s['keys']} keys for each set, {keys} in all. Change: root mean "
        f"square over the standard deviation of the pixels. Of {s['unmarked_keys']:,} unmarked keys for each set, "
        f"{100 * unmarked:.2f} % passed. Accuracy in points, with 95 % intervals: of each of "
        f"{', '.join(s['networks'])}, {s['students']} with and without a mark, each pair with a key of its own; over "
        f"{len(held['sets'])} sets {interval(held['utility'], 100, '+.2f')}. Items that prove it: at least 95 % of 100 "
        "random subsets of so many are recognised; the AUROC of n items is about 1 − ½ exp(−exponent × n); least and "
        f"most of {s['curves']} keys. "
        f"{held['machine']['processor']}, torch {held['machine']['torch']}. "
        "`benchmarks/trust/provenance.py`"
    )
    names = [one["set"].replace("/", ", ") for one in held["sets"]]
    survived = table(
        ["after", "recognised", "mean score", *names],
        [
            [one["name"], f"{100 * one['rate']:.0f} % of {one['n']}", f"{one['score']:.1f}",
             *(f"{hits}/{n}" for hits, n in one["by_set"])]
            for one in held["survived"]
        ],
    )  # fmt: skip
    lost = "; ".join(
        f"{one['name']} {interval(one['accuracy'], 100, '+.1f')}" for one in held["survived"] if "accuracy" in one
    )
    survived += (
        f"\n\nThe autoencoders were trained on the real data for {s['epochs']} epochs (width {s['width']}). Accuracy "
        f"of students (mlp-w128) of the pictures that they made, minus that of the marked set, in points over "
        f"{len(names)} sets: {lost}."
    )
    tested = any(of["marked"]["n"] for of in held["models"].values())
    return "\n\n".join([sets, said, survived, *([_models(held)] if tested else [])])


def _models(held: dict[str, Any]) -> str:
    rows: list[list[object]] = [
        [network, by, *(f"{of[name][hits]} of {of[name]['n']} ({of[name][score]:.1f})"
                        for name in ("marked", "tuned", "plain"))]
        for network, of in held["models"].items()
        for by, hits, score in (("gradients", "recognised", "score"), ("outputs", "by outputs", "score by outputs"))
    ]  # fmt: skip
    head: list[object] = ["students", "by their", "of the marked set", "then trained on ten times as many real samples",
                          "of the unmarked set"]  # fmt: skip
    return table(head, rows) + (
        "\n\nStudents that are recognised, and their mean score, of sets with a mark by class. Recognised: at a "
        f"false-positive rate of 0.1 %. By their outputs: they are asked about {held['settings']['queries']:,} "
        "pictures at most."
    )


def _span(values: list[Any], form: str) -> str:
    """Return least and greatest value."""
    if not values:
        return ""
    ends = f"{min(values):{form}}", f"{max(values):{form}}"
    return ends[0] if ends[0] == ends[1] else f"{ends[0]} to {ends[1]}"
