"""Tables of the grid objective × parametrization (benchmarks/choose.py)."""

import json
import math
import statistics
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeAlias

from scipy import stats  # type: ignore[import-untyped]

from potstill.api.listing import list_methods, list_parametrizations
from tools.docs.parts import mean_and_half, table

__all__ = ["axes_of_grid", "choose", "choose_cells", "choose_gains", "measured_grid", "separable"]


_Cells: TypeAlias = dict[tuple[str, str], dict[str, Any]]
"""What benchmarks/choose.py has made, by objective and parametrization."""


_REAL = ("random", "herding", "k-means")
"""The order of real samples of the same bytes."""


def _pooled(sets: list[list[list[float]]], comparisons: int) -> float | None:
    """How far two cells' means must lie apart to be told apart: twice 2.5 % in all ``comparisons`` (Bonferroni).

    Args:
        sets: accuracies of students, by set, by cell; equally many sets in each cell.
    """
    means = [[statistics.fmean(values) for values in cell] for cell in sets]
    free = sum(len(cell) - 1 for cell in means)
    if free < 1 or not comparisons:
        return None
    spread = sum((len(cell) - 1) * statistics.variance(cell) for cell in means if len(cell) > 1) / free
    return float(stats.t.ppf(1 - 0.025 / comparisons, free)) * math.sqrt(2 * spread / min(map(len, means)))


def measured_grid(root: Path) -> tuple[_Cells, dict[str, dict[str, Any]]]:
    """What benchmarks/choose.py has made: cells by objective and parametrization, and real samples by name."""
    found = [json.loads(p.read_text(encoding="utf-8")) for p in sorted((root / "results" / "choose").glob("*.json"))]
    cells = {(r["method"], r["over"]): r for r in found if not r["selects"]}
    return cells, {r["method"]: r for r in found if r["selects"]}


def axes_of_grid(cells: Iterable[tuple[str, str]]) -> tuple[list[str], list[str]]:
    """Objectives and parametrizations, in the order of their listings."""
    known = [m["name"] for m in list_methods()], [p["name"] for p in list_parametrizations()]
    used = list(cells)
    return [m for m in known[0] if any(m == a for a, _ in used)], [p for p in known[1] if any(p == b for _, b in used)]


def choose(root: Path) -> str:
    cells, real = measured_grid(root)
    if not cells:
        return "Nothing has been measured yet."
    methods, overs = axes_of_grid(cells)
    rows: list[list[object]] = [
        [f"`{m}`", *(mean_and_half(cells[m, p]["accuracy"]) if (m, p) in cells else "—" for p in overs)]
        for m in methods
    ]
    first = next(iter(cells.values()))
    s, m = first["settings"], first["machine"]
    about = (
        f"Test accuracy in percent, `{s['data']}`, at most {s['bytes']:,} bytes; mean and half of a 95 % interval "
        f"(Student's t over {s['sets']} sets × {s['students']} students). Each set is worth {s['budget']:g} seconds of "
        f"one core, with {first['config']['network']}; students: the same network, protocol `{s['protocol']}` with "
        f"{s['steps']} steps of {s['batch']} at rate {s['student_lr']:g}. {m['processor']}, torch {m['torch']}."
    )
    parts = [table(["objective", *(f"`{p}`" for p in overs)], rows), about]
    if known := [name for name in _REAL if name in real]:
        each = ", ".join(f"`{name}` {mean_and_half(real[name]['accuracy'])}" for name in known)
        parts.append(f"Real samples of the same bytes, measured alike: {each}.")
    return "\n\n".join([*parts, _best(cells, real)])


def separable(cells: _Cells, real: dict[str, dict[str, Any]]) -> tuple[list[tuple[str, str]], float, int, int]:
    """Return what the best cell cannot be told from, by how many points means must differ, and how many cells are
    above and below the best real samples."""
    order = sorted(cells, key=lambda at: -cells[at]["accuracy"]["mean"])
    mean = {at: 100 * cells[at]["accuracy"]["mean"] for at in order}
    # a cell that fell below random samples has broken down, and its spread is another
    floor_of_all = real["random"]["accuracy"]["mean"] if "random" in real else 0.0
    sound = [r for r in [*cells.values(), *real.values()] if r["accuracy"]["mean"] >= floor_of_all]
    least = _pooled([r["values_of_sets"] for r in sound], len(cells) + len(real) - 1)
    if least is None:
        return [], math.inf, 0, 0
    least *= 100
    floor = max((100 * float(r["accuracy"]["mean"]) for r in real.values()), default=math.inf)
    near = [at for at in order[1:] if mean[order[0]] - mean[at] < least]
    up, down = sum(v - floor > least for v in mean.values()), sum(floor - v > least for v in mean.values())
    return near, least, up, down


