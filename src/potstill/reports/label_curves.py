"""Accuracy against labels as SVG: a line for each acquisition function, its interval as a band."""

from collections.abc import Mapping
from typing import Any

from potstill.reports.chart import COLOURS, INK, band, document, line, polyline, text_label

__all__ = ["draw_label_curves"]

_WIDTH, _HEIGHT = 720, 440
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 170, 24, 56


def draw_label_curves(result: Mapping[str, Any], title: str) -> str:
    """Return the curves of `potstill.active.label_cost` as an SVG document.

    Args:
        result: its JSON.
        title: heading.
    """
    labels: list[int] = result["labels"]
    full: float = result["full"]["mean"]
    curves: Mapping[str, Any] = result["curves"]
    ends = [full, *(v for c in curves.values() for a in c["accuracy"] for v in (a["mean"], *(a["ci95"] or ())))]
    low, high = max(0.0, min(ends)), min(1.0, max(ends))
    low, high = (low, high) if high - low > 0.02 else (max(0.0, low - 0.01), min(1.0, high + 0.01))

    def x(count: float) -> float:
        span = max(labels[-1] - labels[0], 1)
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * (count - labels[0]) / span

    def y(value: float) -> float:
        clipped = min(max(value, low), high)
        place: float = _HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * (clipped - low) / (high - low)
        return place

    def to_points(values: list[float]) -> list[tuple[float, float]]:
        return [(x(count), y(value)) for count, value in zip(labels, values, strict=True)]

    right, under = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM
    marks = []
    for value in (low + (high - low) * k / 4 for k in range(5)):
        marks.append(line(_LEFT, y(value), right, y(value)))
        marks.append(text_label(_LEFT - 8, y(value) + 4, f"{100 * value:.1f}%", "end"))
    marks += [text_label(x(n), under + 20, f"{n:,}", "middle") for n in labels[:: max(1, -(-len(labels) // 6))]]
    marks.append(text_label((_LEFT + right) / 2, _HEIGHT - 12, "labels asked for", "middle"))
    for value, said in ((full, "all labels"), (result["fraction"] * full, f"{100 * result['fraction']:g}% of that")):
        if low <= value <= high:
            marks.append(line(_LEFT, y(value), right, y(value), INK, dashes="5 4"))
            marks.append(text_label(right + 8, y(value) + 4, said))
    for n, (name, curve) in enumerate(curves.items()):
        colour, rows = COLOURS[n % len(COLOURS)], curve["accuracy"]
        if all(a["ci95"] for a in rows):
            marks.append(band(to_points([a["ci95"][1] for a in rows]), to_points([a["ci95"][0] for a in rows]), colour))
        marks.append(polyline(to_points([a["mean"] for a in rows]), colour, width=2))
        at = under - 18 * (len(curves) - n) + 6
        marks += [line(right + 8, at - 4, right + 28, at - 4, colour, width=2), text_label(right + 34, at, name)]
    return document(_WIDTH, _HEIGHT, title, marks)
