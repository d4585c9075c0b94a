"""The picture of benchmarks/bytes.py: accuracy over true bytes, one panel for each data set, as a plain SVG."""

import argparse
import json
import math
from html import escape
from pathlib import Path
from typing import Any

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

    def drawn(self, title: str) -> list[str]:
        marks = [f'<text x="{self.left}" y="{TOP - 16}" font-weight="600">{escape(title)}</text>']
        for i in range(round((self.high - self.low) / self.step) + 1):
            level = self.y(self.low + i * self.step)
            marks.append(
                f'<line x1="{self.left}" x2="{self.left + PANEL}" y1="{level:.1f}" y2="{level:.1f}" stroke="#e1e4e8"/>'
                f'<text x="{self.left - 6}" y="{level + 4:.1f}" text-anchor="end">'
                f"{100 * (self.low + i * self.step):.0f}%</text>"
            )
        for size in sorted({c["budget"] for c in self.cells}):
            marks.append(
                f'<line x1="{self.x(size):.1f}" x2="{self.x(size):.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}" '
                f'stroke="#f0f2f4"/><text x="{self.x(size):.1f}" y="{HEIGHT - BOTTOM + 17}" text-anchor="middle">'
                f"{said(size).removesuffix(' kB')}</text>"
            )
        if self.full:
            level = self.y(self.full["accuracy"]["mean"])
            marks.append(
                f'<line x1="{self.left}" x2="{self.left + PANEL}" y1="{level:.1f}" y2="{level:.1f}" stroke="#24292f" '
                f'stroke-dasharray="1 3"/><text x="{self.left + 4}" y="{level - 5:.1f}" font-size="11">all data, '
                f"{said(self.full['bytes'])}: {100 * self.full['accuracy']['mean']:.1f}%</text>"
            )
        for side, (_, colour, dashes) in SIDES.items():
            rows = sorted((c for c in self.cells if c["side"] == side), key=lambda c: int(c["budget"]))
            marks += self.curve([(c["budget"], c["accuracy"]) for c in rows], colour, dashes, side == "distilled")
        return marks

    def curve(self, rows: list[tuple[int, dict[str, Any]]], colour: str, dashes: str, thick: bool) -> list[str]:
        if not rows:
            return []
        marks = []
        if all(a["ci95"] for _, a in rows):
            around = [(b, a["ci95"][1]) for b, a in rows] + [(b, a["ci95"][0]) for b, a in reversed(rows)]
            band = " ".join(f"{self.x(b):.1f},{self.y(v):.1f}" for b, v in around)
            marks.append(f'<polygon points="{band}" fill="{colour}" opacity="0.14"/>')
        line = " ".join(f"{self.x(b):.1f},{self.y(a['mean']):.1f}" for b, a in rows)
        marks.append(
            f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="{2.5 if thick else 1.5}"'
            + (f' stroke-dasharray="{dashes}"/>' if dashes else "/>")
        )
        radius = 3.6 if thick else 2.6
        marks += [
            f'<circle cx="{self.x(b):.1f}" cy="{self.y(a["mean"]):.1f}" r="{radius}" fill="{colour}"/>' for b, a in rows
        ]
        return marks


def plot(several: list[dict[str, Any]], path: Path) -> None:
    """All data sets side by side."""
    width = LEFT + len(several) * PANEL + (len(several) - 1) * GAP + RIGHT
    marks: list[str] = []
    for n, found in enumerate(several):
        marks += Panel(found, LEFT + n * (PANEL + GAP)).drawn(TITLES.get(found["data"], found["data"]))
    marks.append(
        f'<text x="{width / 2}" y="{HEIGHT - BOTTOM + 37}" text-anchor="middle">true bytes of the set: all tensors '
        "in its file, in kB of 1,024 bytes</text>"
    )
    at = LEFT + 40.0
    for _, (name, colour, dashes) in SIDES.items():
        thick, drawn = (2.5, "") if name == "distilled" else (1.5, f' stroke-dasharray="{dashes}"')
        marks.append(
            f'<line x1="{at}" x2="{at + 30}" y1="{HEIGHT - 22}" y2="{HEIGHT - 22}" stroke="{colour}" '
            f'stroke-width="{thick}"{drawn}/><text x="{at + 36}" y="{HEIGHT - 18}">{name}</text>'
        )
        at += 62 + 7.4 * len(name)
    title = (
        "Accuracy of the same students against the true bytes of what they learn from: real samples at their best "
        "codec and distilled sets at theirs, both chosen on validation data. Bands are 95% intervals over sets."
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {HEIGHT}" role="img" font-size="12" '
        f'font-family="system-ui, sans-serif" fill="#24292f"><title>{escape(title)}</title>'
        f'<rect width="{width}" height="{HEIGHT}" fill="#ffffff"/>' + "\n".join(marks) + "</svg>\n",
        encoding="utf-8",
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, default=Path("results"))
    parser.add_argument("--out", type=Path, default=Path("docs/img/bytes.svg"))
    args = parser.parse_args()
    found = [args.results / f"bytes-{name}.json" for name in TITLES]
    plot([json.loads(p.read_text(encoding="utf-8")) for p in found if p.exists()], args.out)


if __name__ == "__main__":
    main()
