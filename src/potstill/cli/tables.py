"""The tables in the README and in docs/, made from the registry and from results/, so that none is kept by hand.

python -m potstill.cli.tables          write them
python -m potstill.cli.tables --check  say which are not current, and exit with 1
"""

import json
import math
import re
import statistics
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeAlias

from scipy import stats  # type: ignore[import-untyped]

from potstill.cli.scaled import worth_cells
from potstill.cli.text import plural
from potstill.listings import list_methods, list_parametrizations, list_protocols
from potstill.reports import results_table

__all__ = ["main", "render"]


def _table(head: list[object], rows: list[list[object]]) -> str:
    rule: list[object] = ["---"] * len(head)
    lines = [head, rule, *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)


def _paper(text: str) -> str:
    return re.sub(r"arXiv:(\d{4}\.\d{4,5})", r"[arXiv:\1](https://arxiv.org/abs/\1)", text)


def _methods(root: Path) -> str:
    rows: list[list[object]] = []
    for m in list_methods():
        kinds = "anything" if "*" in m["kinds"] else ", ".join(m["kinds"])
        keeps = ("real samples" if m["selects"] else "new samples") + (", soft labels" if m["soft"] else "")
        rows.append([f"`{m['name']}`", m["family"], m["summary"], keeps, kinds, _paper(m["paper"])])
    return _table(["method", "family", "what it does", "what it keeps", "works on", "paper"], rows)


def _options(root: Path) -> str:
    parts = []
    for m in list_methods():
        rows: list[list[object]] = [
            [f"`--{o['name'].replace('_', '-')}`", f"`{o['default']}`", o["help"]] for o in m["options"]
        ]
        about = f"{m['title']} ({m['year']}), {_paper(m['paper'])}. {m['summary']}"
        body = _table(["option", "default", "what it is"], rows) if rows else "It has no options."
        parts.append(f"### {m['name']}\n\n{about}\n\n{body}")
    return "\n\n".join(parts)


def _protocols(root: Path) -> str:
    rows: list[list[object]] = [
        [f"`{p['name']}`", p["version"], p["summary"], "yes" if p["optimistic"] else "no", _paper(p["paper"])]
        for p in list_protocols()
    ]
    return _table(["protocol", "version", "what it does", "optimistic", "paper"], rows)


def _parametrizations(root: Path) -> str:
    rows: list[list[object]] = []
    for p in list_parametrizations():
        settings = ", ".join(f"`{o['name']}={o['default']}`" for o in p["options"])
        rows.append([f"`{p['name']}`", p["summary"], settings or "none"])
    return _table(["parametrization", "what is stored", "settings"], rows)


_WORK = {
    "dm": "one DM step",
    "dm-reuse": "one DM step of eight with one network (`--reuse 8`)",
    "dsa": "one DSA step",
    "student": "five epochs of a student",
    "two-students": "five epochs of two students",
    "idc": "one IDC update",
    "ncfm": "one NCFM update",
}


def _speed(root: Path) -> str:
    path = root / "results" / "speed.json"
    if not path.exists():
        return "Nothing has been measured yet."
    made = json.loads(path.read_text(encoding="utf-8"))
    rows: list[list[object]] = [
        [
            _WORK[r["what"]],
            r["threads"], *(f"{r['seconds'][side]['median']:.2f}" for side in ("ours", "published")),
            f"{r['published_over_ours']:.1f}×", f"{r['ours_over_floor']:.1f}×", r["n"],
        ]
        for r in made["rows"]
    ]  # fmt: skip
    head: list[object] = ["what", "threads", "ours, s", "published code, s", "faster", "ours over the floor", "n"]
    m = made["machine"]
    about = (
        f"{made['network']}, {made['ipc']} items per class, {made['batch']} real samples per class, `mnist-5k`; "
        f"medians of interleaved runs; {m['processor']}, {m['cores']} cores shared with others, torch {m['torch']}. "
        "The floor: the operations of convolutions and classifier over the rate of a large matrix product, same run."
    )
    return _table(head, rows) + "\n\n" + about


