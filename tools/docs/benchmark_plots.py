"""Figures of the pages docs/benchmarks: drawn from results/, so that ``python -m tools.docs`` keeps them current."""

import json
from collections.abc import Callable
from pathlib import Path
from statistics import fmean
from typing import Any

from potstill.reports.chart import COLOURS
from tools.docs import frontier, search
from tools.docs.choice import axes_of_grid, measured_grid
from tools.docs.chosen import repeated_gaps
from tools.docs.plot_parts import Axis, Point, Row, Series, rows_chart
from tools.docs.strong import SIZES, longest_cells

__all__ = ["FIGURES"]

GREY, BLUE, ORANGE, GREEN, PINK, BROWN, LIGHT = COLOURS[:7]
OURS = Series("distilled here", ORANGE, 5)


def _held(root: Path, name: str) -> Any:
    return json.loads((root / "results" / name).read_text(encoding="utf-8"))


def _percent(series: Series, accuracy: dict[str, Any]) -> Point:
    """Return a mean with its interval, in per cent."""
    ends = accuracy.get("ci95")
    return Point(series, 100 * accuracy["mean"], (100 * ends[0], 100 * ends[1]) if ends else None)


def strong(root: Path) -> str:
    """Draw ours, what it began as, real pictures in 2 bits and the published figure, by data and size."""
    began, real, published = (
        Series("its start, untrained", LIGHT), Series("real pictures in 2 bits", BLUE), Series("published", GREY),
    )  # fmt: skip
    rows: list[Row] = []
    for (data, n), best in SIZES.items():
        cells = longest_cells(root, data, n)
        points = [
            _percent(series, cells[key]["accuracy"])
            for series, key in ((OURS, "ours"), (real, "two bits"), (began, "start")) if cells[key]
        ]  # fmt: skip
        label = {"fashion-mnist": "Fashion-MNIST", "mnist": "MNIST"}[data]
        points.append(Point(published, best))
        rows.append(Row(f"{label}, {n} a class", points, f"{points[0].value:.1f} / {points[1].value:.1f}"))
    title = (
        "Accuracy of a ConvNet in the bytes of one, ten and fifty float32 pictures per class: sets distilled here, "
        "their start, real pictures in two bits a value, and the best published figure. Lines are 95 % intervals over "
        "sets, where there are several."
    )
    return rows_chart(title, rows, Axis("test accuracy, %   (right: distilled / 2 bits)", 60, 100, 5), left=190)


def choice(root: Path) -> str:
    """Draw every cell of the grid of objectives and parametrizations."""
    cells, real = measured_grid(root)
    methods, overs = axes_of_grid(cells)
    series = {
        over: Series(over, colour)
        for over, colour in zip(overs, (ORANGE, BLUE, GREEN, PINK, BROWN, LIGHT), strict=True)
    }
    order = sorted(methods, key=lambda m: -max(cells[m, over]["accuracy"]["mean"] for over in overs))
    rows = [Row(m, [_percent(series[over], cells[m, over]["accuracy"]) for over in overs]) for m in order]
    marks = {100 * r["accuracy"]["mean"]: name for name, r in sorted(real.items(), key=lambda kept: kept[0])}
    title = (
        "Accuracy on Fashion-MNIST of twelve objectives over six parametrizations at equal bytes, forty seconds a set, "
        "with 95 % intervals; dashed lines are real samples of the same bytes."
    )
    axis = Axis("test accuracy, %   (field under dance: 56.4, at the left edge)", 68, 82, 2, marks=marks)
    return rows_chart(title, rows, axis, left=90, spread=7)


def automatic(root: Path) -> str:
    """Draw how far the automatic choice ends behind the best of a full grid."""
    series = Series("gap: mean over repeats, its interval, and each repeat", ORANGE, 5)
    rows = []
    for found, gaps, whole in repeated_gaps(root):
        ends = whole["ci95"]
        point = Point(series, whole["mean"], tuple(ends) if ends else None, tuple(100 * g.mean for g in gaps))
        rows.append(Row(f"{found['data']}, {found['bytes']:,} bytes, {found['seconds']:g} s a set", [point]))
    title = (
        "Best of a full grid minus what --method auto chose in a tenth of the time, in points of accuracy, on three "
        "kinds of data: means with 95 % intervals over five repeats, and each repeat."
    )
    axis = Axis("grid's best minus the choice, points", -2, 4, 1, marks={0.0: "as good as the grid's best"})
    return rows_chart(title, rows, axis, left=250, signed=True)


