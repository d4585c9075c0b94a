"""Proxies for architecture search at equal compute: benchmarks/uses/search.py."""

import itertools
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from potstill._util.html import Html
from potstill.reports.chart import COLOURS, band, document, dot, line, polyline, text_label
from potstill.reports.search import interval
from tools.docs.frontier import NAMES
from tools.docs.parts import measured_on, table

__all__ = ["figure", "search"]

EARLY = "early stopping"
LINES = {
    EARLY: (COLOURS[0], None), "dm:10": (COLOURS[1], "6 3"), "dm:10, soft labels": (COLOURS[3], "6 3"),
    "frepo:10": (COLOURS[2], None), "random:50": (COLOURS[4], None),
}  # fmt: skip
"""Colour and dashes of the proxies that are drawn."""
MADE = ("dm:10", "dm:10, soft labels", "frepo:10")
"""Proxies that are distilled sets."""
LEFT, TOP, BOTTOM, PANEL, GAP, HEIGHT, RIGHT = 52, 44, 112, 300, 70, 420, 20


def _results(root: Path) -> list[dict[str, Any]]:
    paths = sorted((root / "results" / "uses").glob("search-*.json"))
    return [json.loads(path.read_text(encoding="utf-8")) for path in paths]


def search(root: Path) -> str:
    """Return for each data set a row for each proxy, what they show, and how it was measured."""
    parts = [
        f"**{_title(held)}**\n\n{_verdict(held)}\n\n{_table(held)}\n\n{_description(held)}" for held in _results(root)
    ]
    return "\n\n".join(parts) or "Nothing has been measured yet."


def _title(held: Mapping[str, Any]) -> str:
    name = NAMES.get(held["data"], held["data"])
    return f"{name[0].upper()}{name[1:]}, {len(held['candidates'])} networks"


def _budgets(held: Mapping[str, Any]) -> list[str]:
    return list(dict.fromkeys(row["budget"] for row in held["rows"]))


def _is_apart(row: Mapping[str, Any]) -> bool:
    """Return True if a proxy is told apart from early stopping."""
    gap = row.get("difference")
    return bool(gap and gap["ci95"] and (gap["ci95"][0] > 0 or gap["ci95"][1] < 0))


def _cell(row: Mapping[str, Any] | None) -> str:
    if row is None:
        return "–"
    if "reason" in row:
        return "too expensive"
    if row["tau"]["value"] is None:
        return "constant"
    mark = "" if not _is_apart(row) else " better" if row["difference"]["value"] > 0 else " worse"
    return f"{interval(row['tau'])}{mark}"


def _table(held: Mapping[str, Any]) -> str:
    budgets, by_key = _budgets(held), {(row["proxy"], row["budget"]): row for row in held["rows"]}
    rows: list[list[object]] = []
    for proxy in dict.fromkeys(row["proxy"] for row in held["rows"]):
        cells = [by_key.get((proxy, budget)) for budget in budgets]
        last = cells[-1] if cells[-1] is not None and "reason" not in cells[-1] else None
        making = "–" if last is None else f"{sum(last['making']) / len(last['making']):.1f}"
        points = "–" if last is None else f"{100 * last['regret']['mean']:.2f}"
        rows.append([proxy, *map(_cell, cells), points, making])
    last_budget = budgets[-1]
    head: list[object] = [
        "proxy", *budgets, f"regret at {last_budget}, points", f"seconds to make at {last_budget}",
    ]  # fmt: skip
    return table(head, rows)


def _description(held: Mapping[str, Any]) -> str:
    accuracies = [c["accuracy"] for c in held["candidates"]]
    n, batch = max(row.get("n", 0) for row in held["rows"]), held.get("batch", 64)
    return (
        f"Kendall's tau with the truth for each part of the compute, a mean over {n} seeds of the proxy with 95% "
        "bootstrap intervals over networks; *better* and *worse* are told apart from early stopping, paired by "
        f"network. The truth is the accuracy on {held['tested']:,} test samples after {held['updates']:,} updates of "
        f"{batch} on {held['samples']:,} training samples ({held['updates'] * batch / held['samples']:.1f} passes), "
        f"the mean of {held['truth_seeds']} seeds ({100 * min(accuracies):.1f} to {100 * max(accuracies):.1f} %), "
        f"which agree with tau {interval(held['truth_tau'])}. Compute is a part of one seed of the truth, making "
        f"included. {measured_on(held['machine'])}. `benchmarks/uses/search.py`"
    )