def _own_data(root: Path) -> str:
    path = root / "results" / "own_data.json"
    if not path.exists():
        return "Nothing has been measured yet."
    made = json.loads(path.read_text(encoding="utf-8"))
    rows: list[list[object]] = []
    for r in made["rows"]:
        d, a, plain = r["difference"], r["accuracy"], r["random"]
        low, high = (100 * v for v in d["ci95"])
        rows.append([
            r["pictures"], "×".join(map(str, r["shape"])), f"{100 * a['mean']:.1f}", f"{100 * plain['mean']:.1f}",
            f"{100 * d['mean']:+.1f} [{low:+.1f}, {high:+.1f}]", a["n"],
        ])  # fmt: skip
    head: list[object] = [
        "side of the files, pixels",
        "read as",
        "distilled, %",
        "random, %",
        "difference, points",
        "n",
    ]
    sizes = ", ".join(str(n) for n in made["rows"][0]["classes"].values())
    return _table(head, rows) + f"\n\n`{made['method']}`; classes of {sizes} pictures; {made['machine']['processor']}."


def _streaming(root: Path) -> str:
    path = root / "results" / "streaming.json"
    if not path.exists():
        return "Nothing has been measured yet."
    made = json.loads(path.read_text(encoding="utf-8"))
    rows: list[list[object]] = []
    for name, r in sorted(made["runs"].items(), key=lambda item: (item[1]["pictures"], item[0])):
        layout, job, _ = name.split(":")
        passes = [f"{p} {c['most']}" for p, c in r["reads"].items() if c["reads"]]
        speed = ""
        if "throughput" in r:
            speed = f"{100 * r['throughput']:.0f} [{100 * r['least']:.0f}, {100 * r['most']:.0f}], n {r['n']}"
        rows.append([job, layout, f"{r['pictures']:,}", f"{r['peak'] / 2**20:,.0f}", ", ".join(passes), speed])
    head: list[object] = [
        "what runs", "pictures in", "how many", "peak, MiB", "most reads of a picture, by pass", "% of a bare loop",
    ]  # fmt: skip
    return _table(head, rows) + (
        f"\n\n{made['classes']:,} classes of JPEG files of {made['side']} × {made['side']} pixels, {made['ipc']} per "
        f"class kept, teacher `{made['network']}` trained for one epoch over the stream (or kept from the run before, "
        "which reads nothing); one thread. The bare loop reads and decodes with Pillow (shards with `tarfile`); the "
        f"pass gives normalised batches; medians and range over turns. {made['machine']['processor']}."
    )


def _imagenet(root: Path) -> str:
    path = root / "results" / "streaming.json"
    if not path.exists():
        return "Nothing has been measured yet."
    made = json.loads(path.read_text(encoding="utf-8"))
    if "imagenet" not in made:
        return "Nothing has been measured yet."
    model, photo = made["imagenet"], made["photographs"]
    rows: list[list[object]] = [
        [job, *(f"{by[g][part]:.2f}" for g in ("1", "8") for part in ("decode_hours", "network_hours"))]
        for job, by in model["hours"].items()
    ]
    head: list[object] = [
        "", "1 GPU: decoding, h", "1 GPU: networks, h", "8 GPUs: decoding, h", "8 GPUs: networks, h",
    ]  # fmt: skip
    return _table(head, rows) + (
        f"\n\nAn extrapolation, not a measurement: decoding by the {1000 * photo['seconds']:.1f} ms of a core that a "
        f"photograph of 500 × 375 pixels took here, with {model['cores_assumed']} cores for each GPU; networks by the "
        f"operations of ResNet-18 at {model['gpu_flops_assumed'] / 1e12:.0f} TFLOP/s, which is assumed; the two "
        "overlap, so the larger counts. Eight GPUs split classes or batches, and nothing is lost in that."
    )


