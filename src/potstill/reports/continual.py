"""Page of a continual run: accuracy after each step as curves, a table of all memories, and what they show."""

from collections.abc import Mapping, Sequence
from typing import Any

from potstill._util.html import Html, tag
from potstill._util.outputs import PAGE_MARK
from potstill.reports.chart import COLOURS, INK, band, dot, line, polyline, text_label
from potstill.reports.chart import document as svg
from potstill.reports.page import document, page_header
from potstill.reports.tables import row, table

__all__ = ["draw_continual", "render_continual"]

_WIDTH, _HEIGHT = 720, 400
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 180, 24, 56


def draw_continual(result: Mapping[str, Any], size: int) -> str:
    """Return accuracy on all steps so far after each step, for the memories of one size, as SVG."""
    rows = [r for r in result["rows"] if r["bytes"] == size and "curve" in r]
    steps: int = result["settings"]["steps"]
    ends = [v for r in rows for a in r["curve"] for v in (a["mean"], *(a["ci95"] or ()))]
    low: float = max(0.0, min(ends, default=0.0))
    high: float = min(1.0, max(ends, default=1.0))
    low, high = (low, high) if high - low > 0.02 else (max(0.0, low - 0.01), min(1.0, high + 0.01))

    def x(step: float) -> float:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * (step - 1) / max(1, steps - 1)

    def y(value: float) -> float:
        return _HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * (min(max(value, low), high) - low) / (high - low)

    right, under = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM
    marks = []
    for value in (low + (high - low) * k / 4 for k in range(5)):
        marks += [
            line(_LEFT, y(value), right, y(value)), text_label(_LEFT - 8, y(value) + 4, f"{100 * value:.1f}%", "end"),
        ]  # fmt: skip
    shown = range(1, steps + 1, max(1, -(-steps // 10)))
    marks += [text_label(x(n), under + 20, n, "middle") for n in shown]
    marks.append(text_label((_LEFT + right) / 2, _HEIGHT - 12, "step", "middle"))
    for n, one in enumerate(rows):
        colour, curve = COLOURS[n % len(COLOURS)], one["curve"]
        if all(a["ci95"] for a in curve):
            above = [(x(t + 1), y(a["ci95"][1])) for t, a in enumerate(curve)]
            below = [(x(t + 1), y(a["ci95"][0])) for t, a in enumerate(curve)]
            marks.append(band(above, below, colour))
        points = [(x(t + 1), y(a["mean"])) for t, a in enumerate(curve)]
        marks.append(polyline(points, colour, width=2, dashes="6 4" if one["made"] else None))
        marks += [dot(*point, colour, 3) for point in points]
        at = _TOP + 18 * n + 12
        marks += [
            line(right + 12, at - 4, right + 32, at - 4, colour, width=2, dashes="6 4" if one["made"] else None),
            text_label(right + 38, at, one["memory"], colour=INK),
        ]  # fmt: skip
    return svg(_WIDTH, _HEIGHT, f"Accuracy on all classes so far after each step, {size:,} bytes", marks)


def render_continual(result: Mapping[str, Any]) -> str:
    """Return the page."""
    n = result["orders"]
    body: list[Html] = [
        page_header(
            "continual learning", result["source"],
            *(tag("p", sentence, class_="lede") for sentence in result["sentences"]),
        )
    ]  # fmt: skip
    parts: list[Html] = []
    for size in result["bytes"]:
        parts += [tag("h2", f"{size:,} bytes"), Html(draw_continual(result, size)), _table(result, size)]
    body.append(tag("main", *parts, tag("p", _protocol(result, n), class_="note"), tag("p", PAGE_MARK, class_="note")))
    return document(f"Continual learning on {result['source']}", body)


def _protocol(result: Mapping[str, Any], n: int) -> str:
    settings = result["settings"]
    learner = settings["learner"]
    return (
        f"After each of {settings['steps']} steps a network ({learner['network']}, {learner['steps']} updates of "
        f"{learner['batch']}) is trained from scratch on the memory alone and measured on {result['test_samples']:,} "
        f"test samples, of the steps so far. Means over {n} order{'' if n == 1 else 's'} with 95% intervals, paired "
        "where two memories are compared. Bytes are those of coded bitstreams with labels. Forgetting: the best "
        "accuracy that a step ever had minus its last, the mean over steps. "
        "Step known: among the classes of that step alone. Paired intervals hold on these test samples."
    )


def _table(result: Mapping[str, Any], size: int) -> Html:
    head = [
        "memory", "final", "average", "forgetting", "step known", "minus the best real", "bytes", "samples", "codec",
        "seconds",
    ]  # fmt: skip
    rows = [_row(r) for r in result["rows"] if r["bytes"] == size]
    return table(f"Memories of {size:,} bytes: percent with 95% intervals over orders", head, rows)


def _row(one: Mapping[str, Any]) -> Html:
    name = f"{one['memory']} (made)" if one["made"] else str(one["memory"])
    if "reason" in one:
        return row(name, *(["–"] * 8), one["reason"])
    return row(
        name, *(percent(one[m]) for m in ("final", "average", "forgetting", "final_known")),
        points(one.get("difference")), span(one["stored"]), span(one["items"]), ", ".join(one["codecs"]),
        f"{one['seconds']:.1f}",
    )  # fmt: skip


def percent(value: Mapping[str, Any]) -> str:
    """Return a fraction with its interval in percent."""
    ci = value["ci95"]
    return f"{100 * value['mean']:.1f}" + ("" if ci is None else f" [{100 * ci[0]:.1f}, {100 * ci[1]:.1f}]")


def points(value: Mapping[str, Any] | None) -> str:
    """Return a signed difference with its interval in points; ``best`` without one."""
    if value is None:
        return "best"
    ci = value["ci95"]
    return f"{100 * value['mean']:+.1f}" + ("" if ci is None else f" [{100 * ci[0]:+.1f}, {100 * ci[1]:+.1f}]")


def span(values: Sequence[int]) -> str:
    """Return whole numbers as their range."""
    low, high = min(values), max(values)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"
