"""SVG documents and marks for standalone charts.

Coordinates are in the document's own units. Every text is escaped as it enters.
"""

from collections.abc import Iterable

from potstill._util.html import Html, escape, join_html, tag
from potstill._util.outputs import PAGE_MARK

__all__ = ["COLOURS", "INK", "RULE", "band", "document", "dot", "line", "polyline", "text_label"]

INK, RULE = "#24292f", "#d0d7de"
COLOURS = ("#57606a", "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#997404", "#56b4e9", "#8a63d2")
"""Colour-blind safe colours (Okabe and Ito, the yellow darker); grey is for references."""

Points = Iterable[tuple[float, float]]


def document(width: float, height: float, title: str, marks: Iterable[Html]) -> str:
    """Return a whole file, on white so that it is readable on dark pages too; ``title`` is its accessible name."""
    return tag(
        "svg", tag("title", title), tag("metadata", PAGE_MARK),
        tag("rect", width=width, height=height, fill="#ffffff"), join_html(marks, "\n"),
        xmlns="http://www.w3.org/2000/svg", viewBox=f"0 0 {width:g} {height:g}", role="img", font_size=13,
        font_family="system-ui, sans-serif", fill=INK,
    ) + "\n"  # fmt: skip


def line(
    x1: float, y1: float, x2: float, y2: float, colour: str = RULE, *, width: float = 1, dashes: str | None = None
) -> Html:
    """Return a straight line."""
    return tag(
        "line", x1=_n(x1), y1=_n(y1), x2=_n(x2), y2=_n(y2), stroke=colour, stroke_width=width,
        stroke_dasharray=dashes or None,
    )  # fmt: skip


def polyline(points: Points, colour: str, *, width: float = 1.5, dashes: str | None = None) -> Html:
    """Return a line through all points."""
    return tag(
        "polyline", points=_places(points), fill="none", stroke=colour, stroke_width=width,
        stroke_dasharray=dashes or None,
    )  # fmt: skip


def band(above: Points, below: Points, colour: str) -> Html:
    """Return the area between two lines from left to right, e.g. an interval."""
    return tag("polygon", points=_places([*above, *reversed([*below])]), fill=colour, opacity=0.15)


def dot(x: float, y: float, colour: str, radius: float = 4) -> Html:
    """Return a point."""
    return tag("circle", cx=_n(x), cy=_n(y), r=f"{radius:g}", fill=colour)


def text_label(
    x: float, y: float, content: object, anchor: str = "start", *, size: int | None = None, bold: bool = False,
    colour: str | None = None,
) -> Html:  # fmt: skip
    """Return a line of text at a position."""
    weight = 600 if bold else None
    return tag(
        "text", escape(content), x=_n(x), y=_n(y), text_anchor=anchor, font_size=size, font_weight=weight, fill=colour
    )


def _n(value: float) -> str:
    return f"{value:.1f}"


def _places(points: Points) -> str:
    return " ".join(f"{_n(x)},{_n(y)}" for x, y in points)
