"""Page of a comparison of an augmentation: accuracy of each way with its interval, a table, and what they show."""

from collections.abc import Mapping
from typing import Any

from potstill._util.html import Html, tag
from potstill._util.outputs import PAGE_MARK
from potstill.reports.chart import COLOURS, dot, line, text_label
from potstill.reports.chart import document as svg
from potstill.reports.continual import percent, points
from potstill.reports.page import document, page_header
from potstill.reports.tables import row, table

__all__ = ["AUGMENTATION_HEAD", "cells_of", "describe_comparison", "draw_comparison", "render_augmentation"]

AUGMENTATION_HEAD = ("way", "accuracy", "minus none", "trained on", "labels and weights")
"""Columns of the table."""
_ABOUT = {
    "none": ("training data", "as they are"),
    "raw": ("training data, augmented", "as they are"),
    "weights": ("training data, augmented", "weights adapted"),
    "adapted": ("training data, augmented", "both adapted"),
    "both parts": ("training and validation data", "as they are"),
    "both parts, raw": ("training and validation data, augmented", "as they are"),
}
_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _ROW = 720, 260, 130, 40, 24, 32


def cells_of(one: Mapping[str, Any]) -> list[str]:
    """Return a row as texts, in the order of `AUGMENTATION_HEAD`."""
    gap = points(one["difference"]) if "difference" in one else "–"
    return [one["way"], percent(one["accuracy"]), gap, *_ABOUT[one["way"]]]


def draw_comparison(result: Mapping[str, Any]) -> str:
    """Return the accuracy of each way with its interval as SVG."""
    rows = result["rows"]
    ends = [v for r in rows for v in (r["accuracy"]["mean"], *(r["accuracy"]["ci95"] or ()))]
    low: float = max(0.0, min(ends) - 0.01)
    high: float = min(1.0, max(ends) + 0.01)

    def x(value: float) -> float:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * (value - low) / (high - low)

    under = _TOP + _ROW * len(rows)
    marks = []
    for value in (low + (high - low) * k / 4 for k in range(5)):
        marks += [
            line(x(value), _TOP, x(value), under),
            text_label(x(value), under + 18, f"{100 * value:.1f}%", "middle"),
        ]  # fmt: skip
    for n, one in enumerate(rows):
        at, ci = _TOP + _ROW * (n + 0.5), one["accuracy"]["ci95"]
        colour = COLOURS[n % len(COLOURS)]
        marks.append(text_label(_LEFT - 10, at + 4, one["way"], "end"))
        if ci is not None:
            marks.append(line(x(ci[0]), at, x(ci[1]), at, colour, width=2))
        marks.append(dot(x(one["accuracy"]["mean"]), at, colour, 5))
    return svg(_WIDTH, _HEIGHT, "Accuracy of each way on test data, with 95% intervals", marks)


def describe_comparison(result: Mapping[str, Any]) -> str:
    """Return how it was measured."""
    s, n = result["settings"], result["seeds"]
    return (
        f"{result['samples']:,} samples of {result['source']}, of which {100 * s['validation']:g} % are validation "
        f"data, drawn anew for each network. {n} network{'' if n == 1 else 's'} ({result['network']}) of each way, "
        f"{s['steps']:,} updates of {s['batch']} (SGD, momentum 0.9), learning rate {s['lr']:g}, pull {s['pull']:g}, "
        f"temperature {s['temperature']:g}. Accuracy on {result['test_samples']:,} test samples, on which nothing is "
        "chosen; 95% intervals for new test samples and networks; differences are paired over networks and hold on "
        f"these test samples. In the way weights {100 * result['zero']:.0f} % of the samples had weight 0."
    )


def render_augmentation(result: Mapping[str, Any]) -> str:
    """Return the page."""
    title = f"The augmentation {result['augmentation']} on {result['source']}"
    body: list[Html] = [
        page_header(
            "an augmentation by validation data", result["source"],
            *(tag("p", sentence, class_="lede") for sentence in result["sentences"]),
        )
    ]  # fmt: skip
    rows = [row(first, *cells) for first, *cells in map(cells_of, result["rows"])]
    made = table("Ways to train: accuracy in percent with 95% intervals", list(AUGMENTATION_HEAD), rows)
    body.append(
        tag(
            "main", Html(draw_comparison(result)), made, tag("p", describe_comparison(result), class_="note"),
            tag("p", PAGE_MARK, class_="note"),
        )
    )  # fmt: skip
    return document(title, body)
