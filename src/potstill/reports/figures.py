"""Plots as inline SVG. Positions are percentages and words are HTML, so that both stay readable at any width."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from potstill._util.html import Html, tag
from potstill.reports.numbers import (
    ACCURACY,
    Estimate,
    format_difference,
    format_interval,
    format_percent,
    format_score,
    significant,
    to_number,
)
from potstill.tasks.metric import Metric

__all__ = ["Difference", "Point", "bar", "bars", "curves", "difference_plot", "dot_plot", "linear_ticks", "value"]

_MOST_POINTS, _MOST_CURVES = 400, 4


def value(shown: str, exact: float | None) -> Html:
    """Return a formatted number with the exact one in its ``value`` attribute."""
    return Html(shown) if exact is None else tag("data", shown, value=repr(exact))


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One row of a dot plot; ``own`` rows are the set's, the others are references."""

    label: str
    estimate: Estimate
    is_own: bool = False


def linear_ticks(low: float, high: float) -> list[float]:
    """Return about five round numbers inside [low, high]."""
    raw = max(high - low, 1e-9) / 5
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= raw)
    first = math.ceil(low / step - 1e-9)
    return [k * step for k in range(first, math.floor(high / step + 1e-9) + 1)]


def _at(x: float, low: float, high: float) -> str:
    return f"{100 * (x - low) / (high - low):.2f}%"


def dot_plot(
    points: Sequence[Point], caption: str, metric: Metric = ACCURACY, *, reference: float | None = None
) -> Html:
    """Return means as dots with their 95% intervals as lines, one row each, on a common axis of scores.

    Args:
        points: what to draw, in order.
        caption: precedes the sentence about the axis.
        metric: of the scores.
        reference: a value marked in every row with a dashed line.
    """
    ends = [x for p in points for x in (p.estimate.mean, p.estimate.low, p.estimate.high) if x is not None]
    least = 0.02 if metric.unit == "fraction" else 1e-6 + 0.02 * abs(max(ends))
    spread = max(max(ends) - min(ends), least)
    low, high = max(metric.low, min(ends) - 0.08 * spread), min(metric.high, max(ends) + 0.08 * spread)
    ticks = linear_ticks(low, high)
    grid = [tag("line", x1=_at(t, low, high), x2=_at(t, low, high), y1=0, y2=32, class_="grid") for t in ticks]
    if reference is not None:
        x = _at(reference, low, high)
        grid.append(tag("line", x1=x, x2=x, y1=0, y2=32, class_="ref"))

    def row(p: Point) -> Html:
        e = p.estimate
        marks = list(grid)
        if e.low is not None and e.high is not None:
            x1, x2 = _at(max(e.low, low), low, high), _at(min(e.high, high), low, high)
            marks.append(tag("line", x1=x1, x2=x2, y1=16, y2=16, class_="whisker"))
        marks.append(tag("circle", cx=_at(e.mean, low, high), cy=16, r=6, class_="dot"))
        interval = tag("span", f" · {format_interval(e, metric)}" if e.low is not None else "", class_="soft")
        score = tag("span", value(format_score(e.mean, metric), e.mean), interval)
        drawing = tag("svg", *marks, height=32, aria_hidden="true")
        return tag("div", tag("span", p.label, class_="lab"), drawing, score, class_="row own" if p.is_own else "row")

    def tick(t: float) -> str:
        return f"{100 * t:.0f}%" if metric.unit == "fraction" and spread >= 0.05 else format_score(t, metric)

    labels = [tag("text", tick(t), x=_at(t, low, high), y=13, text_anchor="middle") for t in ticks]
    axis = tag("div", tag("span"), tag("svg", *labels, height=18, aria_hidden="true"), tag("span"), class_="row axis")
    better = " Less is better." if metric.direction == "lower" else ""
    zero = "" if low == 0 else " The axis does not start at zero."
    words = tag("figcaption", f"{caption} Dot: mean; line: 95% interval.{better}{zero}")
    return tag("figure", *map(row, points), axis, words, class_="plot")


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One row of a difference plot.

    ``is_judged``: say if it is told apart from zero. ``side``: better (1), worse (−1) or neither (0), where that was
    decided by more than the interval, such as a corrected test.
    """

    label: str
    below: str
    gap: Estimate
    is_judged: bool = True
    side: int | None = None

    def word(self, metric: Metric) -> tuple[str, str]:
        """Return the row's class and what it says of the difference."""
        if not self.is_judged:
            return "plain", ""
        if self.gap.low is None and self.side is None:
            return "unsure", "not tested"
        side = significant(self.gap, metric) if self.side is None else self.side
        return {1: ("good", "better"), 0: ("unsure", "not told apart"), -1: ("bad", "worse")}[side]


