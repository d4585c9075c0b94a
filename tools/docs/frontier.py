"""Accuracy over bytes of real samples, distilled sets and models (benchmarks/frontier.py): k, table and figure."""

import json
import math
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from potstill._util.html import Html
from potstill.evaluation.statistics import summary
from potstill.reports.chart import band, document, dot, line, polyline, text_label
from tools.docs.parts import mean_and_half, table

__all__ = ["fewer_bytes", "figure", "first_rows", "frontier", "long_runs", "measured_rows", "multiple"]

NAMES = {
    "fashion-mnist": "Fashion-MNIST", "mnist": "MNIST", "mnist-5k": "MNIST-5k", "photo-patches": "photo patches",
    "satellite": "satellite", "letters": "letters",
}  # fmt: skip
"""Data sets in the order of the page; others come after them."""
FIRST = ("convnet-d3-w32", "mlp-w128")
"""The student that the figure and the opening speak of, by kind of data."""
SIDES = {
    "real": ("best coded real samples", "#57606a", "5 3"),
    "made": ("distilled", "#d55e00", ""),
    "model": ("a model in few bits, no set", "#0072b2", "2 3"),
}
"""Name, colour and dashes of each line."""
PANEL, GAP, HEIGHT, LEFT, TOP, BOTTOM, RIGHT = 250, 62, 360, 58, 50, 84, 24
RESAMPLES = 2000


def measured_rows(root: Path) -> list[dict[str, Any]]:
    """Return what was measured for each data set, student and budget, with k where the real samples have a curve."""
    found: list[dict[str, Any]] = []
    models = _models(root)
    files = {path.stem: path for path in sorted((root / "results" / "frontier").glob("*.json"))}
    for name in sorted(files, key=lambda name: (list(NAMES).index(name) if name in NAMES else len(NAMES), name)):
        cells: dict[str, Any] = json.loads(files[name].read_text(encoding="utf-8"))["cells"] | models.get(name, {})
        students = {key.split("|")[2] for key in cells if key.count("|") == 2 and "accuracy" in cells[key]}
        for student in sorted(students, key=lambda student: (student not in FIRST, student)):
            found += _rows(cells, name, student)
    return found


def _models(root: Path) -> dict[str, dict[str, Any]]:
    """Return the cells of benchmarks/model_baseline.py by data, each named as a cell of the frontier."""
    path = root / "results" / "model_baseline.json"
    found: dict[str, dict[str, Any]] = {}
    for row in json.loads(path.read_text(encoding="utf-8"))["rows"] if path.exists() else ():
        cell = {"accuracy": row["values"], "bytes": row["bytes"], "network": row["network"]}
        found.setdefault(row["data"], {})[f"{row['budget']}|model"] = cell
    return found


def _rows(cells: dict[str, Any], name: str, student: str) -> list[dict[str, Any]]:
    real = {
        int(key.split("|")[0]): (cells[key.rpartition("|")[0]], cell["accuracy"])
        for key, cell in cells.items()
        if key.endswith(f"|real|{student}")
    }
    curve = [(int(about["bytes"]), values) for _, (about, values) in sorted(real.items())]
    rows = []
    for size, (about, values) in sorted(real.items()):
        made, model = cells.get(f"{size}|made|{student}"), cells.get(f"{size}|model")
        row = {"data": name, "student": student, "budget": size, "real": values, "way": about, "made": made,
               "model": model, "k": None}  # fmt: skip
        if made is not None and len(curve) > 1:
            row["k"] = fewer_bytes(curve, made["accuracy"], float(np.mean(made["bytes"])))
        rows.append(row)
    return rows


def first_rows(root: Path) -> list[dict[str, Any]]:
    """Return the rows of the first student of each kind of data."""
    return [row for row in measured_rows(root) if row["student"] in FIRST]


def fewer_bytes(curve: list[tuple[int, list[float]]], made: list[float], size: float) -> dict[str, Any]:
    """Return k, how many times the bytes of a distilled set the real samples need for its accuracy, and its interval.

    Args:
        curve: bytes of the real sets and the accuracy of each, from few bytes to many.
        made: accuracy of each distilled set.
        size: mean bytes of these.

    Returns:
        ``k``, ``low`` and ``high`` (2.5 and 97.5 % of resampled sets), and for each end whether it is only a bound:
        ``side``, ``low_side``, ``high_side`` are ``more than``, ``less than`` or empty.
    """
    return dict(_resampled(tuple((at, tuple(values)) for at, values in curve), tuple(made), size))