def codecs(root: Path) -> str:
    """Draw what each codec loses against float32, by its bytes."""
    after, during = Series("written so afterwards", BLUE), Series("made for these bits", ORANGE)
    held = _held(root, "stores.json")["rows"]
    rows = []
    for name, row in sorted(held.items(), key=lambda kept: -kept[1]["bytes"]):
        loss = row["loss"]
        if loss["ci95"] is None:
            continue  # float32 itself
        point = Point(
            during if "aware" in name else after, 100 * loss["mean"], (100 * loss["ci95"][0], 100 * loss["ci95"][1])
        )
        rows.append(Row(name, [point], f"{row['bytes'] / 1000:.1f} kB"))
    title = (
        "Accuracy that a codec loses against float32, in points, with 95 % intervals over three sets; codecs by bytes, "
        "largest first. An interval that holds zero is no difference that can be told."
    )
    axis = Axis("float32 minus this codec, points   (right: bytes of the set; float32: 313.6 kB)", -3, 5, 1,
                marks={0.0: "no loss"})  # fmt: skip
    return rows_chart(title, rows, axis, left=300, signed=True)


_STEPS = {
    "dm": "DM step", "dm-reuse": "DM step, 8 with one network", "dc": "DC step", "dsa": "DSA step",
    "student": "student, five epochs", "two-students": "two students, five epochs", "idc": "IDC update",
    "ncfm": "NCFM update",
}  # fmt: skip


def speed(root: Path) -> str:
    """Draw seconds of a step, ours and of the published program."""
    ours, theirs = Series("here", ORANGE, 5), Series("published program", GREY)
    rows = [
        Row(
            f"{_STEPS[r['what']]}, {r['threads']} thread{'s' * (r['threads'] > 1)}",
            [Point(s, r["seconds"][k]["median"]) for s, k in ((ours, "ours"), (theirs, "published"))],
            f"{r['published_over_ours']:.1f} times",
        )
        for r in sorted(_held(root, "speed.json")["rows"], key=lambda r: -float(r["published_over_ours"]))
    ]
    title = (
        "Seconds of the same step here and in the published program, medians of three interleaved runs on a CPU, "
        "logarithmic."
    )
    return rows_chart(title, rows, Axis("seconds (logarithmic)", 0.1, 20, logarithmic=True), left=265, spread=0)


def published(root: Path) -> str:
    """Draw ours beside the published accuracy."""
    theirs = Series("published ± as printed", GREY)
    rows = []
    files = (root / "results" / "published_grid").glob("*.json")
    cells = [json.loads(path.read_text(encoding="utf-8")) for path in files]
    for cell in sorted(cells, key=lambda c: (c["data"], c["ipc"], c["method"])):
        if not cell["published"]:
            continue
        mean, std = 100 * cell["accuracy"]["mean"], 100 * cell["accuracy"]["std"]
        other, half = cell["published"]["percent"], cell["published"].get("plus_minus") or 0.0
        share = cell["distillation"] or {}
        steps = share.get("steps"), share.get("published_steps")
        end = f"{100 * steps[0] / steps[1]:.1f} %" if all(steps) else ""
        ours = Series("here ± standard deviation", ORANGE, 5)
        points = [Point(ours, mean, (mean - std, mean + std)), Point(theirs, other, (other - half, other + half))]
        rows.append(Row(f"{cell['data']}, {cell['ipc']} a class, {cell['method']}", points, end))
    title = (
        "Accuracy of short runs here beside the published numbers, by data, items per class and method; at the right "
        "the share of the published steps that ours made."
    )
    return rows_chart(
        title, rows, Axis("test accuracy, %   (right: share of the published steps)", 45, 100, 5), left=245
    )


def recipes(root: Path) -> str:
    """Draw the score of each recipe that was measured."""
    series = Series("accuracy ± standard deviation over three networks on one set", ORANGE, 5)
    held = _held(root, "recipes.json")["rows"]
    rows = []
    for name, row in sorted(held.items(), key=lambda kept: -kept[1]["accuracy"]["mean"]):
        mean, std = 100 * row["accuracy"]["mean"], 100 * row["accuracy"]["std"]
        rows.append(Row(name, [Point(series, mean, (mean - std, mean + std))], f"{row['core_seconds']:.0f} s"))
    title = "Test accuracy on mnist-5k of one set of each recipe, in the bytes of one picture per class."
    axis = Axis("test accuracy, %   (right: seconds of a core)", 45, 90, 5)
    return rows_chart(title, rows, axis, left=140)