def _best(cells: _Cells, real: dict[str, dict[str, Any]]) -> str:
    """What the cells say about which is best, and which of them they cannot tell from it."""
    best = max(cells, key=lambda at: float(cells[at]["accuracy"]["mean"]))
    mean = {at: 100 * cells[at]["accuracy"]["mean"] for at in cells}
    ours = {m["name"] for m in list_methods() if m["reimplemented"]}
    reading = " (our reading of an unpublished program)" if best[0] in ours else ""
    text = f"**Best mean:** {_name(best)}{reading}, {mean[best]:.1f} %."
    order, least, up, down = separable(cells, real)
    if math.isinf(least):
        return text
    near = [f"{_name(at)} ({mean[at]:.1f})" for at in order]
    text += (
        f" Cells are told apart from it where their means differ by more than {least:.1f} points (95 %, the spread "
        "between sets pooled over all cells that are not below random samples, Bonferroni over all comparisons with "
        "the best). " + (f"Not told apart from it: {', '.join(near)}." if near else "All others are below it by more.")
    )
    if real:
        top = max(real, key=lambda name: float(real[name]["accuracy"]["mean"]))
        text += (
            f" By the same measure {up} of {len(cells)} cells are above the best real samples (`{top}`, "
            f"{100 * real[top]['accuracy']['mean']:.1f}), {down} below."
        )
    return text


def _name(at: tuple[str, str]) -> str:
    return f"`{at[0]}` over `{at[1]}`"


def choose_gains(root: Path) -> str:
    """Each parametrization against pixels over the objectives, and each objective against DM over parametrizations."""
    cells, _ = measured_grid(root)
    if not cells:
        return "Nothing has been measured yet."
    methods, overs = axes_of_grid(cells)
    plain, base = "pixels", "dm"
    inputs = {p: r["inputs"] for (_, p), r in cells.items()}
    rows: list[list[object]] = [
        [f"`{p}`", inputs[p], *_gain(cells, [((m, p), (m, plain)) for m in methods])] for p in overs if p != plain
    ]
    first = table(["parametrization", "inputs", "minus `pixels`, points", "above in", "best gain"], rows)
    rows = [[f"`{m}`", *_gain(cells, [((m, p), (base, p)) for p in overs])] for m in methods if m != base]
    second = table(["objective", "minus `dm`, points", "above in", "best gain"], rows)
    about = (
        "Means of differences between cells of the same objective (or of the same parametrization), with 95 % "
        "intervals of Student's t over those: what to expect of another objective, or another parametrization, alike."
    )
    return f"{first}\n\n{second}\n\n{about}"


def _gain(cells: _Cells, wanted: list[tuple[tuple[str, str], tuple[str, str]]]) -> list[object]:
    """The mean difference with its interval, in how many pairs it is above 0, and the largest with where it is."""
    means = {at: 100 * float(r["accuracy"]["mean"]) for at, r in cells.items()}
    gaps = {a: means[a] - means[b] for a, b in wanted if a in means and b in means}
    if not gaps:
        return ["—", "—", "—"]
    mean, n, best = statistics.fmean(gaps.values()), len(gaps), max(gaps, key=lambda at: gaps[at])
    text = f"{mean:+.1f}"
    if n > 2:
        half = float(stats.t.ppf(0.975, n - 1)) * statistics.stdev(gaps.values()) / math.sqrt(n)
        text += f" [{mean - half:+.1f}, {mean + half:+.1f}]"
    return [text, f"{sum(g > 0 for g in gaps.values())} of {n}", f"{gaps[best]:+.1f} ({_name(best)})"]


def choose_cells(root: Path) -> str:
    cells, real = measured_grid(root)
    if not cells and not real:
        return "Nothing has been measured yet."
    rows: list[list[object]] = []
    for r in sorted([*cells.values(), *real.values()], key=lambda r: -float(r["accuracy"]["mean"])):
        a = r["accuracy"]
        interval = "—" if a["ci95"] is None else "{:.1f} to {:.1f}".format(*(100 * v for v in a["ci95"]))
        steps = "—" if r["selects"] else f"{statistics.fmean(r['steps']):,.0f}"
        rows.append([
            f"`{r['method']}`", "real samples" if r["selects"] else f"`{r['config']['parametrization']}`",
            f"{100 * a['mean']:.1f}", interval, a["n"], r["inputs"], f"{r['bytes']['total']:,}", steps,
            "—" if r["selects"] else f"`{r['chosen']}`", f"{statistics.fmean(r['core_seconds']):.0f}",
            f"{r['preparation_seconds']:.0f}",
        ])  # fmt: skip
    head: list[object] = [
        "objective", "stored as", "accuracy, %", "95 % interval", "n", "inputs", "bytes", "steps", "rule", "seconds",
        "of training networks before",
    ]  # fmt: skip
    return table(head, rows)