def difference_plot(rows: Sequence[Difference], caption: str, metric: Metric = ACCURACY) -> Html:
    """Return differences as dots with one 95% interval each, on an axis that holds zero.

    Args:
        rows: what to draw, in order; at least one.
        caption: precedes the sentence about the marks.
        metric: of the scores.
    """
    ends = [x for row in rows for x in (row.gap.mean, row.gap.low, row.gap.high) if x is not None]
    least = 0.02 if metric.unit == "fraction" else 1e-6 + 0.02 * max(map(abs, ends))
    spread = max(max([*ends, 0.0]) - min([*ends, 0.0]), least)
    low, high = min([*ends, 0.0]) - 0.1 * spread, max([*ends, 0.0]) + 0.1 * spread
    ticks = [t for t in linear_ticks(low, high) if abs(t) > 1e-12 * spread]
    zero = tag("line", x1=_at(0.0, low, high), x2=_at(0.0, low, high), y1=0, y2=48, class_="zero")
    grid = [tag("line", x1=_at(t, low, high), x2=_at(t, low, high), y1=0, y2=48, class_="grid") for t in ticks]

    def draw(row: Difference) -> Html:
        e, (tone, word) = row.gap, row.word(metric)
        marks = [*grid, zero]
        if e.low is not None and e.high is not None:
            marks.append(
                tag("line", x1=_at(e.low, low, high), x2=_at(e.high, low, high), y1=24, y2=24, class_="whisker")
            )
        marks.append(tag("circle", cx=_at(e.mean, low, high), cy=24, r=6, class_="dot"))
        drawing = tag("svg", *marks, height=48, aria_hidden="true")
        mean = value(format_difference(e.mean, metric), e.mean)
        interval = format_interval(e, metric, difference=True) if e.low is not None else "no interval"
        said = tag("span", tag("b", mean, f" {word}"), tag("small", interval), class_="said")
        if tone == "unsure":
            said = tag("span", tag("b", word), tag("small", mean, f", {interval}"), class_="said")
        label = tag("span", tag("bdi", row.label), tag("small", row.below), class_="lab")
        return tag("div", label, drawing, said, class_=f"row {tone}")

    def tick(t: float) -> str:
        return f"{100 * t:+.3g}".replace("-", "−") if metric.unit == "fraction" else f"{t:+.3g}".replace("-", "−")

    texts = [tag("text", tick(t), x=_at(t, low, high), y=13, text_anchor="middle") for t in ticks]
    texts.append(tag("text", "0", x=_at(0.0, low, high), y=13, text_anchor="middle"))
    unit = tag("span", metric.difference_unit, class_="unit")
    axis = tag("div", tag("span"), tag("svg", *texts, height=18, aria_hidden="true"), unit, class_="row axis")
    less = " Less is better: left of zero." if metric.direction == "lower" else ""
    unit_said = f" In {metric.difference_unit}." if metric.difference_unit else ""
    caption = f"{caption}{unit_said}"
    words = f"{caption} Line: 95% interval of the difference; where it holds zero, the two are not told apart.{less}"
    return tag("figure", *map(draw, rows), axis, tag("figcaption", words), class_="plot gaps")