def data(root: Path) -> str:
    """Draw distilled and random pictures of folders as a person would have them."""
    random = Series("random real pictures of the same bytes", BLUE)
    rows = []
    for row in _held(root, "own_data.json")["rows"]:
        sides = ", ".join(map(str, row["pictures"])) if isinstance(row["pictures"], list) else row["pictures"]
        points = [_percent(OURS, row["accuracy"]), _percent(random, row["random"])]
        rows.append(Row(f"files of {sides} pixels", points, f"{100 * row['difference']['mean']:+.1f}"))
    title = (
        "Accuracy of one distilled picture per class and of random real pictures in the same bytes, for digits written "
        "as folders of files, with 95 % intervals over five students."
    )
    return rows_chart(title, rows, Axis("test accuracy, %   (right: difference, points)", 50, 100, 10), left=240)


def intervals(root: Path) -> str:
    """Draw how often 95 % intervals miss."""
    plain, crossed = Series("over students alone", GREY), Series("the interval of a scorecard", ORANGE, 5)
    rows = []
    for case in _held(root, "coverage.json")["cases"]:
        cells = [cell for cell in case["cells"] if cell["students"] > 1]
        rows.append(Row(f"{case['data']}, {case['network']}"))
        for samples in dict.fromkeys(cell["samples"] for cell in cells):
            misses = {
                when: [100 * c["score"][when] for c in cells if c["samples"] == samples] for when in ("before", "after")
            }
            points = [
                Point(series, fmean(values), (min(values), max(values)))
                for series, values in ((crossed, misses["after"]), (plain, misses["before"]))
            ]
            rows.append(Row(f"{samples:,} test samples", points))
    title = (
        "How often a 95 % interval of an accuracy misses the value for new test samples and students, by test samples: "
        "means over 2, 3, 5 and 10 students, and the least and the greatest of the four."
    )
    axis = Axis("misses, % of 1,200 draws", 0, 50, 10, marks={5.0: "nominal 5 %"})
    return rows_chart(title, rows, axis, left=190)


def robustness(root: Path) -> str:
    """Draw how many faults each command was given, and what became of them."""
    told, borne, killed = (
        Series("ended in one line", BLUE), Series("ended well all the same", "#00694d"),
        Series("killed, went on", "#b34c00"),
    )  # fmt: skip
    held = _held(root, "faults.json")["rows"]
    rows = []
    for name in dict.fromkeys(row["command"] for row in held):
        of = [row for row in held if row["command"] == name]
        kills = sum(row["faults"] for row in of if row["part"] == "kills")
        rest = [row for row in of if row["part"] != "kills"]
        points = [
            Point(told, sum(row["told"] for row in rest)), Point(borne, sum(row["borne"] for row in rest)),
            Point(killed, kills),
        ]  # fmt: skip
        rows.append(Row(name, points, f"{sum(r['same'] for r in of)} of {sum(r['faults'] for r in of)}", stacked=True))
    title = (
        "Faults that each command was given, by what they ended in. At the right: after how many of them the same "
        "command again wrote every tensor of an undisturbed run."
    )
    return rows_chart(title, rows, Axis("faults   (right: same bits afterwards)", 0, 40, 10), left=110)


def selection(root: Path) -> str:
    """Draw every selection less random, where a tenth of the pictures is kept, with right and with wrong labels."""
    right, wrong = Series("labels right", BLUE), Series("a fifth of the labels wrong", ORANGE)
    cells = [_held(root, f"pruning/fashion-mnist-{noise}.json")["cells"] for noise in ("0", "0.2")]
    gaps = {
        key.removesuffix(" 0.1"): [c[key]["over_random"] for c in cells]
        for key in cells[0] if key.endswith(" 0.1") and "over_random" in cells[0][key]
    }  # fmt: skip
    rows = [
        Row(name, [_percent(series, gap) for series, gap in zip((right, wrong), both, strict=True)])
        for name, both in sorted(gaps.items(), key=lambda kept: -sum(gap["mean"] for gap in kept[1]))
    ]
    title = (
        "Accuracy of each selection less that of random samples, in points, where a tenth of Fashion-MNIST is kept, "
        "with right labels and with a fifth of them wrong; 95 % intervals over five repeats."
    )
    axis = Axis("minus random, points, a tenth kept", -70, 20, 10, marks={0.0: "random"})
    return rows_chart(title, rows, axis, left=150, spread=8, signed=True)


FIGURES: dict[str, Callable[[Path], str]] = {
    "strong": strong, "choice": choice, "automatic": automatic, "codecs": codecs, "speed": speed,
    "published": published, "recipes": recipes, "data": data,
    "selection": selection, "intervals": intervals, "robustness": robustness, "frontier": frontier.figure,
    "search": search.figure,
}  # fmt: skip
"""What draws ``docs/img/benchmarks/NAME.svg``, by name."""
