"""What a soft label buys in data, as text."""

from collections.abc import Mapping, Sequence
from typing import Any

from potstill.cli.text import columns, plural

__all__ = ["scaling_text", "worth_cells"]


def scaling_text(found: Mapping[str, Any]) -> str:
    """Every cell with its interval and n, what each budget is worth, and that of one budget as a sentence."""
    stops = found["settings"]["stops"]
    known = {t["stop"]: t["accuracy"] for t in found["teachers"]}
    head = ["per class", "classes", *(f"{plural(s, 'epoch')} ({100 * known[s]:.1f} %)" for s in stops), "n"]
    rows = [
        [n, *(_accuracy(found["cells"][f"{n}-{name}"]) for name in ("hard", *stops)), found["settings"]["sets"]]
        for n in found["settings"]["ipc"]
    ]
    worth = [[r["ipc"], r["stop"], *worth_cells(r, found["settings"]["ipc"])] for r in found["worth"]]
    diverged = sum(cell["diverged"] for cell in found["cells"].values())
    bytes_ = found["bytes"]
    return "\n".join([
        f"{found['source']}: accuracy in percent with 95% intervals over sets, by real samples per class, with classes",
        "and with the labels of a teacher after so many epochs (its own accuracy)", columns(head, rows), "",
        columns(["soft per class", "teacher's epochs", "hard per class", "95% interval"], worth), "",
        found["sentence"],
        f"The law misses cells by {100 * found['law']['misfit']:.1f} % of their error (root of the mean square); a "
        f"sample takes {bytes_['soft']:,} bytes with a soft label and {bytes_['hard']:,} with a hard one.",
        *([f"{diverged} students diverged and count as chance."] if diverged else []),
    ])  # fmt: skip


def _accuracy(cell: Mapping[str, Any]) -> str:
    a = cell["accuracy"]
    return f"{100 * a['mean']:.1f}" + ("" if a["ci95"] is None else " [{:.1f}, {:.1f}]".format(*_percent(a["ci95"])))


def _percent(ends: list[float]) -> list[float]:
    return [100 * end for end in ends]


def worth_cells(row: Mapping[str, Any], budgets: Sequence[int]) -> list[str]:
    """What a budget is worth, and its interval; beyond the budgets that were measured nothing is said."""
    ends = [f"under {budgets[0]}", f"over {budgets[-1]}"]
    value = {"more": ends[1], "fewer": ends[0], "unknown": "unknown"}.get(row["side"]) or f"{row['value']:.3g}"
    if not row["known"]:
        return [value, "unknown"]
    low, high = (ends[i] if row[e] is None else f"{row[e]:.3g}" for i, e in enumerate(("low", "high")))
    return [value, f"{low} to {high}"]
