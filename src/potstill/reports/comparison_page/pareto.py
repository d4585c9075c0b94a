"""Score against cost: every row as a point with its interval, and the Pareto front."""

import math
from collections.abc import Callable, Sequence

from potstill._util.html import Html, tag
from potstill.reports.comparison_page.board import Row
from potstill.reports.figures import linear_ticks, value
from potstill.reports.numbers import Estimate, format_duration, format_interval, format_score, format_size
from potstill.reports.tables import fold, row, score_value, size_value, table
from potstill.tasks.metric import Metric

__all__ = ["MARKS", "assign_marks", "draw_pareto", "legend"]

MARKS = 8
"""Colours and shapes before they repeat; the first, grey, is for random samples."""
_SHAPES = (
    "M0-6A6 6 0 1 1 0 6A6 6 0 1 1 0-6Z",
    "M-5.5-5.5H5.5V5.5H-5.5Z",
    "M0-7L6.5 5H-6.5Z",
    "M0-7.5L7.5 0L0 7.5L-7.5 0Z",
    "M0 7L6.5-5H-6.5Z",
    "M-2-6H2V-2H6V2H2V6H-2V2H-6V-2H-2Z",
    "M-6 0A6 6 0 0 1 6 0V5H-6Z",
    "M0-7L6.7-2.2L4.1 5.7H-4.1L-6.7-2.2Z",
)
_HEIGHT = 320
_LEAST_SECONDS = 0.01
_LANE = 13
"""Pixels between marks that stand side by side."""


def assign_marks(rows: Sequence[Row]) -> dict[str, int]:
    """Return the colour and shape of each method: by name, so that they are stable as ranks change."""
    found = sorted({row.method for row in rows})
    return {m: 0 if m == "random" else 1 + k % (MARKS - 1) for k, m in enumerate(m for m in found if m != "random")} | (
        {"random": 0} if "random" in found else {}
    )


def _mark(slot: int, x: str = "50%", y: str = "50%") -> Html:
    return tag("svg", tag("path", d=_SHAPES[slot]), x=x, y=y, class_="mark", overflow="visible", width=1, height=1)


def legend(of: dict[str, int]) -> Html:
    """Return the marks' legend."""
    keys = []
    for method, slot in of.items():
        mark = tag("svg", _mark(slot), width=16, height=16, class_=f"m{slot}", aria_hidden="true")
        keys.append(tag("li", mark, tag("bdi", method), data_method=method))
    return tag("ul", *keys, class_="keys")