@cache  # several pages show the same rows
def _resampled(
    curve: tuple[tuple[int, tuple[float, ...]], ...], made: tuple[float, ...], size: float
) -> dict[str, Any]:  # fmt: skip
    rng = np.random.default_rng(0)
    logs = [math.log(at) for at, _ in curve]

    def reached(accuracies: list[float], aim: float) -> tuple[float, str]:
        best = np.maximum.accumulate(accuracies)  # what fits in fewer bytes fits in more
        if aim > best[-1]:
            return math.exp(logs[-1]) / size, "more than"
        if aim <= best[0]:
            return math.exp(logs[0]) / size, "less than"
        at = int(np.argmax(best >= aim))
        part = (aim - best[at - 1]) / (best[at] - best[at - 1])
        return math.exp(logs[at - 1] + part * (logs[at] - logs[at - 1])) / size, ""

    k, side = reached([float(np.mean(values)) for _, values in curve], float(np.mean(made)))
    draws = sorted(
        reached([float(np.mean(rng.choice(v, len(v)))) for _, v in curve], float(np.mean(rng.choice(made, len(made)))))
        for _ in range(RESAMPLES)
    )
    low, high = draws[round(0.025 * (RESAMPLES - 1))], draws[round(0.975 * (RESAMPLES - 1))]
    return {"k": k, "side": side, "low": low[0], "low_side": low[1], "high": high[0], "high_side": high[1]}


_SIGNS = {"more than": "> ", "less than": "< ", "": ""}


def multiple(k: dict[str, Any] | None) -> str:
    """Return k with its interval; ``>`` and ``<`` say that it lies beyond the measured real samples."""
    if k is None:
        return "—"
    low, high = f"{_SIGNS[k['low_side']]}{_short(k['low'])}", f"{_SIGNS[k['high_side']]}{_short(k['high'])}"
    return f"{_SIGNS[k['side']]}{_short(k['k'])} [{low}, {high}]"


def _short(k: float) -> str:
    return f"{k:.1f}" if k >= 0.1 else f"{k:.2f}"


def _percent(values: list[float]) -> str:
    return mean_and_half(summary(values))


def frontier(root: Path) -> str:
    """Return the table of all data, students and budgets."""
    rows: list[list[object]] = []
    for row in measured_rows(root):
        way, made, model = row["way"], row["made"], row["model"]
        rows.append([
            NAMES.get(row["data"], row["data"]), f"`{row['student']}`", f"{row['budget'] / 1000:g} kB",
            f"{way['items']}, {way['selection']}, `{way['codec']}`, {way['labels']}: {way['bytes']:,} B",
            _percent(row["real"]),
            "—" if made is None else f"`{made['arm']}`: {round(float(np.mean(made['bytes']))):,} B",
            "—" if made is None else _percent(made["accuracy"]),
            "—" if model is None else f"{_percent(model['accuracy'])} ({model['bytes']:,} B)", multiple(row["k"]),
        ])  # fmt: skip
    head: list[object] = [
        "data", "student", "budget", "best coded real samples", "%", "distilled", "%", "a model, %", "k",
    ]  # fmt: skip
    return table(head, rows) if rows else "Nothing has been measured yet."


def long_runs(root: Path) -> str:
    """Return the table of sets made in many steps, on a GPU, beside the coded real samples of their budget."""
    real = {(row["data"], row["student"], row["budget"]): row["real"] for row in measured_rows(root)}
    rows: list[list[object]] = []
    for path in sorted((root / "results" / "frontier" / "long").glob("*.json")):
        held = json.loads(path.read_text(encoding="utf-8"))
        for key, cell in sorted(held["cells"].items()):
            size, _, student = key.split("|")
            if "accuracy" not in cell:
                continue
            beside = real.get((held["data"], student, int(size)))
            rows.append([
                NAMES.get(held["data"], held["data"]), f"{int(size) / 1000:g} kB", f"`{cell['arm']}`",
                f"{cell['steps'][0]:,} steps, {np.mean(cell['cost']):.0f} s", len(cell["accuracy"]),
                f"{round(float(np.mean(cell['bytes']))):,}", _percent(cell["accuracy"]),
                "—" if beside is None else _percent(beside),
            ])  # fmt: skip
    head: list[object] = ["data", "budget", "set", "made in", "sets", "bytes", "distilled, %", "coded real samples, %"]
    return table(head, rows) if rows else "Nothing has been measured yet."


