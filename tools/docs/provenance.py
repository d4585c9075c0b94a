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
        ["set", "change", "score", "bytes", "accuracy, marked minus unmarked"],
        [
            [
                one["set"].replace("/", ", "), f"{100 * one['relative']:.0f} %",
                f"{one['score']:.1f} (at least {one['least_score']:.1f})",
                f"{one['bytes']:,} → {one['marked_bytes']:,.0f}", interval(one["utility"], 100, "+.2f"),
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
        f"{len(held['sets'])} sets {interval(held['utility'], 100, '+.2f')}. "
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
    tested = any(of["marked"]["n"] for of in held["models"].values())
    added = [_added(held["added"])] if "added" in held else []
    return "\n\n".join([sets, said, survived, *([_models(held)] if tested else []), *added])


def _added(held: dict[str, Any]) -> str:
    """Return the tables of few items, of pictures that are made again, and of models by outputs alone."""
    s, curves = held["settings"], held["curves"]
    head: list[object] = ["set", "items that prove it", "exponent", *(row["name"] for row in held["again"])]
    sets = table(
        head,
        [
            [
                of["set"].replace("/", ", "), _span([n for n in of["proves"] if n], "d"),
                _span([n for n in of["exponent"] if n], ".2f"),
                *("{}/{}".format(*row["by_set"][n]) for row in held["again"]),
            ]
            for n, of in enumerate(curves)
        ],
    )  # fmt: skip
    lost = "; ".join(f"{row['name']} {interval(row['accuracy'], 100, '+.1f')}" for row in held["again"])
    said = (
        "Items that prove it: of 100 random subsets of so many, 95 % are recognised; the AUROC of n items is about "
        f"1 − ½ exp(−exponent × n); {s['curves']} keys for each set. Made again: encoded and decoded by a variational "
        f"autoencoder of ours (width {s['width']}), trained on the real data for {s['epochs']} epochs; {s['keys']} "
        f"keys. What that costs students (mlp-w128), in points over {len(curves)} sets: {lost}."
    )
    names = ("marked", "tuned", "plain")
    models = table(
        ["students", "by their", "of the marked set", "then trained on ten times as many real samples",
         "of the unmarked set"],
        [
            [network, by, *(
                f"{of[f'{by}, {name}']['recognised']} of {of['n']} ({of[f'{by}, {name}']['score']:.1f})"
                for name in names
            )]
            for network, of in held["models"].items() if of["n"] for by in ("gradients", "outputs")
        ],
    )  # fmt: skip
    passed = [of["false_positives"] for of in held["models"].values() if of["n"]]
    about = (
        f"Students of {len(curves)} sets with a mark by class, by gradients and by outputs alone: {s['queries']:,} "
        f"pictures are put to each at most. Of {s['unmarked_keys']:,} unmarked keys "
        f"{100 * sum(passed) / max(1, len(passed)):.2f} % pass. {held['machine']['processor']}, torch "
        f"{held['machine']['torch']}."
    )
    return "\n\n".join([sets, said, models, about])


def _span(values: list[Any], form: str) -> str:
    """Return least and greatest value."""
    if not values:
        return ""
    ends = f"{min(values):{form}}", f"{max(values):{form}}"
    return ends[0] if ends[0] == ends[1] else f"{ends[0]} to {ends[1]}"


def _models(held: dict[str, Any]) -> str:
    rows: list[list[object]] = [
        [network, *(f"{of[name]['recognised']} of {of[name]['n']} ({of[name]['score']:.1f})"
                    for name in ("marked", "tuned", "plain"))]
        for network, of in held["models"].items()
    ]  # fmt: skip
    head: list[object] = ["students", "of the marked set", "then trained on ten times as many real samples",
                          "of the unmarked set"]  # fmt: skip
    return table(head, rows) + (
        "\n\nStudents that are recognised, and their mean score, of sets with a mark by class. Recognised: at a "
        "false-positive rate of 0.1 %."
    )
