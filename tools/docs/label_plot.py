"""Accuracy against label bytes as a plain SVG, readable on light and dark pages."""

import json
import math
from pathlib import Path
from typing import Any

from potstill.reports.chart import COLOURS, INK, document, dot, line, polyline, text_label

__all__ = ["plot"]

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 760, 440, 56, 170, 44, 56


def _label(cell: dict[str, Any]) -> str:
    bits = {"float16": 16, "uint8": 8, "uint4": 4}[cell["dtype"]]
    return f"top {cell['top_k']}, {bits} bits"


def _bytes(size: float) -> str:
    for unit, scale in (("MB", 1e6), ("kB", 1e3)):
        if size >= scale:
            return f"{size / scale:g} {unit}"
    return f"{size:g} B"


def plot(found: dict[str, Any], file: Path) -> None:
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

    right, under, published = WIDTH - RIGHT, HEIGHT - BOTTOM, x(found["published_bytes"])
    marks = []
    for i in range(round((high - low) / step) + 1):
        value = low + i * step
        marks.append(line(LEFT, y(value), right, y(value)))
        marks.append(text_label(LEFT - 8, y(value) + 4, f"{100 * value:.3g}%", "end"))
    for power in range(math.ceil(first), math.floor(last) + 1):
        marks.append(line(x(10**power), TOP, x(10**power), under))
        marks.append(text_label(x(10**power), under + 18, _bytes(10**power), "middle"))
    marks.append(text_label((LEFT + right) / 2, HEIGHT - 14, "bytes of the labels of one set, as stored", "middle"))
    marks.append(line(published, TOP, published, under, INK, dashes="2 4"))
    marks.append(text_label(published - 4, under - 6, "FKD files", "end"))
    floor = math.inf
    for cell in sorted(others, key=lambda c: float(c["accuracy"]["mean"])):
        level = y(cell["accuracy"]["mean"])
        floor = min(level, floor - 16)  # words do not lie on one another
        marks.append(line(LEFT, level, right, level, INK, dashes="6 4"))
        named = {"hard": "classes", "static": "one row a picture"}[cell["labels"]]
        marks.append(text_label(right + 6, floor + 4, f"{named} ({_bytes(cell['bytes'])})"))
    names = list(dict.fromkeys(map(_label, stored)))
    for place, (name, colour) in enumerate(zip(names, COLOURS[1:], strict=False)):
        mine = sorted((c for c in stored if _label(c) == name), key=lambda c: int(c["bytes"]))
        marks.append(polyline([(x(c["bytes"]), y(c["accuracy"]["mean"])) for c in mine], colour))
        for cell in mine:
            at, mean = x(cell["bytes"]), cell["accuracy"]["mean"]
            if cell["accuracy"]["ci95"]:
                ends = [min(max(v, low), high) for v in cell["accuracy"]["ci95"]]
                marks.append(line(at, y(ends[0]), at, y(ends[1]), colour))
            marks.append(dot(at, y(mean), colour))
            if len(mine) > 1:
                marks.append(text_label(at + 6, y(mean) + 14, cell["pool"], size=11, colour=colour))
        over = LEFT + 115 * place
        marks += [dot(over, 18, colour), text_label(over + 9, 22, name, size=12)]
    said = found["settings"]
    title = (f"Accuracy of students against bytes of labels: {said['data']}, {said['ipc']} real pictures a class, "
             f"{said['sets']} sets, {said['epochs']} epochs. Bars are 95% intervals over sets, small numbers are "
             "epochs stored.")  # fmt: skip
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(document(WIDTH, HEIGHT, title, marks))


if __name__ == "__main__":
    plot(json.loads(Path("results/labels.json").read_text(encoding="utf-8"))["accuracy"], Path("docs/img/labels.svg"))
