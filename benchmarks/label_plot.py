"""Accuracy against label bytes as a plain SVG, readable on light and dark pages."""

import html
import math
from pathlib import Path
from typing import Any

__all__ = ["plot"]

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 760, 440, 56, 170, 44, 56
COLOURS = ("#1f6feb", "#d1570c", "#2f9e44", "#8a63d2", "#c2255c", "#0b7285", "#997404")


def _label(cell: dict[str, Any]) -> str:
    bits = {"float16": 16, "uint8": 8, "uint4": 4}[cell["dtype"]]
    return f"top {cell['top_k']}, {bits} bits"


def _bytes(size: float) -> str:
    for unit, scale in (("MB", 1e6), ("kB", 1e3)):
        if size >= scale:
            return f"{size / scale:g} {unit}"
    return f"{size:g} B"


def plot(found: dict[str, Any], path: Path) -> None:
    """Each way to store as a colour, its pools joined by a line; references as dashed lines."""
    stored = [c for c in found["cells"] if c["labels"] == "stored"]
    others = [c for c in found["cells"] if c["labels"] != "stored"]
    ends = [v for c in found["cells"] for v in (c["accuracy"]["ci95"] or [c["accuracy"]["mean"]])]
    low, high = max(0.0, min(ends)), min(1.0, max(ends))
    step = next(t for t in (0.005, 0.01, 0.02, 0.05, 0.1, 0.2) if (high - low) / t <= 8)
    low, high = math.floor(low / step) * step, math.ceil(high / step) * step
    sizes = [c["bytes"] for c in stored] + [found["published_bytes"]]
    first, last = math.log10(min(sizes)) - 0.1, math.log10(max(sizes)) + 0.1

    def x(size: float) -> float:
        return LEFT + (math.log10(size) - first) / (last - first) * (WIDTH - LEFT - RIGHT)

    def y(value: float) -> float:
        return HEIGHT - BOTTOM - (value - low) / (high - low) * (HEIGHT - TOP - BOTTOM)

    marks: list[str] = []

    def line(x1: float, y1: float, x2: float, y2: float, colour: str, more: str = "") -> None:
        marks.append(f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" {more}/>')

    def text(at: float, down: float, words: str, more: str = "") -> None:
        marks.append(f'<text x="{at:.1f}" y="{down:.1f}" {more}>{html.escape(words)}</text>')

    for i in range(round((high - low) / step) + 1):
        value = low + i * step
        line(LEFT, y(value), WIDTH - RIGHT, y(value), "#d0d7de")
        text(LEFT - 8, y(value) + 4, f"{100 * value:.3g}%", 'text-anchor="end"')
    for power in range(math.ceil(first), math.floor(last) + 1):
        line(x(10**power), TOP, x(10**power), HEIGHT - BOTTOM, "#d0d7de")
        text(x(10**power), HEIGHT - BOTTOM + 18, _bytes(10**power), 'text-anchor="middle"')
    text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 14, "bytes of the labels of one set, as stored", 'text-anchor="middle"')
    line(
        x(found["published_bytes"]),
        TOP,
        x(found["published_bytes"]),
        HEIGHT - BOTTOM,
        "#57606a",
        'stroke-dasharray="2 4"',
    )
    text(x(found["published_bytes"]) - 4, HEIGHT - BOTTOM - 6, "FKD files", 'text-anchor="end"')
    floor = math.inf
    for cell in sorted(others, key=lambda c: float(c["accuracy"]["mean"])):
        level = y(cell["accuracy"]["mean"])
        floor = min(level, floor - 16)  # words do not lie on one another
        line(LEFT, level, WIDTH - RIGHT, level, "#57606a", 'stroke-dasharray="6 4"')
        named = {"hard": "classes", "static": "one row a picture"}[cell["labels"]]
        text(WIDTH - RIGHT + 6, floor + 4, f"{named} ({_bytes(cell['bytes'])})")
    names = list(dict.fromkeys(map(_label, stored)))
    for name, colour in zip(names, COLOURS, strict=False):
        mine = sorted((c for c in stored if _label(c) == name), key=lambda c: int(c["bytes"]))
        where = " ".join(f"{x(c['bytes']):.1f},{y(c['accuracy']['mean']):.1f}" for c in mine)
        marks.append(f'<polyline points="{where}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
        for cell in mine:
            at, mean = x(cell["bytes"]), cell["accuracy"]["mean"]
            if cell["accuracy"]["ci95"]:
                ends = [min(max(v, low), high) for v in cell["accuracy"]["ci95"]]
                line(at, y(ends[0]), at, y(ends[1]), colour)
            marks.append(f'<circle cx="{at:.1f}" cy="{y(mean):.1f}" r="4" fill="{colour}"/>')
            if len(mine) > 1:
                text(at + 6, y(mean) + 14, str(cell["pool"]), f'fill="{colour}" font-size="11"')
        over = LEFT + 115 * names.index(name)
        marks.append(f'<circle cx="{over}" cy="18" r="4" fill="{colour}"/>')
        text(over + 9, 22, name, 'font-size="12"')
    said = found["settings"]
    title = (f"Accuracy of students against bytes of labels: {said['data']}, {said['ipc']} real pictures a class, "
             f"{said['sets']} sets, {said['epochs']} epochs. Bars are 95% intervals over sets, small numbers are "
             "epochs stored.")  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" font-size="13" '
        f'font-family="system-ui, sans-serif" fill="#24292f"><title>{html.escape(title)}</title>'
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>' + "".join(marks) + "</svg>\n"
    )
