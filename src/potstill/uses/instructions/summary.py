"""The result of all rows: means with intervals, differences from the selection, and what they show."""

from collections.abc import Mapping, Sequence
from typing import Any

from potstill.evaluation.statistics import difference, summary

__all__ = ["CHOOSING", "WAYS", "conclude"]

WAYS = {
    "none": "nothing", "target": "the target's samples alone", "random": "random",
    "lengths": "random, in the lengths of LESS",
    "bm25": "nearest by BM25", "tfidf": "nearest by TF-IDF", "states": "nearest by states of the model",
    "less": "LESS", "all": "all of the pool",
}  # fmt: skip
"""Rows in order, with what they are called."""
CHOOSING = ("less", "bm25", "tfidf", "states", "random", "lengths")
"""Ways of choosing."""
_RIVALS = ("random", "lengths", "bm25", "tfidf", "states", "less")


def conclude(result: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``rows`` and ``sentences`` of a result; without a measurement no rows."""
    cells: Sequence[Mapping[str, Any]] = result["cells"]
    way = result["way"]
    first = f"{result['items']:,} of {result['samples']:,} samples in {result['bytes']:,} bytes, chosen by {_name(way)}"
    if not cells:
        return {
            "rows": [],
            "sentences": [f"{first}. Nothing was measured: give other samples of the target as `test=`."],
        }
    forms = list(cells[0]["bits"])
    rows: list[dict[str, Any]] = [
        {
            "name": c["name"], "label": WAYS[c["name"]], "items": c["items"], "bytes": c["bytes"],
            "bits": {form: summary(c["bits"][form]) for form in forms},
        }
        for c in cells
    ]  # fmt: skip
    by_name = {row["name"]: row for row in rows}
    own = by_name[way]
    for row in rows:
        if row["name"] not in (way, "none"):
            row["difference"] = {
                form: difference(own["bits"][form]["values"], row["bits"][form]["values"]) for form in forms
            }
    rivals = [by_name[name] for name in _RIVALS if name != way]
    sentences = [
        first + ": " + "; ".join(
            f"{form} {own['bits'][form]['mean']:.3f} bits a byte of the target's test responses" for form in forms[:1]
        ) + "".join(f", {form} (never chose) {own['bits'][form]['mean']:.3f}" for form in forms[1:]) + "."
    ]  # fmt: skip
    for form in forms:
        best = min(rivals, key=lambda row: row["bits"][form]["mean"])
        sentences.append(f"{form}: {_describe_gap(best['difference'][form])} the best other choice, {best['label']}.")
    alone = by_name["target"]
    sentences.append(f"{forms[0]}: {_describe_gap(alone['difference'][forms[0]])} the target's samples alone.")
    return {"rows": rows, "sentences": sentences}


def _name(way: str) -> str:
    return {"random": "chance", "lengths": "chance, of LESS's lengths"}.get(way, WAYS[way].removeprefix("nearest by "))


def _describe_gap(gap: Mapping[str, Any]) -> str:
    ci = gap["ci95"]
    numbers = f"{gap['mean']:+.3f}" + ("" if ci is None else f" (95% interval {ci[0]:+.3f} to {ci[1]:+.3f})")
    side = (
        "beside" if ci is None else "better than" if ci[1] < 0 else "worse than" if ci[0] > 0 else "not told apart from"
    )
    return f"{numbers} bits, {side}"
