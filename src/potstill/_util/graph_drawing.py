"""A drawing of one graph: nodes by springs, coloured by their strongest feature, edges by their weight."""

import math
from typing import Any

import numpy as np

from potstill._util.html import Html, join_html, tag

__all__ = ["draw_graph"]

_SIDE, _STEPS = 120, 60
_COLOURS = ("#4c78a8", "#e45756", "#54a24b", "#f58518", "#72b7b2", "#b279a2", "#9d755d", "#bab0ac")
_FAINT = 0.1
"""Weight below which an edge, and presence below which a node, is not drawn."""


def draw_graph(x: Any, alt: str) -> Html:
    """Return a graph (n, d + n) as inline SVG."""
    n = len(x)
    upper = np.clip(np.nan_to_num(np.triu(x[:, x.shape[1] - n :]), nan=0.0), 0, 1)
    present = np.where(upper.diagonal() >= _FAINT)[0]
    weights = (upper + upper.T)[np.ix_(present, present)]
    np.fill_diagonal(weights, 0)
    place = _place(weights)
    lines = [
        tag("line", x1=_px(place[i, 0]), y1=_px(place[i, 1]), x2=_px(place[j, 0]), y2=_px(place[j, 1]), stroke="#888",
            stroke_width="1.5", stroke_opacity=f"{weights[i, j]:.2f}")
        for i, j in zip(*np.nonzero(np.triu(weights >= _FAINT)), strict=True)
    ]  # fmt: skip
    features = np.nan_to_num(x[present, : x.shape[1] - n], nan=0.0)
    nodes = [
        tag("circle", cx=_px(place[i, 0]), cy=_px(place[i, 1]), r=4,
            fill=_COLOURS[int(features[i].argmax()) % len(_COLOURS)] if features.shape[1] > 1 else _COLOURS[0])
        for i in range(len(present))
    ]  # fmt: skip
    drawn, box = join_html([*lines, *nodes]), f"0 0 {_SIDE} {_SIDE}"
    return tag("svg", drawn, viewBox=box, width=_SIDE, height=_SIDE, role="img", aria_label=alt)


def _px(value: float) -> str:
    return f"{8 + (_SIDE - 16) * value:.1f}"


def _place(weights: Any) -> Any:
    """Return places of nodes in the unit square: from a circle, pulled along edges and pushed apart (60 steps)."""
    n = len(weights)
    angle = 2 * math.pi * np.arange(n) / max(1, n)
    at = np.stack([np.cos(angle), np.sin(angle)], 1)
    ideal = 1 / math.sqrt(max(1, n))
    for step in range(_STEPS):
        apart = at[:, None] - at[None, :]
        length = np.maximum(np.sqrt((apart**2).sum(2)), 1e-3)
        push = ideal**2 / length - weights * length**2 / ideal
        move = (apart / length[:, :, None] * push[:, :, None]).sum(1)
        most = 0.2 * (1 - step / _STEPS)
        size = np.maximum(np.sqrt((move**2).sum(1, keepdims=True)), 1e-9)
        at = at + move / size * np.minimum(size, most)
    span = np.maximum(at.max(0) - at.min(0), 1e-6) if n else 1.0
    return (at - at.min(0)) / span if n else at