class _Panel:
    """Axes of one data set."""

    def __init__(self, rows: list[dict[str, Any]], left: float) -> None:
        self.left, self.name = left, str(rows[0]["data"])
        self.lines: dict[str, list[tuple[float, dict[str, Any]]]] = {side: [] for side in SIDES}
        for row in rows:
            self.lines["real"].append((float(row["way"]["bytes"]), summary([100 * v for v in row["real"]])))
            if row["made"]:
                size = float(np.mean(row["made"]["bytes"]))
                self.lines["made"].append((size, summary([100 * v for v in row["made"]["accuracy"]])))
            if row["model"]:
                size = float(row["model"]["bytes"])
                self.lines["model"].append((size, summary([100 * v for v in row["model"]["accuracy"]])))
        points = [point for points in self.lines.values() for point in points]
        means = [about["mean"] for _, about in points]
        low, high = min(means) - 1.5, min(100.0, max(means) + 1.5)
        self.step = next(t for t in (1, 2, 5, 10, 20) if (high - low) / t <= 7)
        self.low, self.high = math.floor(low / self.step) * self.step, math.ceil(high / self.step) * self.step
        sizes = [size for size, _ in points]
        self.first, self.last = math.log(min(sizes)) - 0.25, math.log(max(sizes)) + 0.25

    def x(self, size: float) -> float:
        return self.left + PANEL * (math.log(size) - self.first) / (self.last - self.first)

    def y(self, value: float) -> float:
        clipped = min(max(value, self.low), self.high)
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (clipped - self.low) / (self.high - self.low)

    def marks(self) -> list[Html]:
        right, under = self.left + PANEL, HEIGHT - BOTTOM
        marks = [text_label(self.left, TOP - 16, NAMES.get(self.name, self.name), bold=True)]
        for value in range(self.low, self.high + 1, self.step):
            marks.append(line(self.left, self.y(value), right, self.y(value)))
            marks.append(text_label(self.left - 6, self.y(value) + 4, f"{value}%", "end", size=12))
        for size in (250, 500, 1000, 2000, 4000, 8000, 16000, 40000, 100_000):
            if self.first <= math.log(size) <= self.last:
                marks.append(line(self.x(size), TOP, self.x(size), under))
                marks.append(text_label(self.x(size), under + 17, f"{size / 1000:g}", "middle", size=12))
        for side, (_, colour, dashes) in SIDES.items():
            points = sorted(self.lines[side], key=lambda point: point[0])
            if len(points) > 1 and all(about["ci95"] for _, about in points):
                low, high = ([(self.x(b), self.y(about["ci95"][end])) for b, about in points] for end in (0, 1))
                marks.append(band(high, low, colour))
            places = [(self.x(b), self.y(about["mean"])) for b, about in points]
            if len(places) > 1:
                marks.append(polyline(places, colour, width=2.5 if side == "made" else 1.5, dashes=dashes))
            marks += [dot(x, y, colour, 4) for x, y in places]
        return marks


def figure(root: Path) -> str:
    """Draw accuracy over bytes, one panel for each data set."""
    of: dict[str, list[dict[str, Any]]] = {}
    for row in first_rows(root):
        of.setdefault(row["data"], []).append(row)
    width = LEFT + len(of) * PANEL + (len(of) - 1) * GAP + RIGHT
    marks: list[Html] = []
    for n, rows in enumerate(of.values()):
        marks += _Panel(rows, LEFT + n * (PANEL + GAP)).marks()
    marks.append(text_label(width / 2, HEIGHT - BOTTOM + 37, "bytes of the file, in kB of 1,000", "middle", size=12))
    at = float(LEFT)
    for name, colour, dashes in SIDES.values():
        marks.append(line(at, HEIGHT - 22, at + 30, HEIGHT - 22, colour, width=2, dashes=dashes))
        marks.append(text_label(at + 36, HEIGHT - 18, name, size=12))
        at += 62 + 6.6 * len(name)
    title = (
        "Test accuracy against the bytes of files that were written and decoded: the best coded real samples, "
        "distilled sets, and a model in few bits that needs no set. Bands are 95 % intervals over sets."
    )
    return document(width, HEIGHT, title, marks)
