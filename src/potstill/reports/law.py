"""The plane of data and knowledge as SVG, readable on light and dark pages: errors of students and the law."""

import itertools
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from potstill._util.html import Html
from potstill.reports.chart import COLOURS, INK, RULE, document, dot, line, polyline, text_label

__all__ = ["draw_law"]

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 760, 460, 64, 200, 56, 56
ERRORS = (0.005, 0.01, 0.02, 0.03, 0.05, 0.07, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
"""Candidate axis marks."""


def draw_law(result: Mapping[str, Any]) -> str:
    """Return error against items per class, both logarithmic, with the law as curves.

    Args:
        found: the content of a ``scaling.json``.
    """
    axes = _Axes(result)
    budgets = result["settings"]["ipc"]
    marks = axes.grid(budgets, result["source"])
    series = [("hard", "classes", INK)]
    known = {t["stop"]: t["accuracy"] for t in result["teachers"]}
    for stop, colour in zip(result["settings"]["stops"], itertools.cycle(COLOURS[1:]), strict=False):
        unit = "epoch" if stop == 1 else "epochs"
        series.append((str(stop), f"{stop} {unit} ({100 * known[stop]:.1f} %)", colour))
    for place, (name, label, colour) in enumerate(series):
        points = [axes.at(n, e) for n, e in zip(result["law"]["amounts"], result["law"]["curves"][name], strict=True)]
        marks.append(polyline(points, colour))
        aside = 3 * (place - (len(series) - 1) / 2)  # points of one budget stand side by side
        for n in budgets:
            accuracy = result["cells"][f"{n}-{name}"]["accuracy"]
            x, y = axes.at(n, 1 - accuracy["mean"])
            if accuracy["ci95"]:
                low, high = (axes.at(n, 1 - v)[1] for v in accuracy["ci95"])
                marks.append(line(x + aside, low, x + aside, high, colour))
            marks.append(dot(x + aside, y, colour, 3.5))
        marks += _legend(place, label, colour, "labels" if place == 0 else "teacher of" if place == 1 else None)
    marks += _worth(result, axes)
    said = (
        f"Error of students against items per class, {result['source']}: {result['sentence']} Bars are 95 % intervals "
        f"over {result['settings']['sets']} sets, curves are the law."
    )
    return document(WIDTH, HEIGHT, said, marks)


class _Axes:
    """Coordinates of an amount of data and an error."""

    def __init__(self, result: Mapping[str, Any]) -> None:
        budgets = result["settings"]["ipc"]
        shown = [1 - c["accuracy"]["mean"] for c in result["cells"].values()]
        shown += [error for curve in result["law"]["curves"].values() for error in curve]
        spread = max(max(shown) / max(min(shown), 1e-3), 1.05) ** 0.06
        self.low, self.high = max(min(shown), 1e-3) / spread, min(max(shown), 1.0) * spread
        self.first, self.last = budgets[0], budgets[-1]

    def at(self, n: float, error: float) -> tuple[float, float]:
        """Return coordinates, clipped to the frame."""
        error = min(max(error, self.low), self.high)
        right = math.log(n / self.first) / math.log(self.last / self.first)
        down = math.log(error / self.low) / math.log(self.high / self.low)
        return LEFT + 16 + right * (WIDTH - LEFT - RIGHT - 32), TOP + down * (HEIGHT - TOP - BOTTOM)

    def grid(self, budgets: list[int], source: object) -> list[Html]:
        marks = [text_label(LEFT - 8, TOP - 24, f"accuracy, {_short(source)}", "start")]
        inside = [e for e in ERRORS if self.low <= e <= self.high]
        for error in inside or [self.low, self.high]:
            _, y = self.at(self.first, error)
            marks.append(line(LEFT, y, WIDTH - RIGHT, y, RULE))
            marks.append(text_label(LEFT - 8, y + 4, f"{100 * (1 - error):.3g} %", "end"))
        for n in budgets:
            x, _ = self.at(n, self.low)
            marks.append(line(x, TOP, x, HEIGHT - BOTTOM, RULE))
            marks.append(text_label(x, HEIGHT - BOTTOM + 18, str(n), "middle"))
        middle = (LEFT + WIDTH - RIGHT) / 2
        marks.append(text_label(middle, HEIGHT - 14, "real samples per class", "middle"))
        return marks


def _worth(result: Mapping[str, Any], axes: _Axes) -> list[Html]:
    """Return a dashed line from the soft labels of the sentence to the hard labels that they are worth."""
    row = next(r for r in result["worth"] if r["ipc"] == result["said_of"])
    if row["value"] is None:
        return []
    amounts, curve = result["law"]["amounts"], result["law"]["curves"][str(row["stop"])]
    error = math.exp(np.interp(math.log(row["ipc"]), np.log(amounts), np.log(curve)))
    left, right = axes.at(row["ipc"], error), axes.at(row["value"], error)
    return [
        line(*left, *right, INK, dashes="5 4"),
        text_label(right[0] + 4, right[1] - 6, f"{row['ipc']} soft = {row['value']:.3g} hard", "start", size=12),
    ]


def _legend(place: int, label: str, colour: str, head: str | None) -> list[Html]:
    x, y = WIDTH - RIGHT + 18, TOP + 30 * (place > 0) + 20 * place
    heading = [] if head is None else [text_label(x, y - 4, head, "start", size=12)]
    return [*heading, dot(x + 4, y + 12, colour), text_label(x + 14, y + 16, label, "start")]


def _short(name: object) -> str:
    word = str(name)
    return word if len(word) <= 60 else f"{word[:59]}…"