def bar(share: float, *, is_own: bool = False, height: int = 10) -> Html:
    """Return one horizontal bar, ``share`` of the width in [0,1]."""
    width = f"{100 * min(max(share, 0.0), 1.0):.2f}%"
    base = tag("rect", width="100%", height=height, rx=height // 2, class_="base")
    fill = tag("rect", width=width, height=height, rx=height // 2, class_="fill own" if is_own else "fill")
    return tag("svg", base, fill, height=height, aria_hidden="true")


def bars(rows: Sequence[tuple[str, float]]) -> Html:
    """Return a bar from 0 to 100% per row, in the order given."""
    lines = []
    for label, share in rows:
        percent = tag("span", value(format_percent(share), share))
        lines.append(tag("div", tag("span", tag("bdi", label)), bar(share), percent, class_="row"))
    width = min(max(len(label) for label, _ in rows) + 1, 16)
    return tag("div", *lines, class_="bars", style=f"--label:{width}ch")


def _thin(series: Sequence[tuple[float, float]]) -> tuple[list[tuple[float, float]], int]:
    """Return at most ``_MOST_POINTS`` points: means of neighbours, and how many neighbours."""
    group = -(-len(series) // _MOST_POINTS)
    cut = [series[i : i + group] for i in range(0, len(series), group)]
    return [(sum(x for x, _ in c) / len(c), sum(y for _, y in c) / len(c)) for c in cut], group


def _plain(x: float) -> str:
    return f"{x:,.0f}" if abs(x) >= 1000 or x == round(x) else f"{x:.3g}"


def _curve(name: str, series: Sequence[tuple[float, float]], dropped: int) -> Html:
    drawn, group = _thin(series)
    xs, ys = [x for x, _ in drawn], [y for _, y in drawn]
    logarithmic = min(ys) > 0 and max(ys) > 50 * min(ys)
    scaled = [math.log10(y) for y in ys] if logarithmic else ys
    low, high = min(scaled), max(scaled)
    low, high = (low, high) if high > low else (low - 0.5, high + 0.5)
    left, right = xs[0], max(xs[-1], xs[0] + 1e-9)
    where = " ".join(
        f"{1000 * (x - left) / (right - left):.1f},{300 - 300 * (y - low) / (high - low):.1f}"
        for x, y in zip(xs, scaled, strict=True)
    )
    rules = [
        tag("line", x1=0, x2=1000, y1=y, y2=y, class_="grid", vector_effect="non-scaling-stroke") for y in (0, 150, 300)
    ]
    marks = [10**y if logarithmic else y for y in (high, (low + high) / 2, low)]
    notes = [
        f"{name[:1].upper()}{name[1:]} against the step: "
        f"{_plain(series[0][1])} at the start, {_plain(series[-1][1])} at the end."
    ]
    if logarithmic:
        notes.append("Logarithmic scale.")
    if group > 1:
        notes.append(f"Each point is the mean of {group} records.")
    if dropped:
        notes.append(f"{dropped} records that were not finite are left out.")
    line = tag("polyline", points=where, vector_effect="non-scaling-stroke")
    box = {"viewBox": "0 0 1000 300", "preserveAspectRatio": "none"}
    frame = (
        tag("div", *(tag("span", _plain(m)) for m in marks), class_="ys"),
        tag("svg", *rules, line, **box, role="img", aria_label=notes[0]),
        tag("div", tag("span", f"step {_plain(left)}"), tag("span", _plain(right)), class_="xs"),
    )
    return tag("figure", tag("div", *frame, class_="frame"), tag("figcaption", " ".join(notes)), class_="curve")


def curves(history: Sequence[Mapping[str, Any]]) -> Html | None:
    """Return a small plot against the step for each of the first four metrics; ``None`` if none has two points."""
    names = dict.fromkeys(key for record in history for key in record if key not in {"step", "seconds"})
    plots: list[Html] = []
    for name in sorted(names, key=lambda n: (n != "loss", list(names).index(n))):
        records = [(to_number(r.get("step")), to_number(r.get(name))) for r in history if r.get(name) is not None]
        series = sorted((x, y) for x, y in records if x is not None and y is not None)
        if len(series) >= 2 and len(plots) < _MOST_CURVES:
            plots.append(_curve(name, series, len(records) - len(series)))
    return tag("div", *plots, class_="curves") if plots else None