def _log_ticks(low: float, high: float) -> list[float]:
    """Return at most six round numbers inside [low, high], for a logarithmic axis."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for steps in ((1, 2, 5), (1, 3), (1,)):
        found = [m * 10.0**d for d in decades for m in steps if low <= m * 10.0**d <= high]
        if len(found) <= 6:
            return found or [low]
    return found[:: -(-len(found) // 6)]


def _front(places: Sequence[tuple[float, float]], sign: int) -> list[int]:
    """Return the indices of the Pareto front of (cost, score), cheapest first."""
    front: list[int] = []
    for k in sorted(range(len(places)), key=lambda k: (places[k][0], -sign * places[k][1])):
        if not front or sign * places[k][1] > sign * places[front[-1]][1]:
            front.append(k)
    return front


def _bytes_tick(x: float) -> str:
    return format_size(x).replace(".0 ", " ").replace(" bytes", " B")


def _time_tick(x: float) -> str:
    return f"{x:g} s" if x < 60 else format_duration(x).replace(" 0 s", "").replace(" 0 min", "")


def draw_pareto(rows: Sequence[Row], of: dict[str, int], what: str, key: str) -> Html | None:
    """Return a plot of the rows with a score and a cost, and the same as a table.

    Args:
        rows: of one protocol and one metric.
        of: result of `assign_marks`.
        what: ``bytes`` or ``time``.
        key: part of the ids of title and description, unique on the page.
    """
    cost: Callable[[Row], float | None] = (lambda row: row.bytes) if what == "bytes" else (lambda row: row.seconds)
    drawn = [(row, row.score, c) for row in rows if row.score is not None and (c := cost(row)) is not None]
    if len(drawn) < 2:
        return None
    metric = drawn[0][0].metric
    floor = 1.0 if what == "bytes" else _LEAST_SECONDS
    xs = [max(c, floor) for _, _, c in drawn]
    left, right = min(xs) / 1.25, max(xs) * 1.25
    whole = next((row.full.mean for row, _, _ in drawn if row.full is not None), None)
    low, high, cut = _range([e for _, e, _ in drawn], whole, metric)

    def across(x: float) -> float:
        return 100 * math.log(x / left) / math.log(right / left)

    def up(y: float) -> float:
        return 100 - 100 * (min(max(y, low), high) - low) / (high - low)

    best = _front([(x, e.mean) for x, (_, e, _) in zip(xs, drawn, strict=True)], metric.sign)
    tick, name = (_bytes_tick, "bytes") if what == "bytes" else (_time_tick, "time to make it")
    title = f"Test {metric.column_title} against {name}"
    said = _description([drawn[k][:2] for k in best], metric, name)
    grid = [tag("line", x1=f"{across(t):.2f}%", x2=f"{across(t):.2f}%", y1=0, y2="100%", class_="grid")
            for t in _log_ticks(left, right)]  # fmt: skip
    grid += [tag("line", x1=0, x2="100%", y1=f"{up(t):.2f}%", y2=f"{up(t):.2f}%", class_="grid")
             for t in linear_ticks(low, high)]  # fmt: skip
    aside = _aside([(across(x), up(e.mean)) for x, (_, e, _) in zip(xs, drawn, strict=True)])
    marks = [
        _dot(row, f"{across(x):.2f}%", up, of, what, lane)
        for x, (row, _, _), lane in zip(xs, drawn, aside, strict=True)
    ]
    threads: dict[str, list[tuple[float, float]]] = {}
    for k in sorted(range(len(drawn)), key=lambda k: xs[k]) if what == "bytes" else ():
        threads.setdefault(drawn[k][0].label, []).append((across(xs[k]), up(drawn[k][1].mean)))
    methods = {row.label: row.method for row, _, _ in drawn}
    svg = tag(
        "svg",
        tag("title", title, id=f"{key}-t"),
        tag("desc", said, id=f"{key}-d"),
        *grid,
        *_reference_line(whole, up, metric),
        *(_thread(places, of[methods[label]], methods[label]) for label, places in threads.items()),
        _steps([(across(xs[k]), up(drawn[k][1].mean)) for k in best]),
        *marks,
        height=_HEIGHT,
        role="img",
        aria_labelledby=f"{key}-t {key}-d",
    )
    ys = [tag("span", format_score(t, metric), style=f"top:{up(t):.2f}%") for t in linear_ticks(low, high)]
    below = [tag("span", tick(t), style=f"left:{across(t):.2f}%") for t in _log_ticks(left, right)]
    clamped = what == "time" and any(c < floor for _, _, c in drawn)
    note = f"{said} Mark: mean; upright line: 95% interval. Cost on a logarithmic scale."
    note += " Dashed: what nothing cheaper beats." + (" Thin lines join the sizes of a method." if threads else "")
    note += " Intervals that reach beyond the drawing are cut." if cut else ""
    note += " Marks that would hide each other stand side by side." if any(aside) else ""
    note += " The score axis does not start at zero." if low else ""
    note += f" Less than {_LEAST_SECONDS:g} s is drawn at {_LEAST_SECONDS:g} s." if clamped else ""
    return tag(
        "figure",
        tag("h3", title),
        tag(
            "div",
            tag("div", *ys, class_="ys", aria_hidden="true"),
            svg,
            tag("div", *below, class_="xs", aria_hidden="true"),
            class_="field",
        ),
        tag("figcaption", note),
        fold(Html("The same as a table"), _table(drawn, best, title, what)),
        class_="front",
    )


def _description(best: Sequence[tuple[Row, object]], metric: Metric, name: str) -> str:
    steps = [
        f"{row.label} at {row.size}, {format_score(row.score.mean, metric)}" for row, _ in best if row.score is not None
    ]
    shown_steps = steps if len(steps) <= 6 else [*steps[:3], "…", *steps[-2:]]
    grow = "bytes grow" if name == "bytes" else "time grows"
    return f"Best means as {grow}: {'; '.join(shown_steps)}."


def _range(scores: Sequence[Estimate], full_score: float | None, metric: Metric) -> tuple[float, float, bool]:
    """Return the ends of the score axis, and whether intervals are cut: means are squeezed to a third at most."""
    means = [e.mean for e in scores] + ([] if full_score is None else [full_score])
    least = 0.02 if metric.unit == "fraction" else 1e-6 + 0.02 * abs(max(means))
    spread = max(max(means) - min(means), least)
    ends = [y for e in scores for y in (e.low, e.high) if y is not None]
    low, high = min([*means, *ends]), max([*means, *ends])
    bottom, top = max(low, min(means) - spread), min(high, max(means) + spread)
    room = 0.06 * max(top - bottom, least)
    return max(metric.low, bottom - room), min(metric.high, top + room), low < bottom or high > top


_NEAR = (2.0, 5.0)
"""Distance in percent of the drawing's width and height below which marks hide each other."""


