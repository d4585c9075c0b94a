"""Parts of the figures on the pages of measurements: rows of values with intervals over one labelled axis."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from potstill._util.html import Html, tag
from potstill.reports.chart import RULE, document, dot, line, text_label

__all__ = ["Axis", "Point", "Row", "Series", "rows_chart"]

WIDTH, RIGHT, BOTTOM = 760, 100, 56
QUIET = "#57606a"


@dataclass(frozen=True)
class Series:
    """Name and colour of all marks of one kind; ``radius`` of its dots."""

    name: str
    colour: str
    radius: float = 4


@dataclass(frozen=True)
class Point:
    """A value of a series, the ends of its interval, and the single values behind a mean."""

    series: Series
    value: float
    ends: tuple[float, float] | None = None
    singles: tuple[float, ...] = ()


@dataclass(frozen=True)
class Row:
    """A line of the chart: its name, its points, and a text at its right end. Without points it is a heading."""

    name: str
    points: Sequence[Point] = ()
    end: str = ""
    stacked: bool = False
    """Whether its points are lengths of one bar, one after another."""


@dataclass(frozen=True)
class Axis:
    """The horizontal axis: its label with the unit, its range, and values that get a line with a text above."""

    label: str
    low: float
    high: float
    step: float = 0.0
    logarithmic: bool = False
    marks: dict[float, str] = field(default_factory=dict)

    def place(self, value: float) -> float:
        """Return where a value lies, from 0 to 1; what is outside lies at the end."""
        if self.logarithmic:
            share = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return min(1.0, max(0.0, share))

    def ticks(self) -> list[float]:
        """Return the values that have a grid line."""
        if not self.logarithmic:
            return [round(self.low + n * self.step, 6) for n in range(round((self.high - self.low) / self.step) + 1)]
        powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        return [t for p in powers for m in (1, 2, 5) if self.low <= (t := m * 10.0**p) <= self.high]


def rows_chart(
    title: str, rows: Sequence[Row], axis: Axis, *, left: float = 220, spread: float = 9.0, signed: bool = False
) -> str:
    """Return an SVG with a line of points for each row and the names of the series above.

    Args:
        title: accessible name: what is shown, in a sentence.
        rows: from top to bottom.
        axis: the horizontal axis.
        left: width of the column of names.
        spread: vertical distance between the points of one row.
        signed: whether ticks have a sign.
    """
    heights = [26.0 if row.stacked else max(26.0, spread * len(row.points) + 8) for row in rows]
    top = 72.0 if axis.marks else 44.0
    under, right = top + sum(heights), WIDTH - RIGHT

    def x(value: float) -> float:
        return left + (right - left) * axis.place(value)

    marks = _legend(rows)
    for tick in axis.ticks():
        text = f"{tick:+g}" if signed and tick else f"{tick:,g}"
        marks += [line(x(tick), top, x(tick), under), text_label(x(tick), under + 17, text, "middle", size=12)]
    for n, (value, text) in enumerate(axis.marks.items()):
        marks.append(line(x(value), top - 4, x(value), under, QUIET, dashes="4 3"))
        marks.append(text_label(x(value), top - 8 - 13 * (n % 2), text, "middle", size=11, colour=QUIET))
    y = top
    for row, height in zip(rows, heights, strict=True):
        middle = y + height / 2
        marks.append(text_label(left - 10, middle + 4, row.name, "end", size=12, bold=not row.points))
        if row.stacked:
            marks += _bar(
                row, middle, [x(0), *(x(sum(p.value for p in row.points[: n + 1])) for n in range(len(row.points)))]
            )
        for n, point in enumerate(() if row.stacked else row.points):
            marks += _drawn(point, middle + spread * (n - (len(row.points) - 1) / 2), x(point.value), [
                x(end) for end in point.ends or ()
            ], [x(single) for single in point.singles])  # fmt: skip
        if row.end:
            marks.append(text_label(right + 10, middle + 4, row.end, size=12))
        y += height
        marks.append(line(left, y, right, y, RULE, width=0.5))
    marks.append(text_label((left + right) / 2, under + 40, axis.label, "middle", size=12))
    return document(WIDTH, under + BOTTOM, title, marks)


def _drawn(point: Point, y: float, at: float, ends: list[float], singles: list[float]) -> list[Html]:
    """Return the marks of one point: its interval, the values behind it, and its dot."""
    colour = point.series.colour
    marks = [line(ends[0], y, ends[1], y, colour, width=2)] if ends else []
    marks += [line(end, y - 3, end, y + 3, colour, width=2) for end in ends]
    marks += [dot(single, y, "#ffffff", 3) for single in singles] + [dot(single, y, colour, 1.8) for single in singles]
    return [*marks, dot(at, y, colour, point.series.radius)]


def _bar(row: Row, y: float, ends: list[float]) -> list[Html]:
    """Return the parts of a bar, each with its number."""
    marks: list[Html] = []
    for point, first, last in zip(row.points, ends, ends[1:], strict=False):
        if point.value:
            colour = point.series.colour
            marks.append(
                tag("rect", x=f"{first:.1f}", y=f"{y - 9:.1f}", width=f"{last - first:.1f}", height=18, fill=colour)
            )
            marks.append(text_label((first + last) / 2, y + 4, f"{point.value:g}", "middle", size=11, colour="#ffffff"))
    return marks


def _legend(rows: Sequence[Row]) -> list[Html]:
    """Return the names of all series in one line, each in front of its dot."""
    marks: list[Html] = []
    x = 16.0
    for series in dict.fromkeys(point.series for row in rows for point in row.points):
        marks += [dot(x, 20, series.colour, series.radius), text_label(x + 10, 24, series.name, size=12)]
        x += 34 + 6.6 * len(series.name)
    return marks
