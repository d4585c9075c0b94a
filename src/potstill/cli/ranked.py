"""A leaderboard as text."""

from collections.abc import Mapping, Sequence
from typing import Any

from potstill._util.formatting import stored_as
from potstill.cli.text import columns, filled
from potstill.tasks.metric import Metric

__all__ = ["board_text"]


def board_text(board: Mapping[str, Any]) -> str:
    """Every row with its interval, what is not told apart from the best, what can be said, and how it was tested."""
    every = board["rows"]
    metric = Metric.of(next((row["scorecard"] for row in every if "scorecard" in row), None))
    per_class = {row["unit"] for row in every} == {"ipc"}
    sets, protocols = board["sets"] > 1, len(board["protocols"]) > 1
    head = [
        "ipc" if per_class else "size", *(["protocol"] if protocols else []), "", "method", metric.titled,
        "95% interval", "sets" if sets else "n", "items", "bytes", "stored", "seconds",
        f"{metric.gap_unit} over random",
    ]  # fmt: skip
    rows = [_cells(row, metric, per_class, protocols) for row in every]
    ended = [
        f"{row['method']} at {row['amount']}: {row['scorecard']['outcome']['message']}" for row in every
        if row.get("scorecard", {}).get("outcome", {}).get("kind") == "not finite"
    ]  # fmt: skip
    missing = [
        f"{row['id']}: {len(lost)} of {len(row['cells'])} sets failed, the first: {lost[0]['error']}" for row in every
        if "error" not in row and (lost := [cell for cell in row["cells"] if "error" in cell])
    ]  # fmt: skip
    marked = any(row.get("not_told_apart") and not row["best"] for row in every)
    key = "* the best mean; = not told apart from it" if marked else "* the best mean"
    return "\n".join([
        columns(head, rows), key, *ended, *missing,
        *(line for verdict in board["verdicts"] for line in filled(verdict["text"])),
        *filled(f"Tested: {board['test']}."),
        *([f"Fair: {board['fair']}."] if board.get("fair") else []),
    ])  # fmt: skip


def _cells(row: Mapping[str, Any], metric: Metric, per_class: bool, protocols: bool) -> list[object]:
    """A row of the table."""
    unit = {"ipc": "" if per_class else " per class", "items": "", "bytes": " B"}[row["unit"]]
    named = " ".join(str(row[key]) for key in ("method", "parametrization", "store_asked") if row.get(key) is not None)
    start = [f"{row['amount']:,}{unit}", *([row["protocol"]] if protocols else [])]
    if "scorecard" not in row:
        return [*start, "", named, "failed", "", "", "", "", "", "", row["error"]]
    score, gap = row["score"], row.get("difference")
    mark = "*" if row["best"] else "=" if row["not_told_apart"] else ""
    return [
        *start, mark, named, metric.shown(score["mean"]).replace("%", " %"),
        "" if score["ci95"] is None else " to ".join(map(metric.shown, score["ci95"])).replace("%", ""), score["n"],
        "" if row.get("items") is None else f"{row['items']:,}", f"{row['bytes']:,}", stored_as(row.get("store")),
        "" if row.get("seconds") is None else f"{row['seconds']:.3g}",
        "" if gap is None else metric.gap(gap["mean"]) + _ends(metric, gap["ci95"]),
    ]  # fmt: skip


def _ends(metric: Metric, ends: Sequence[float] | None) -> str:
    """Of a difference; nothing where one student has none."""
    return "" if ends is None else f" [{', '.join(map(metric.gap, ends))}]"