def _aside(places: Sequence[tuple[float, float]]) -> list[int]:
    """Return the lane of each mark: 0, or a lane beside (1, -1, 2, …)."""
    lanes: list[int] = []
    for k, (x, y) in enumerate(places):
        taken = {
            lanes[j] for j, (u, v) in enumerate(places[:k]) if abs(u - x) < _NEAR[0] and abs(v - y) < _NEAR[1]
        }  # fmt: skip
        lanes.append(
            next(lane for lane in (0, *(s * n for n in range(1, k + 2) for s in (1, -1))) if lane not in taken)
        )
    return lanes


def _reference_line(full_score: float | None, up: Callable[[float], float], metric: Metric) -> list[Html]:
    """Return a line at the score of all real data."""
    if full_score is None:
        return []
    y = f"{up(full_score):.2f}%"
    said = tag("text", f"all real data: {format_score(full_score, metric)}", x=4, y=y, dy=-5)
    return [tag("g", tag("line", x1=0, x2="100%", y1=y, y2=y), said, class_="whole")]


def _thread(places: Sequence[tuple[float, float]], slot: int, method: str) -> Html:
    """Return a line through a method's sizes."""
    line = tag("polyline", points=" ".join(f"{x:.2f},{y:.2f}" for x, y in places), vector_effect="non-scaling-stroke")
    box = "0 0 100 100"
    return tag("svg", line, viewBox=box, preserveAspectRatio="none", class_=f"thread m{slot}", data_method=method)


def _dot(row: Row, x: str, up: Callable[[float], float], of: dict[str, int], what: str, lane: int) -> Html:
    assert row.score is not None
    e, slot = row.score, of[row.method]
    spent = format_size(row.bytes) if what == "bytes" else format_duration(row.seconds)
    lines = []
    if e.low is not None and e.high is not None:
        lines.append(tag("line", x1=x, x2=x, y1=f"{up(e.low):.2f}%", y2=f"{up(e.high):.2f}%", class_="whisker"))
    spread = "" if e.low is None else f" ({format_interval(e, row.metric)})"
    said = f"{row.label}, {row.size}: {format_score(e.mean, row.metric)}{spread}, {spent}"
    mark, moved = _mark(slot, x, f"{up(e.mean):.2f}%"), f"translate({_LANE * lane} 0)" if lane else None
    return tag("g", tag("title", said), *lines, mark, class_=f"m{slot}", data_id=row.id, transform=moved)


def _steps(places: Sequence[tuple[float, float]]) -> Html:
    """Return the front as stairs; a drawing of its own, since a polyline takes no percentages."""
    path, last = [f"{places[0][0]:.2f},{places[0][1]:.2f}"], places[0][1]
    for x, y in places[1:]:
        path += [f"{x:.2f},{last:.2f}", f"{x:.2f},{y:.2f}"]
        last = y
    line = tag("polyline", points=" ".join([*path, f"100,{last:.2f}"]), vector_effect="non-scaling-stroke")
    return tag("svg", line, viewBox="0 0 100 100", preserveAspectRatio="none", class_="stairs")


def _table(points: Sequence[tuple[Row, object, float]], best: Sequence[int], title: str, what: str) -> Html:
    def line(k: int) -> Html:
        r, _, spent = points[k]
        assert r.score is not None
        cost = size_value(spent) if what == "bytes" else value(format_duration(spent), spent)
        score = score_value(r.score.mean, r.metric)
        return row(r.label, r.size, cost, score, format_interval(r.score, r.metric), "yes" if k in best else "")

    order = sorted(range(len(points)), key=lambda k: points[k][2])
    head = ("Method", "Size", "Bytes" if what == "bytes" else "Time", "Mean", "95% interval", "On the line")
    return table(title, head, [line(k) for k in order])
