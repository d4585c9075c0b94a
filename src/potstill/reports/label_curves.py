"""Accuracy against labels as one SVG file: a line for each acquisition, its interval as a band."""

from collections.abc import Mapping, Sequence
from typing import Any
from xml.sax.saxutils import escape

__all__ = ["label_curves"]

_WIDTH, _HEIGHT = 720, 440
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 170, 24, 56
_COLOURS = ("#666666", "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""Okabe and Ito's, told apart by people of any colour vision; grey is for random."""


def label_curves(result: Mapping[str, Any], title: str) -> str:
    """The curves of what `potstill.verbs.use.label_cost` returns.

    Args:
        result: its JSON.
        title: said above.

    Returns:
        An SVG document.
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

    def points(pairs: Sequence[tuple[float, float]]) -> str:
        return " ".join(f"{x(a):.1f},{y(b):.1f}" for a, b in pairs)

    right = _WIDTH - _RIGHT
    marks = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="sans-serif" '
        f'font-size="13" role="img"><title>{escape(title)}</title>',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>',
    ]
    for k in range(5):
        value = low + (high - low) * k / 4
        marks.append(f'<line x1="{_LEFT}" x2="{right}" y1="{y(value):.1f}" y2="{y(value):.1f}" stroke="#ddd"/>')
        marks.append(f'<text x="{_LEFT - 8}" y="{y(value) + 4:.1f}" text-anchor="end">{100 * value:.1f}%</text>')
    every = max(1, -(-len(labels) // 6))
    for count in labels[::every]:
        marks.append(f'<text x="{x(count):.1f}" y="{_HEIGHT - _BOTTOM + 20}" text-anchor="middle">{count:,}</text>')
    middle = (_LEFT + right) / 2
    marks.append(f'<text x="{middle}" y="{_HEIGHT - 12}" text-anchor="middle">labels asked for</text>')
    for value, said in ((full, "all labels"), (result["fraction"] * full, f"{100 * result['fraction']:g}% of that")):
        if low <= value <= high:
            marks.append(
                f'<line x1="{_LEFT}" x2="{right}" y1="{y(value):.1f}" y2="{y(value):.1f}" stroke="#333" '
                f'stroke-dasharray="5 4"/><text x="{right + 8}" y="{y(value) + 4:.1f}">{said}</text>'
            )
    for n, (name, curve) in enumerate(curves.items()):
        colour = _COLOURS[n % len(_COLOURS)]
        rows = list(zip(labels, curve["accuracy"], strict=True))
        if all(a["ci95"] for _, a in rows):
            band = [(c, a["ci95"][1]) for c, a in rows] + [(c, a["ci95"][0]) for c, a in reversed(rows)]
            marks.append(f'<polygon points="{points(band)}" fill="{colour}" opacity="0.15"/>')
        line = points([(c, a["mean"]) for c, a in rows])
        marks.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        at = _HEIGHT - _BOTTOM - 18 * (len(curves) - n) + 6
        marks.append(
            f'<line x1="{right + 8}" x2="{right + 28}" y1="{at - 4}" y2="{at - 4}" stroke="{colour}" stroke-width="2"/>'
            f'<text x="{right + 34}" y="{at}">{escape(name)}</text>'
        )
    return "\n".join([*marks, "</svg>"]) + "\n"
