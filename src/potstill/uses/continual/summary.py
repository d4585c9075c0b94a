"""The result of all cells: a row for each memory and size, paired intervals over orders, and a sentence."""

from collections.abc import Mapping, Sequence
from typing import Any

from potstill.evaluation.statistics import paired_difference, summary

__all__ = ["conclude"]

MEASURES = ("average", "forgetting", "final_known")


def conclude(result: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``rows`` and ``sentences`` of a result.

    A row's ``difference`` is its final accuracy minus that of the best memory of real samples of that size, paired over
    orders. The best memories are picked by the mean of that same final accuracy.
    """
    rows, sentences, verdicts = [], [], []
    for size in result["bytes"]:
        here = [_row(result, size, m) for m in result["memories"]]
        measured = [r for r in here if "final" in r]
        real = max((r for r in measured if not r["made"]), key=_final, default=None)
        made = max((r for r in measured if r["made"]), key=_final, default=None)
        for row in measured:
            if real is not None and row is not real:
                row["difference"] = _paired(row, real)
        rows += here
        numbers = [sum(r["made"] is kind for r in measured) for kind in (True, False)]
        verdict = _verdict(size, real, made, numbers)
        verdicts.append(verdict)
        sentences.append(verdict["text"])
    return {"rows": rows, "verdicts": verdicts, "sentences": sentences}


def _final(row: Mapping[str, Any]) -> float:
    return float(row["final"]["mean"])


def _row(result: Mapping[str, Any], size: int, memory: Mapping[str, Any]) -> dict[str, Any]:
    cells = [c for c in result["cells"] if (c["memory"], c["bytes"]) == (memory["name"], size)]
    row: dict[str, Any] = {"memory": memory["name"], "made": memory["made"], "bytes": size, "n": len(cells)}
    if reason := next((c["reason"] for c in cells if "reason" in c), None):
        return {**row, "reason": reason}
    last = [c["steps"][-1] for c in cells]
    curve = [_accuracy([c["steps"][t] for c in cells]) for t in range(len(cells[0]["steps"]))]
    return {
        **row, "final": curve[-1], **{name: summary([c[name] for c in cells]) for name in MEASURES}, "curve": curve,
        "stored": [s["bytes"] for s in last], "items": [s["items"] for s in last],
        "codecs": sorted({s["codec"] for s in last}), "seconds": sum(c["seconds"] for c in cells) / len(cells),
    }  # fmt: skip


def _accuracy(steps: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return accuracy after one step over orders, with an interval for new test samples, too."""
    return summary([step["accuracy"] for step in steps], min(step["tested"] for step in steps))


def _paired(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, Any]:
    return paired_difference(a["final"]["values"], b["final"]["values"])


def _verdict(
    size: int, real: Mapping[str, Any] | None, synthetic: Mapping[str, Any] | None, numbers: Sequence[int]
) -> dict[str, Any]:
    """Return whether made memories beat real ones at one size.

    Args:
        numbers: made memories and real ones that the best were picked of.
    """
    at = f"At {size:,} bytes"
    if real is None or synthetic is None:
        best = real or synthetic
        text = f"{at}, no memory fits"
        if best is not None:
            other = "made" if best is real else "real"
            reached = f"{best['memory']} ends at {100 * _final(best):.1f} %"
            text = f"{at}, {reached}; no memory of {other} samples was measured"
        return {"bytes": size, "kind": "untested", "text": f"{text}."}
    gap = _paired(synthetic, real)
    names = f"the best memory of made samples ({synthetic['memory']})", f"the best of real ones ({real['memory']})"
    ci, n = gap["ci95"], synthetic["n"]
    points = f"{100 * abs(gap['mean']):.1f} points"
    if ci is None:
        kind = "untested"
        said = f"{names[0]} ends {points} {_side(gap['mean'])} {names[1]}, without an interval (orders: {n})"
    else:
        ends = f"95% interval {100 * ci[0]:+.1f} to {100 * ci[1]:+.1f}, paired over {n} orders"
        if ci[0] > 0:
            kind, said = "made", f"{names[0]} beats {names[1]} by {points} ({ends})"
        elif ci[1] < 0:
            kind, said = "real", f"{names[0]} does not beat {names[1]}: it ends {points} below ({ends})"
        else:
            kind, said = "not told apart", f"{names[0]} is not told apart from {names[1]} ({ends})"
    if max(numbers) > 1:
        said += f"; they are the best of {numbers[0]} and of {numbers[1]} by this same accuracy, which flatters both"
    return {"bytes": size, "kind": kind, "text": f"{at}, {said}.", "made": synthetic["memory"], "real": real["memory"],
            "difference": gap}  # fmt: skip


def _side(gap: float) -> str:
    return "above" if gap > 0 else "below"