def _pruning(root: Path) -> str:
    """Accuracy at each part that is kept, methods as rows: with right labels, then with wrong ones."""
    parts: list[str] = []
    for path in sorted((root / "results" / "pruning").glob("*.json")):
        made = json.loads(path.read_text(encoding="utf-8"))
        cells = [c for c in made["cells"].values() if "accuracy" in c]
        kept = sorted({c["keep"] for c in cells if c["method"] != "full"})
        rows: list[list[object]] = []
        for method in dict.fromkeys(c["method"] for c in cells if c["method"] != "full"):
            mine = {c["keep"]: c for c in cells if c["method"] == method}
            rows.append([f"`{method}`", *(_pruned(mine[k], made["noise"]) if k in mine else "" for k in kept)])
        said, full = made["settings"], next((c for c in cells if c["method"] == "full"), None)
        labels = f"{100 * made['noise']:.0f} % of the labels wrong" if made["noise"] else "right labels"
        whole = "" if full is None else f"; all of them: {100 * full['accuracy']['mean']:.1f} %"
        about = (
            f"**{made['data']}**, {labels}: {said['network']}, n = {said['repeats']}, {said['epochs']} epochs "
            f"recorded, students of {said['steps']} steps{whole}."
        )
        parts.append(about + "\n\n" + _table(["method", *(f"{100 * k:g} % kept" for k in kept)], rows))
    return "\n\n".join(parts) or "Nothing has been measured yet."


def _pruned(cell: dict[str, Any], noise: float) -> str:
    """Accuracy, its difference from random with the interval over repeats, and the kept labels that are wrong."""
    gap = cell.get("over_random")
    shown = f"{100 * cell['accuracy']['mean']:.1f}"
    if gap is not None and gap["ci95"] is not None:
        shown += f" ({100 * gap['mean']:+.1f} [{100 * gap['ci95'][0]:+.1f}, {100 * gap['ci95'][1]:+.1f}])"
    return shown + (f"; {100 * cell['wrong']:.0f} % wrong" if noise else "")


def _recipes(root: Path) -> str:
    path = root / "results" / "recipes.json"
    if not path.exists():
        return "Nothing has been measured yet."
    made = json.loads(path.read_text(encoding="utf-8"))
    rows: list[list[object]] = [
        [
            f"`recipes/{name}.yaml`", f"{100 * r['accuracy']['mean']:.1f} ± {100 * r['accuracy']['std']:.1f}",
            r["accuracy"]["n"], f"{r['bytes']['total']:,}", r["inputs"], r["steps"], f"{r['seconds']:.0f}",
            f"{r['preparation_seconds']:.0f}",
        ]
        for name, r in sorted(made["rows"].items(), key=lambda item: -item[1]["accuracy"]["mean"])
    ]  # fmt: skip
    head: list[object] = ["recipe", "accuracy, %", "n", "bytes", "inputs", "steps", "seconds", "of training networks"]
    m = made["machine"]
    about = (
        f"Data `{made['data']}`, {made['network']}, protocol `potstill`; mean ± standard deviation over n networks on "
        f"one set. {m['processor']}, {m['cores']} cores shared with others, torch {m['torch']}."
    )
    return _table(head, rows) + "\n\n" + about


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


def _chosen(root: Path) -> tuple[_Cells, dict[str, dict[str, Any]]]:
    """What benchmarks/choose.py has made: cells by objective and parametrization, and real samples by name."""
    found = [json.loads(p.read_text(encoding="utf-8")) for p in sorted((root / "results" / "choose").glob("*.json"))]
    cells = {(r["method"], r["over"]): r for r in found if not r["selects"]}
    return cells, {r["method"]: r for r in found if r["selects"]}


def _axes(cells: Iterable[tuple[str, str]]) -> tuple[list[str], list[str]]:
    """Objectives and parametrizations, in the order of their listings."""
    known = [m["name"] for m in list_methods()], [p["name"] for p in list_parametrizations()]
    used = list(cells)
    return [m for m in known[0] if any(m == a for a, _ in used)], [p for p in known[1] if any(p == b for _, b in used)]


def _mean_and_half(accuracy: dict[str, Any]) -> str:
    low, high = accuracy["ci95"] or (None, None)
    half = "" if low is None else f" ± {50 * (high - low):.1f}"
    return f"{100 * accuracy['mean']:.1f}{half}"


