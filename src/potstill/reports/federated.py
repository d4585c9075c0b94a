"""Page of a federated run: accuracy against bytes, a table of all ways, and who had which classes."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from potstill._util.html import Html, tag
from potstill._util.outputs import PAGE_MARK
from potstill.reports.chart import COLOURS, INK, dot, line, text_label
from potstill.reports.chart import document as svg
from potstill.reports.continual import percent, points, span
from potstill.reports.page import document, page_header
from potstill.reports.tables import row, table

__all__ = ["draw_federated", "render_federated", "traffic"]

_WIDTH, _HEIGHT = 720, 400
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 190, 24, 56
_COUNTS = 20
"""Clients whose classes are listed, at most."""


def draw_federated(result: Mapping[str, Any], partition: str) -> str:
    """Return accuracy against bytes up and down, for the ways of one partition, as SVG."""
    rows = _distinct([r for r in result["rows"] if r["partition"] == partition and "accuracy" in r])
    sent = [r for r in rows if r["up"] + r["down"] > 0]
    ends = [v for r in rows for v in (r["accuracy"]["mean"], *(r["accuracy"]["ci95"] or ()))]
    low, high = max(0.0, min(ends, default=0.0)), min(1.0, max(ends, default=1.0))
    low, high = (low, high) if high - low > 0.02 else (max(0.0, low - 0.01), min(1.0, high + 0.01))
    logs = [math.log10(r["up"] + r["down"]) for r in sent] or [3.0]
    first, last = math.floor(min(logs)), max(math.floor(min(logs)) + 1, math.ceil(max(logs)))
    right, under = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM

    def x(size: float) -> float:
        return _LEFT + (right - _LEFT) * (math.log10(size) - first) / (last - first)

    def y(value: float) -> float:
        return under - (under - _TOP) * (min(max(value, low), high) - low) / (high - low)

    marks = []
    for value in (low + (high - low) * k / 4 for k in range(5)):
        marks += [
            line(_LEFT, y(value), right, y(value)), text_label(_LEFT - 8, y(value) + 4, f"{100 * value:.1f}%", "end"),
        ]  # fmt: skip
    for power in range(first, last + 1):
        marks.append(text_label(x(10**power), under + 20, _size(10**power), "middle"))
    marks.append(text_label((_LEFT + right) / 2, _HEIGHT - 12, "bytes up and down, all clients", "middle"))
    names = list(dict.fromkeys(r["way"] for r in rows))
    for one in rows:
        colour, mean, ci = (
            COLOURS[names.index(one["way"]) % len(COLOURS)],
            one["accuracy"]["mean"],
            one["accuracy"]["ci95"],
        )
        size = one["up"] + one["down"]
        if size <= 0:
            marks.append(line(_LEFT, y(mean), right, y(mean), colour, width=2, dashes="6 4"))
            continue
        if ci is not None:
            marks.append(line(x(size), y(ci[0]), x(size), y(ci[1]), colour, width=1))
        marks.append(dot(x(size), y(mean), colour, 5))
    for n, name in enumerate(names):
        at = _TOP + 18 * n + 12
        marks += [dot(right + 18, at - 4, COLOURS[n % len(COLOURS)], 5), text_label(right + 30, at, name, colour=INK)]
    return svg(_WIDTH, _HEIGHT, f"Accuracy against bytes sent, {partition}", marks)


def _distinct(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return rows without those that stand at every size with the same models."""
    distinct: dict[tuple[str, float], Mapping[str, Any]] = {}
    for one in rows:
        distinct.setdefault((one["way"], one["up"]), one)
    return list(distinct.values())


def _size(value: float) -> str:
    return f"{value / 1e6:g} MB" if value >= 1e6 else f"{value / 1e3:g} kB" if value >= 1e3 else f"{value:g} B"


def render_federated(result: Mapping[str, Any]) -> str:
    """Return the page."""
    body: list[Html] = [
        page_header(
            "federated learning", result["source"],
            *(tag("p", sentence, class_="lede") for sentence in result["sentences"]),
        )
    ]  # fmt: skip
    parts: list[Html] = []
    for partition in result["partitions"]:
        parts += [tag("h2", partition), Html(draw_federated(result, partition))]
        parts += [_table(result, partition, size) for size in result["bytes"]]
        parts.append(_clients(result, partition))
    body.append(tag("main", *parts, tag("p", _protocol(result), class_="note"), tag("p", PAGE_MARK, class_="note")))
    return document(f"Federated learning on {result['source']}", body)


def _protocol(result: Mapping[str, Any]) -> str:
    settings, n = result["settings"], result["splits"]
    learner, networks = settings["learner"], settings["networks"]
    return (
        f"A network ({', '.join(networks)}; {learner['steps']} updates of {learner['batch']}) is trained from scratch "
        f"on the sets of all clients and measured on {result['test_samples']:,} test samples"
        f"{'; accuracy is the mean of these networks' if len(networks) > 1 else ''}. Means over {n} "
        f"partition{'' if n == 1 else 's'} with 95% intervals, paired where two ways are compared. Bytes up and down "
        "are those of coded messages of all clients until the server has what it needs; the normalization, which "
        "clients can give as sums, is in none. Nearest is a client's: how many inputs that were sent lie nearer to a "
        "sample that their client holds than to as many samples of the class that no client holds; 50 % is chance. It "
        "is one test, and no proof of privacy. Members: the fewest samples that stand behind an input."
    )


def _table(result: Mapping[str, Any], partition: str, size: int) -> Html:
    head = [
        "way", "accuracy", "minus the best set", "kB up", "kB down", "inputs", "members",
        "nearest is a client's", "silent clients", "seconds", "sends",
    ]  # fmt: skip
    rows = [_row(r) for r in result["rows"] if (r["partition"], r["bytes"]) == (partition, size)]
    return table(f"Sets of {size:,} bytes from all clients: percent with 95% intervals over partitions", head, rows)


def _row(one: Mapping[str, Any]) -> Html:
    if "reason" in one:
        return row(one["way"], *(["–"] * 8), one["reason"], one["sends"])
    return row(
        one["way"], percent(one["accuracy"]), points(one.get("difference")), traffic(one["up"]),
        traffic(one["down"]), span(one["items"]), "–" if one["least_members"] is None else f"{one['least_members']:,}",
        "–" if one["nearest"] is None else f"{100 * one['nearest']:.0f} %", span(one["silent"]),
        f"{one['seconds']:.1f}", one["sends"],
    )  # fmt: skip


def traffic(size: float) -> str:
    """Return bytes as kB."""
    return f"{size / 1000:,.1f}" if size < 1e5 else f"{size / 1000:,.0f}"


def _clients(result: Mapping[str, Any], partition: str) -> Html:
    counts: list[list[int]] = result["clients"][partition][0]
    head = ["client", "samples", *result["classes"]]
    rows = [row(f"{n}", f"{sum(c):,}", *(f"{v:,}" if v else "" for v in c)) for n, c in enumerate(counts[:_COUNTS])]
    more = f", the first {_COUNTS} of {len(counts)}" if len(counts) > _COUNTS else ""
    return table(f"Samples of each client and class in the first partition{more}", head, rows)
