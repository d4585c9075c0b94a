"""The kind ``points``: an unordered cloud, (3, points), and all that Potstill asks of it."""

from typing import Any

from potstill.core import InputSpec
from potstill.kinds import Html, Kind, tag

_SIDE, _MOST = 64, 256
"""Sides of a drawing in CSS pixels, and points that it shows."""


def draw_cloud(x: Any, alt: str) -> Html:
    """Return one cloud, a NumPy array (3, points), as an inline SVG: from the side, near points darker."""
    shown = x[:, :: max(1, -(-x.shape[1] // _MOST))]
    room = max(float(abs(shown).max()), 1e-6)
    low, depth = float(shown[2].min()), max(float(shown[2].max() - shown[2].min()), 1e-6)
    half = _SIDE / 2
    dots = [
        tag(
            "circle", cx=f"{half + 0.94 * half * a / room:.1f}", cy=f"{half - 0.94 * half * b / room:.1f}", r="1.2",
            opacity=f"{0.25 + 0.7 * (z - low) / depth:.2f}",
        )
        for a, b, z in shown.T.tolist()
    ]  # fmt: skip
    return tag(
        "svg", *dots, viewBox=f"0 0 {_SIDE} {_SIDE}", width=_SIDE, height=_SIDE, fill="currentColor", role="img",
        aria_label=alt,
    )  # fmt: skip


def describe_size(spec: InputSpec, noun: str) -> str:
    """Return ``point clouds of 128 points``."""
    return f"{noun} of {spec.shape[-1]:,} points"


POINTS = Kind(
    name="points", noun="point clouds", axes=("coordinates", "points"), network="point-net", draw=draw_cloud,
    size=describe_size,
)  # fmt: skip