def _verdict(held: Mapping[str, Any]) -> str:
    """Return which proxies rank better or worse than early stopping, and where distilled sets cross it."""
    lines = []
    for budget in _budgets(held):
        rows = [r for r in held["rows"] if r["budget"] == budget]
        apart = [r for r in rows if _is_apart(r)]
        better = [r["proxy"] for r in apart if r["difference"]["value"] > 0]
        worse = [r["proxy"] for r in apart if r["difference"]["value"] < 0]
        unfit = [r["proxy"] for r in rows if "reason" in r]
        text = f"- At {budget} of the compute, {', '.join(better) or 'no proxy'} ranks better than early stopping"
        text += f"; worse: {', '.join(worse)}" if worse else "; none is worse beyond its interval"
        text += f"; too expensive to make: {', '.join(unfit)}" if unfit else ""
        lines.append(f"{text}.")
    known = {row["proxy"] for row in held["rows"]}
    return "\n".join([*lines, *(f"- {crossing(held['rows'], name)}" for name in MADE if name in known)])


def crossing(rows: Sequence[Mapping[str, Any]], name: str) -> str:
    """Return a sentence that says in which parts of the compute a proxy's mean tau is above that of early stopping."""
    gaps = {r["budget"]: r["difference"]["value"] for r in rows if r["proxy"] == name and r.get("difference")}
    gaps = {budget: gap for budget, gap in gaps.items() if gap is not None}
    if not gaps:
        return f"`{name}` is too expensive to make in every budget."
    above = [budget for budget, gap in gaps.items() if gap > 0]
    if not above:
        return f"The mean tau of `{name}` is below that of early stopping in every budget that makes it."
    if len(above) == len(gaps):
        return f"The mean tau of `{name}` is above that of early stopping in every budget that makes it."
    order = list(gaps)
    crossed = [(a, b) for a, b in itertools.pairwise(order) if (gaps[a] > 0) != (gaps[b] > 0)]
    places = " and ".join(f"between {a} and {b}" for a, b in crossed)
    return (
        f"The mean tau of `{name}` is above that of early stopping at {', '.join(above)}, and crosses it {places} of "
        "the compute."
    )


def figure(root: Path) -> str:
    """Draw tau over the part of the compute, one panel for each data set."""
    held = _results(root)
    width = LEFT + len(held) * PANEL + max(0, len(held) - 1) * GAP + RIGHT
    marks: list[Html] = []
    for n, one in enumerate(held):
        marks += _panel(one, LEFT + n * (PANEL + GAP))
    marks.append(text_label(width / 2, HEIGHT - BOTTOM + 37, "compute, as a part of full training", "middle", size=12))
    left, down = float(LEFT), HEIGHT - 50
    for name, (colour, dashes) in LINES.items():
        room = 56 + 6.6 * len(name)
        if left + room > width:
            left, down = float(LEFT), down + 18
        marks.append(line(left, down, left + 28, down, colour, width=2, dashes=dashes))
        marks.append(text_label(left + 34, down + 4, name, size=12))
        left += room
    title = (
        "Kendall's tau with full training, over the compute of a proxy as a part of full training, making included. "
        "The band is the 95 % bootstrap interval of early stopping over networks."
    )
    return document(width, HEIGHT, title, marks)


def _panel(held: Mapping[str, Any], left: float) -> list[Html]:
    budgets, under = _budgets(held), HEIGHT - BOTTOM
    parts = {budget: math.log(1 / int(budget.removeprefix("1/"))) for budget in budgets}
    drawn = [r for r in held["rows"] if r["proxy"] in LINES and "reason" not in r and r["tau"]["value"] is not None]
    values = [r["tau"]["value"] for r in drawn]
    values += [end for r in drawn if r["proxy"] == EARLY and r["tau"]["ci95"] for end in r["tau"]["ci95"]]
    low, high = math.floor(10 * min(values)) / 10, math.ceil(10 * max(values)) / 10

    def place(budget: str, value: float) -> tuple[float, float]:
        first, last = min(parts.values()) - 0.15, max(parts.values()) + 0.15
        x = left + PANEL * (parts[budget] - first) / (last - first)
        return x, under - (under - TOP) * (value - low) / (high - low)

    marks = [text_label(left, TOP - 16, _title(held), bold=True)]
    for tenth in range(round(10 * low), round(10 * high) + 1):
        y = place(budgets[0], tenth / 10)[1]
        marks += [line(left, y, left + PANEL, y), text_label(left - 6, y + 4, f"{tenth / 10:.1f}", "end", size=12)]
    for budget in budgets:
        marks.append(text_label(place(budget, low)[0], under + 17, budget, "middle", size=12))
    for name, (colour, dashes) in LINES.items():
        rows = [r for r in drawn if r["proxy"] == name]
        if name == EARLY and all(r["tau"]["ci95"] for r in rows):
            ends = [[place(r["budget"], r["tau"]["ci95"][n]) for r in rows] for n in (1, 0)]
            marks.append(band(ends[0], ends[1], colour))
        points = [place(r["budget"], r["tau"]["value"]) for r in rows]
        if len(points) > 1:
            marks.append(polyline(points, colour, width=2, dashes=dashes))
        marks += [dot(x, y, colour, 3.5) for x, y in points]
    return marks