def _choose(root: Path) -> str:
    cells, real = _chosen(root)
    if not cells:
        return "Nothing has been measured yet."
    methods, overs = _axes(cells)
    rows: list[list[object]] = [
        [f"`{m}`", *(_mean_and_half(cells[m, p]["accuracy"]) if (m, p) in cells else "—" for p in overs)]
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
    parts = [_table(["objective", *(f"`{p}`" for p in overs)], rows), about]
    if known := [name for name in _REAL if name in real]:
        each = ", ".join(f"`{name}` {_mean_and_half(real[name]['accuracy'])}" for name in known)
        parts.append(f"Real samples of the same bytes, measured alike: {each}.")
    return "\n\n".join([*parts, _best(cells, real)])


def _best(cells: _Cells, real: dict[str, dict[str, Any]]) -> str:
    """What the cells say about which is best, and which of them they cannot tell from it."""
    order = sorted(cells, key=lambda at: -cells[at]["accuracy"]["mean"])
    mean = {at: 100 * cells[at]["accuracy"]["mean"] for at in order}
    best = order[0]
    text = f"**Best mean:** {_name(best)}, {mean[best]:.1f} %."
    least = _pooled([r["values_of_sets"] for r in [*cells.values(), *real.values()]], len(cells) + len(real) - 1)
    if least is None:
        return text
    least *= 100
    near = [f"{_name(at)} ({mean[at]:.1f})" for at in order[1:] if mean[best] - mean[at] < least]
    text += (
        f" Cells are told apart from it where their means differ by more than {least:.1f} points (95 %, the spread "
        "between sets pooled over all cells, Bonferroni over all comparisons with the best). "
        + (f"Not told apart from it: {', '.join(near)}." if near else "All others are below it by more.")
    )
    if real:
        top = max(real, key=lambda name: float(real[name]["accuracy"]["mean"]))
        floor = 100 * real[top]["accuracy"]["mean"]
        up = sum(value - floor > least for value in mean.values())
        down = sum(floor - value > least for value in mean.values())
        text += (
            f" By the same measure {up} of {len(cells)} cells are above the best real samples (`{top}`, {floor:.1f}), "
            f"{down} below."
        )
    return text


def _name(at: tuple[str, str]) -> str:
    return f"`{at[0]}` over `{at[1]}`"


def _choose_gains(root: Path) -> str:
    """Each parametrization against pixels over the objectives, and each objective against DM over parametrizations."""
    cells, _ = _chosen(root)
    if not cells:
        return "Nothing has been measured yet."
    methods, overs = _axes(cells)
    plain, base = "pixels", "dm"
    inputs = {p: r["inputs"] for (_, p), r in cells.items()}
    rows: list[list[object]] = [
        [f"`{p}`", inputs[p], *_gain(cells, [((m, p), (m, plain)) for m in methods])] for p in overs if p != plain
    ]
    first = _table(["parametrization", "inputs", "minus `pixels`, points", "above in", "best gain"], rows)
    rows = [[f"`{m}`", *_gain(cells, [((m, p), (base, p)) for p in overs])] for m in methods if m != base]
    second = _table(["objective", "minus `dm`, points", "above in", "best gain"], rows)
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


def _choose_cells(root: Path) -> str:
    cells, real = _chosen(root)
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
    return _table(head, rows)


def _time_to_accuracy(root: Path) -> str:
    path = root / "results" / "time_to_accuracy.json"
    made = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    if not made.get("reached"):
        return "Nothing has been measured yet."
    rows: list[list[object]] = []
    for line in made["reached"]:
        found, over = line["reaches"], line["above"]
        goal = f"{line['published'].upper()}'s {line['percent']:g} % ({line['source']})"
        cells: list[object] = [f"not reached; best {line['best_percent']:.1f}", "—", "—", "—"]
        if found is not None:
            low, high = (100 * v for v in found["accuracy"]["ci95"] or [found["accuracy"]["mean"]] * 2)
            accuracy = f"{100 * found['accuracy']['mean']:.1f} [{low:.1f}, {high:.1f}]"
            above = "—" if over is None else f"{over['seconds']:,.0f}"
            cells = [accuracy, f"{found['seconds']:,.0f}", above, f"{found['published_over_ours']:,.0f}×"]
        rows.append([line["data"], goal, f"{line['published_seconds'] / 3600:.1f}", f"`{line['way']}`", *cells])
    head: list[object] = [
        "data", "goal", "published code, hours", "ours", "accuracy, %", "seconds", "seconds until clearly there",
        "faster",
    ]  # fmt: skip
    m, p = made["machine"], made["published"]
    lengths = sorted({r["measured"]["epochs"] for r in made["rows"].values() if "measured" in r})
    about = (
        f"{made['settings']['ipc']} items per class, students ConvNet-D3-W{made['settings']['width']}, protocol `dsa` "
        f"with {' or '.join(f'{e:,}' for e in lengths)} epochs. Ours: the wall clock from the command to the saved "
        "file, with the smallest budget whose 95 % interval (over students of one set) reaches the goal, and with the "
        "smallest whose interval lies at or above it. The published code's time is extrapolated: seconds of a step, "
        f"measured here (threads: {p['threads']}), times its number of steps. {m['processor']}, {m['cores']} cores, "
        f"torch {m['torch']}."
    )
    return _table(head, rows) + "\n\n" + about


def _knowledge(root: Path) -> str:
    """What soft labels buy in data, of every data set that benchmarks/knowledge.py has measured."""
    folder, parts = root / "results" / "knowledge", []
    for path in sorted(folder.glob("*/scaling.json")):
        made = json.loads(path.read_text(encoding="utf-8"))
        if "worth" not in made:  # interrupted
            continue
        s, stops = made["settings"], made["settings"]["stops"]
        known = {t["stop"]: f"{plural(t['stop'], 'epoch')} ({100 * t['accuracy']:.1f})" for t in made["teachers"]}
        rows: list[list[object]] = []
        for row in made["worth"]:
            cells = [made["cells"][f"{row['ipc']}-{name}"]["accuracy"] for name in ("hard", *stops)]
            value, interval = worth_cells(row, s["ipc"])
            rows.append([row["ipc"], *map(_mean_and_half, cells), cells[0]["n"], row["stop"], value, interval])
        head: list[object] = [
            "per class", "classes", *(known[stop] for stop in stops), "n", "stop chosen", "worth, hard per class",
            "95 % interval",
        ]  # fmt: skip
        about = (
            f"`{made['source']}`, {s['network']}: accuracy in percent on {made['held'][1]:,} held-out training "
            f"samples, mean and half of a 95 % interval (Student's t over {s['sets']} sets), with classes and with the "
            f"labels of a teacher after so many epochs of {made['samples']:,} samples (its own accuracy). Students: "
            f"{s['steps']} steps of {s['batch']} at rate {s['lr']:g}. The law misses cells by "
            f"{100 * made['law']['misfit']:.1f} % of their error. **{made['sentence']}**"
        )
        parts.append(f"{_table(head, rows)}\n\n{about}")
    if not parts:
        return "Nothing has been measured yet."
    machine = json.loads((folder / "machine.json").read_text(encoding="utf-8"))
    return "\n\n".join([*parts, f"{machine['processor']}, one thread, torch {machine['torch']}."])


def _results(root: Path) -> str:
    rows: list[dict[str, Any]] = []
    for path in sorted((root / "results" / "published_grid").glob("*.json")):
        row = json.loads(path.read_text(encoding="utf-8"))
        said = row.get("published")
        published = said and {"mean": said["percent"] / 100, "source": said["source"]}
        made = row["distillation"]
        how = f"{row['method']} ({made['steps']:,} steps)" if made["budget_s"] else row["method"]
        protocol = f"{row['protocol']}, {row['epochs']:,} epochs"
        rows.append({**row, "published": published, "method": how, "protocol": protocol})
    return results_table(rows).strip() if rows else "Nothing has been measured yet."


def _scaling(root: Path) -> str:
    path = root / "results" / "scaling.json"
    if not path.exists():
        return "Nothing has been measured yet."
    made = json.loads(path.read_text(encoding="utf-8"))
    rows = list(made["rows"].values())
    methods = list(dict.fromkeys(r["method"] for r in rows))
    growth: list[list[object]] = []
    for method in methods:
        cells: list[object] = []
        for axis in ("classes", "ipc", "samples"):
            found = [e for e in made["exponents"] if (e["method"], e["axis"]) == (method, axis)]
            ends = sorted(e["exponent"] for e in found)
            sizes = sorted({n for e in found for n in e["sizes"]})
            cells.append(
                f"{ends[0]:.2f} to {ends[-1]:.2f} ({sizes[0]:,} to {sizes[-1]:,})" if len(ends) > 1
                else f"{ends[0]:.2f} ({sizes[0]:,} to {sizes[-1]:,})" if ends else "—"
            )  # fmt: skip
        errors = [100 * r["error"] for r in rows if r["method"] == method]
        cells += [f"{min(errors):+.1f} to {max(errors):+.1f}", len(errors)]
        growth.append([f"`{method}`", *cells])
    head: list[object] = [
        "method", "classes", "items per class", "real samples", "predicted memory, % off", "runs",
    ]  # fmt: skip
    m = made["machine"]
    wrong = [abs(r["error"]) for r in rows]
    peaks = [r["peak"] / 2**20 for r in rows]
    about = (
        "Exponents of seconds a step, by the sizes in brackets: 1 is linear, 0 no growth; ranges over the other "
        f"axis. Predicted peaks lie within {100 * made['within']:.0f} % of the process's own in "
        f"{sum(e <= made['within'] for e in wrong)} of {len(wrong)} runs ({min(peaks):,.0f} to {max(peaks):,.0f} MiB). "
        f"Noise pictures, one thread; {m['processor']}, torch {m['torch']}."
    )
    return _table(head, growth) + "\n\n" + about


def _count(n: float) -> str:
    return f"{n:,.0f}" if n >= 100 else f"{n:.1f}" if n >= 1 else f"{n:.2f}"


def _selection_scale(root: Path) -> str:
    path = root / "results" / "selection_scale.json"
    if not path.exists():
        return "Nothing has been measured yet."
    made = json.loads(path.read_text(encoding="utf-8"))
    measured = list(made["rows"].values())
    sizes = sorted({r["samples"] for r in measured})
    by = {(r["name"], r["samples"]): r for r in measured}
    rows: list[list[object]] = []
    for name in sorted({r["name"] for r in measured}, key=lambda name: (name.split(":")[0], ": " in name)):
        found = [by.get((name, n)) for n in sizes]
        cells = ["—" if r is None else _count(r["cpu"]) if "cpu" in r else r["failed"] for r in found]
        done = [r for r in found if r is not None and "cpu" in r]
        peak = f"{done[-1]['peak'] / 2**30:.1f}" if done else "—"
        growth = made["exponents"].get(name)
        note = next(r["note"] for r in measured if r["name"] == name)
        grown = "—" if growth is None else f"{growth:.2f}"
        rows.append([name if ": " in name else f"`{name}`", note or "—", *cells, grown, peak])
    head: list[object] = ["choice", "how", *(f"{n:,}" for n in sizes), "growth", "peak, GiB"]
    worth = "; ".join(f"{name} {value:.4f}" for name, value in made.get("values", {}).items())
    near = ", ".join(f"{name} {100 * part:.1f} %" for name, part in made.get("recall", {}).items())
    m = made["machine"]
    about = (
        f"Processor seconds to choose {made['chosen']} of so many rows of {made['width']} numbers as one class, one "
        "thread; growth: the exponent between the two largest sizes; peak memory of the whole process at the largest "
        f"size that was finished, the rows in it. Other libraries were stopped at {made['limit_seconds']} s and "
        f"{made['limit_bytes'] / 2**30:.0f} GiB. {m['processor']}, {m['cores']} cores shared with others, torch "
        f"{m['torch']}."
    )
    parts = [_table(head, rows), about]
    if worth:
        parts.append(f"What facility location reached (mean largest similarity, {sizes[0]:,} rows): {worth}.")
    if near:
        parts.append(f"Of the exact neighbours of 500 of {sizes[1]:,} rows the approximate searches found: {near}.")
    return "\n\n".join(parts)


def _active(root: Path) -> str:
    """Labels that each acquisition needs, beside random, of benchmarks/active.py."""
    path = root / "results" / "active.json"
    if not path.exists():
        return "Nothing has been measured yet."
    made = json.loads(path.read_text(encoding="utf-8"))
    last, wanted = made["labels"][-1], f"{100 * made['fraction']:.0f} %"
    rows: list[list[object]] = []
    for name, curve in made["curves"].items():
        needed, apart = curve["needed"], name == "random"
        never = f", {needed['at_least']} never" if needed["at_least"] else ""
        rows.append([
            f"`{name}`", _mean_and_half(curve["accuracy"][-1]), f"{needed['mean']:.0f}{never}",
            "—" if apart else _interval(curve["saved"], 1, "+.0f"),
            "—" if apart else _interval(curve["over_random"], 100, "+.1f"),
        ])  # fmt: skip
    s, m = made["settings"], made["machine"]
    about = (
        f"Forged pictures: is a patch of another photograph in this crop? Split by photograph; {made['pool']:,} crops "
        f"in the pool, {s['network']}, n = {made['seeds']} seeds, each with photographs of its own held out, 95 % "
        f"intervals (Student's t). All labels give {_mean_and_half(made['full'])} %. {m['processor']}, "
        f"torch {m['torch']}."
    )
    head: list[object] = [
        "acquisition", f"% right at {last} labels", f"labels for {wanted} of that of all labels", "labels saved",
        "curve over random, points",
    ]  # fmt: skip
    return _table(head, rows) + "\n\n" + about


def _csod(root: Path) -> str:
    """Average precision of a small detector by what chose its images, of benchmarks/detection_coreset.py."""
    path = root / "results" / "csod.json"
    if not path.exists():
        return "Nothing has been measured yet."
    made = json.loads(path.read_text(encoding="utf-8"))
    rows: list[list[object]] = [
        [
            row["images"], f"`{row['method']}`", f"{row['boxes']:.0f}", _mean_and_half(row["ap50"]),
            _mean_and_half(row["ap"]), "—" if row["method"] == "random" else _interval(row["over_random"], 100, "+.1f"),
        ]
        for row in made["table"]
    ]  # fmt: skip
    s, m = made["settings"], made["machine"]
    about = (
        f"Scenes of MNIST's digits on photographs, rare and frequent classes; images chosen of {s['pool']:,}; a "
        f"centre-point detector after {s['steps']} updates of {s['batch']}, tested on {s['test']} scenes of other "
        f"digits and photographs. AP50 and AP (0.5 to 0.95) by pycocotools, times 100; n = {s['seeds']} pools, 95 % "
        f"intervals (Student's t). `csod-λ`: CSOD with that redundancy; `class-random`: its turns, drawing at random. "
        f"{m['processor']}, torch {m['torch']}."
    )
    return _table(["images", "chosen by", "boxes", "AP50", "AP", "AP50 over random"], rows) + "\n\n" + about


def _interval(value: dict[str, Any], times: float, form: str) -> str:
    mean, ends = f"{times * value['mean']:{form}}", value["ci95"]
    return mean if ends is None else f"{mean} [{times * ends[0]:{form}}, {times * ends[1]:{form}}]"


_BLOCKS: dict[str, Callable[[Path], str]] = {
    "active": _active,
    "choose": _choose,
    "choose-cells": _choose_cells,
    "choose-gains": _choose_gains,
    "csod": _csod,
    "imagenet": _imagenet,
    "knowledge": _knowledge,
    "methods": _methods,
    "options": _options,
    "own-data": _own_data,
    "parametrizations": _parametrizations,
    "protocols": _protocols,
    "pruning": _pruning,
    "recipes": _recipes,
    "results": _results,
    "scaling": _scaling,
    "selection-scale": _selection_scale,
    "speed": _speed,
    "streaming": _streaming,
    "time-to-accuracy": _time_to_accuracy,
}


def render(text: str, root: Path) -> str:
    """``text`` with everything between ``<!-- NAME:begin -->`` and ``<!-- NAME:end -->`` made anew."""
    for name, block in _BLOCKS.items():
        begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
        if begin in text:
            before, rest = text.split(begin, 1)
            text = f"{before}{begin}\n{block(root)}\n{end}{rest.split(end, 1)[1]}"
    return text


def main(root: Path, *, check: bool) -> int:
    """Write the tables under ``root``, or say which are not current. Returns the exit status."""
    status = 0
    for path in [root / "README.md", *sorted((root / "docs").glob("*.md"))]:
        old = path.read_text(encoding="utf-8")
        new = render(old, root)
        if new != old:
            status = 1
            sys.stdout.write(
                f"{path.relative_to(root)}: {'not current; run' if check else 'written by'} potstill.cli.tables\n"
            )
            if not check:
                path.write_text(new, encoding="utf-8")
    return status if check else 0


if __name__ == "__main__":
    sys.exit(main(Path.cwd(), check="--check" in sys.argv))
