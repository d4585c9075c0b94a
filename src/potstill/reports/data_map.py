"""The data map of dataset cartography as SVG: every sample by its variability and its confidence."""

from collections.abc import Sequence
from dataclasses import dataclass

from potstill._util.html import Html, join_html, tag
from potstill._util.outputs import PAGE_MARK

__all__ = ["MapPoint", "draw_data_map"]

_MOST = 4000
_LEFT, _TOP, _WIDTH, _HEIGHT = 60, 60, 560, 400
_KINDS = {"easy": "circle", "ambiguous": "triangle", "hard": "square"}
_STYLE = """
svg{background:#faf8f4;font:14px system-ui,sans-serif;fill:#1f2428}
.easy{fill:#5f7486}.ambiguous{fill:#a34a1c}.hard{fill:#a12a2a}.mark{fill-opacity:.55}
.grid{stroke:#e3dfd6}.soft{fill:#59616a}
@media (prefers-color-scheme:dark){svg{background:#14171a;fill:#e9e6e0}.easy{fill:#8fa5b8}.ambiguous{fill:#eb9a68}
.hard{fill:#f09a94}.grid{stroke:#30363c}.soft{fill:#a3abb3}}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class MapPoint:
    """One sample."""

    variability: float
    confidence: float
    region: str
    """``easy``, ``ambiguous`` or ``hard``."""
    label: str
    """Tooltip: its class, its file."""


def _mark(kind: str, x: float, y: float, label: str | None, shown: str) -> Html:
    title = None if label is None else tag("title", label)
    if _KINDS[kind] == "circle":
        path = f"M{x - 3:.1f} {y:.1f}a3 3 0 1 0 6 0a3 3 0 1 0 -6 0"
    elif _KINDS[kind] == "triangle":
        path = f"M{x:.1f} {y - 4:.1f}l3.6 6.4h-7.2z"
    else:
        path = f"M{x - 3:.1f} {y - 3:.1f}h6v6h-6z"
    return tag("g", title, tag("path", d=path), class_=f"{kind} {shown}")


def draw_data_map(points: Sequence[MapPoint], name: str) -> str:
    """Return a standalone SVG. Of more than 4,000 samples an even part is drawn; the counts are of all.

    Args:
        points: every sample; at least one.
        name: of the data.
    """
    every = -(-len(points) // _MOST)
    drawn = points[::every]
    widest = max(0.1, max(p.variability for p in points))
    marks = [
        _mark(p.region, _LEFT + _WIDTH * p.variability / widest, _TOP + _HEIGHT * (1 - p.confidence), p.label, "mark")
        for p in drawn
    ]
    lines: list[Html] = []
    for i in range(5):
        x, y = _LEFT + _WIDTH * i / 4, _TOP + _HEIGHT * i / 4
        lines += [
            tag("line", x1=x, x2=x, y1=_TOP, y2=_TOP + _HEIGHT, class_="grid"),
            tag("line", x1=_LEFT, x2=_LEFT + _WIDTH, y1=y, y2=y, class_="grid"),
            tag("text", f"{widest * i / 4:.2f}", x=x, y=_TOP + _HEIGHT + 20, text_anchor="middle", class_="soft"),
            tag("text", f"{1 - i / 4:.2f}", x=_LEFT - 8, y=y + 5, text_anchor="end", class_="soft"),
        ]
    legend: list[Html] = []
    for i, kind in enumerate(_KINDS):
        count = sum(p.region == kind for p in points)
        legend += [
            _mark(kind, _LEFT + 6 + 190 * i, 38, None, "key"),
            tag("text", f"{kind}: {count:,}", x=_LEFT + 16 + 190 * i, y=43),
        ]
    thinned = f", {len(drawn):,} of them drawn" if every > 1 else ""
    title = f"Data map of {name}: {len(points):,} samples{thinned}"
    words = [
        tag("text", title, x=_LEFT, y=20, font_weight="bold"),
        tag(
            "text", "variability: spread of the true class's probability over the epochs", x=_LEFT + _WIDTH / 2,
            y=_TOP + _HEIGHT + 42, text_anchor="middle",
        ),
        tag(
            "text", "confidence: its mean", x=0, y=0, text_anchor="middle",
            transform=f"translate(16 {_TOP + _HEIGHT / 2}) rotate(-90)",
        ),
    ]  # fmt: skip
    return tag(
        "svg", tag("title", title), tag("metadata", PAGE_MARK),
        tag("style", Html(_STYLE)), join_html(lines), join_html(marks), join_html(legend), join_html(words),
        xmlns="http://www.w3.org/2000/svg", viewBox=f"0 0 {_LEFT + _WIDTH + 30} {_TOP + _HEIGHT + 60}", role="img",
        aria_label=title,
    )  # fmt: skip
