"""The picture of benchmarks/bytes.py: accuracy over true bytes, one panel for each data set, as a plain SVG."""

import argparse
import json
import math
from pathlib import Path
from typing import Any

from potstill._util.html import Html
from potstill.reports.chart import INK, band, document, dot, line, polyline, text_label

__all__ = ["plot"]

PANEL, GAP, HEIGHT, LEFT, TOP, BOTTOM, RIGHT = 270, 58, 380, 58, 56, 84, 24
SIDES = {
    "random": ("random", "#57606a", "5 3"), "herding": ("herding", "#997404", "2 3"),
    "k-means": ("k-means", "#0072b2", "7 2 2 2"), "centroids": ("centres of k-means", "#56b4e9", "3 2"),
    "distilled": ("distilled", "#d55e00", ""),
}  # fmt: skip
"""Name, colour (told apart by people of any colour vision) and dashes."""
TITLES = {
    "fashion-mnist": "Fashion-MNIST, 20,000 pictures", "photo-patches": "Crops of photographs, in colour",
    "letters": "Letters, a table of 16 columns",
}  # fmt: skip


def said(size: float) -> str:
    """A size in kB of 1,024 bytes."""
    return f"{size / 1024**2:.3g} MB" if size >= 1024**2 else f"{size / 1024:.3g} kB"


class Panel:
    """Axes of one data set."""

    def __init__(self, found: dict[str, Any], left: float) -> None:
        self.left, self.cells, self.full = left, list(found["cells"].values()), found.get("full")
        every = [c["accuracy"] for c in self.cells] + ([self.full["accuracy"]] if self.full else [])
        ends = [v for a in every for v in (a["mean"], *(a["ci95"] or ()))]
        lows = [c["accuracy"]["mean"] for c in self.cells]
        low, high = min(lows) - 0.01, min(1.0, max(max(lows), min(max(ends), every[-1]["mean"] + 0.01)))
        self.step = next(t for t in (0.01, 0.02, 0.05, 0.1, 0.2) if (high - low) / t <= 7)
        self.low, self.high = math.floor(low / self.step) * self.step, math.ceil(high / self.step) * self.step
        sizes = [c["budget"] for c in self.cells] + ([self.full["bytes"]] if self.full else [])
        self.first, self.last = math.log2(min(sizes)) - 0.4, math.log2(max(sizes)) + 0.4

    def x(self, size: float) -> float:
        return self.left + PANEL * (math.log2(size) - self.first) / (self.last - self.first)

    def y(self, value: float) -> float:
        clipped = min(max(value, self.low), self.high)
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (clipped - self.low) / (self.high - self.low)

    def drawn(self, title: str) -> list[Html]:
        right, under = self.left + PANEL, HEIGHT - BOTTOM
        marks = [text_label(self.left, TOP - 16, title, bold=True)]
        for i in range(round((self.high - self.low) / self.step) + 1):
            value = self.low + i * self.step
            marks.append(line(self.left, self.y(value), right, self.y(value)))
            marks.append(text_label(self.left - 6, self.y(value) + 4, f"{100 * value:.0f}%", "end", size=12))
        for size in sorted({c["budget"] for c in self.cells}):
            marks.append(line(self.x(size), TOP, self.x(size), under))
            marks.append(text_label(self.x(size), under + 17, said(size).removesuffix(" kB"), "middle", size=12))
        if self.full:
            mean, weight = self.full["accuracy"]["mean"], said(self.full["bytes"])
            marks.append(line(self.left, self.y(mean), right, self.y(mean), INK, dashes="1 3"))
            marks.append(text_label(self.left + 4, self.y(mean) - 5, f"all data, {weight}: {100 * mean:.1f}%", size=11))
        for side, (_, colour, dashes) in SIDES.items():
            rows = sorted((c for c in self.cells if c["side"] == side), key=lambda c: int(c["budget"]))
            marks += self.curve([(c["budget"], c["accuracy"]) for c in rows], colour, dashes, side == "distilled")
        return marks

    def curve(self, rows: list[tuple[int, dict[str, Any]]], colour: str, dashes: str, thick: bool) -> list[Html]:
        if not rows:
            return []
        marks = []
        if all(a["ci95"] for _, a in rows):
            low, high = ([(self.x(b), self.y(a["ci95"][end])) for b, a in rows] for end in (0, 1))
            marks.append(band(high, low, colour))
        places = [(self.x(b), self.y(a["mean"])) for b, a in rows]
        marks.append(polyline(places, colour, width=2.5 if thick else 1.5, dashes=dashes))
        return marks + [dot(x, y, colour, 3.6 if thick else 2.6) for x, y in places]


def plot(several: list[dict[str, Any]], file: Path) -> None:
    """All data sets side by side."""
    width = LEFT + len(several) * PANEL + (len(several) - 1) * GAP + RIGHT
    marks: list[Html] = []
    for n, found in enumerate(several):
        marks += Panel(found, LEFT + n * (PANEL + GAP)).drawn(TITLES.get(found["data"], found["data"]))
    under = "true bytes of the set: all tensors in its file, in kB of 1,024 bytes"
    marks.append(text_label(width / 2, HEIGHT - BOTTOM + 37, under, "middle", size=12))
    at = LEFT + 40.0
    for name, colour, dashes in SIDES.values():
        thick = 2.5 if name == "distilled" else 1.5
        marks.append(line(at, HEIGHT - 22, at + 30, HEIGHT - 22, colour, width=thick, dashes=dashes))
        marks.append(text_label(at + 36, HEIGHT - 18, name, size=12))
        at += 62 + 7.4 * len(name)
    title = (
        "Accuracy of the same students against the true bytes of what they learn from: real samples at their best "
        "codec and distilled sets at theirs, both chosen on validation data. Bands are 95% intervals over sets."
    )
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(document(width, HEIGHT, title, marks), encoding="utf-8")


def draw(results: Path, out: Path) -> None:
    """Draw the plot of all data that have a file in ``results``."""
    files = [results / f"bytes-{name}.json" for name in TITLES]
    plot([json.loads(p.read_text(encoding="utf-8")) for p in files if p.exists()], out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, default=Path("results"))
    parser.add_argument("--out", type=Path, default=Path("docs/img/bytes.svg"))
    args = parser.parse_args()
    draw(args.results, args.out)


if __name__ == "__main__":
    main()
