"""The picture of benchmarks/unroll.py's `tesla`: how near the approximation's direction is to the exact gradient's."""

import argparse
import json
import math
from pathlib import Path
from statistics import fmean
from typing import Any

from potstill._util.html import Html
from potstill.reports.chart import band, document, dot, line, polyline, text_label

__all__ = ["plot"]

WIDTH, HEIGHT, LEFT, TOP, BOTTOM, RIGHT = 460, 300, 56, 40, 62, 90
COLOURS = {0.01: ("#0072b2", ""), 0.03: ("#997404", "5 3"), 0.05: ("#d55e00", "2 3")}
"""By the student's learning rate: a colour, told apart by people of any colour vision, and dashes."""


def plot(rows: list[dict[str, Any]], file: Path) -> None:
    """Cosines over steps, a line for each rate: means over experts, and their range."""
    low = math.floor(10 * min(r["cosine"] for r in rows)) / 10
    steps = sorted({r["steps"] for r in rows})

    def at(n: int, cosine: float) -> tuple[float, float]:
        x = math.log(n / steps[0]) / math.log(steps[-1] / steps[0])
        y = (cosine - low) / (1 - low)
        return LEFT + x * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - y * (HEIGHT - TOP - BOTTOM)

    marks: list[Html] = [text_label(LEFT, TOP - 18, "cosine of TESLA's gradient with the exact one", bold=True)]
    for i in range(round((1 - low) * 10) + 1):
        (x1, y), (x2, _) = at(steps[0], low + i / 10), at(steps[-1], low + i / 10)
        marks += [line(x1, y, x2, y), text_label(x1 - 6, y + 4, f"{low + i / 10:.1f}", "end", size=12)]
    for n in steps:
        marks.append(text_label(at(n, low)[0], HEIGHT - BOTTOM + 18, n, "middle", size=12))
    marks.append(text_label((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 20, "steps of the student", "middle", size=12))
    below = 0.0
    for rate, (colour, dashes) in COLOURS.items():
        of = {n: [r["cosine"] for r in rows if r["lr"] == rate and r["steps"] == n] for n in steps}
        mean = [at(n, fmean(values)) for n, values in of.items()]
        marks.append(band([at(n, max(v)) for n, v in of.items()], [at(n, min(v)) for n, v in of.items()], colour))
        marks.append(polyline(mean, colour, width=2, dashes=dashes))
        marks += [dot(x, y, colour, 3) for x, y in mean]
        below = max(below, mean[-1][1])  # names of lines that end together stand under one another
        marks.append(text_label(mean[-1][0] + 8, below + 4, f"rate {rate:g}", size=12, colour=colour))
        below += 14
    title = "The cosine falls with the student's steps and with its learning rate. Bands are the range over experts."
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(document(WIDTH, HEIGHT, title, marks), encoding="utf-8")


def draw(results: Path, out: Path) -> None:
    """Draw the plot from ``results/unroll.json``."""
    plot(json.loads(results.read_text(encoding="utf-8"))["tesla"]["rows"], out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, default=Path("results/unroll.json"))
    parser.add_argument("--out", type=Path, default=Path("docs/img/tesla.svg"))
    args = parser.parse_args()
    draw(args.results, args.out)


if __name__ == "__main__":
    main()
