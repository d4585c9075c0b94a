"""Tables of matching methods: their results, their speed, what they cost."""

import json
from pathlib import Path
from statistics import mean, median
from typing import Any

from tools.docs.parts import mean_and_half, table

__all__ = ["effort", "recipes", "results", "scaling", "speed", "students", "time_to_accuracy", "unroll"]


_WORK = {
    "dm": ("one DM step", "256"),
    "dm-reuse": ("one DM step of eight with one network (`--steps-per-network 8`)", "256"),
    "dc": ("one DC step", "256"),
    "dsa": ("one DSA step", "256"),
    "student": ("five epochs of a student", "—"),
    "twenty-students": ("five epochs of twenty students, ours as one network, theirs in turn", "—"),
    "two-students": ("five epochs of two students, ours side by side (a process each), theirs in turn", "—"),
    "idc": ("one IDC update", "64"),
    "ncfm": ("one NCFM update", "all there are (asks 1,024)"),
}
"""What was timed, and the real samples of each class in it."""


def speed(root: Path) -> str:
    path = root / "results" / "speed.json"
    if not path.exists():
        return "Nothing has been measured yet."
    made = json.loads(path.read_text(encoding="utf-8"))
    rows: list[list[object]] = [
        [
            *_WORK[r["what"]], r["threads"],
            *(f"{r['seconds'][side]['median']:.2f}" for side in ("ours", "published")),
            f"{r['published_over_ours']:.1f}×", r["n"],
        ]
        for r in made["rows"]
    ]  # fmt: skip
    head: list[object] = ["what", "real samples per class", "threads", "ours, s", "published code, s", "faster", "n"]
    m = made["machine"]
    about = (
        f"{made['network']}, {made['ipc']} items per class, `mnist-5k` (about 400 real samples per class); medians of "
        f"interleaved runs; {m['processor']}, {m['cores']} cores shared with others, torch {m['torch']}."
    )
    return table(head, rows) + f"\n\n{about}" + (_floor(made["floor"]) if "floor" in made else "")


def _floor(made: dict[str, Any]) -> str:
    rows: list[list[object]] = [
        [
            *_WORK[r["what"]], f"{r['gflop']:,.0f}", f"{r['matrix_gflops']:.0f}", f"{r['peak_gflops']:.0f}",
            f"{r['floor_s']:.2f}", f"{r['seconds']['median']:.2f}", f"{r['ours_over_floor']:.2f}×", r["n"],
        ]
        for r in made["rows"]
    ]  # fmt: skip
    head: list[object] = [
        "what", "real samples per class", "10⁹ operations", "matrix product, 10⁹/s", "multiply-adds, 10⁹/s", "floor, s",
        "ours, s", "ours over the floor", "n",
    ]  # fmt: skip
    m = made["machine"]
    about = (
        "The floor: operations of convolutions and classifier, as plain convolutions have them, over the better of two "
        "rates, a large matrix product of torch and multiply-adds of registers alone (benchmarks/peak.c). One thread, "
        f"seconds of the processor; {m['processor']}, torch {m['torch']}."
    )
    return "\n\n" + table(head, rows) + "\n\n" + about


def students(root: Path) -> str:
    path = root / "results" / "students.json"
    if not path.exists():
        return "Nothing has been measured yet."
    made = json.loads(path.read_text(encoding="utf-8"))
    ways = list(made["rows"][0]["ms"])
    rows: list[list[object]] = [
        [
            f"`{r['network']}`", "×".join(map(str, r["input"])), r["samples"], r["students"],
            *(f"{r['ms'][way]:.1f}" for way in ways),
        ]
        for r in made["rows"]
    ]  # fmt: skip
    p, m = made["precision"], made["machine"]

    def gap(way: str) -> str:
        d = p["difference"][way]
        return f"{100 * d['mean']:+.2f} points [{100 * d['ci95'][0]:+.2f}, {100 * d['ci95'][1]:+.2f}]"

    about = (
        f"Milliseconds per student and update, on `{made['device']}`, medians of {made['repeats']} interleaved runs of "
        f"{made['steps']} updates; {m['processor']}, {m['cores']} cores shared with others, torch {m['torch']}.\n\n"
        f"Test accuracy of {p['n']} students of {p['ipc']} random samples per class of `{p['data']}` ({p['network']}, "
        f"{p['epochs']} epochs), paired with the same students one by one in float32: side by side "
        f"{gap('side by side')}, `bfloat16` {gap('bfloat16')}."
    )
    return table(["network", "input", "samples", "students", *ways], rows) + "\n\n" + about


def scaling(root: Path) -> str:
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
    return table(head, growth) + "\n\n" + about


def results(root: Path) -> str:
    """The cells of benchmarks/published_grid.py beside what is published, with what each ± is of."""
    found = [json.loads(p.read_text(encoding="utf-8")) for p in (root / "results" / "published_grid").glob("*.json")]
    if not found:
        return "Nothing has been measured yet."
    rows: list[list[object]] = []
    for row in sorted(found, key=lambda r: (r["data"], r["ipc"], r["method"])):
        made, own, said = row["distillation"], row["accuracy"], row["published"]
        how = f"`{row['method']}`"
        if made.get("published_steps"):
            seconds = f"{made['seconds']:,.0f} s: " if made["budget_s"] else ""
            how += f", {seconds}{made['steps']:,} of {made['published_steps']:,} steps"
        each = f", {row['students']} each" if row["over"] == "sets" and row["students"] > 1 else ""
        published = "—" if said is None else f"{said['percent']:.1f}"
        if said is not None and said["plus_minus"] is not None:
            published += f" ± {said['plus_minus']:.1f}"
        rows.append([
            row["data"], row["ipc"], how, f"`{row['protocol']}`, {row['epochs']:,}",
            f"{100 * own['mean']:.1f} ± {100 * (own['std'] or 0):.1f}", f"{own['n']} {row['over']}{each}", published,
            "—" if said is None else said["source"],
        ])  # fmt: skip
    head: list[object] = [
        "data", "items per class", "method, seconds and steps it had", "protocol, epochs", "ours, %", "± over",
        "published, %", "source",
    ]  # fmt: skip
    processors = " and ".join(sorted({r["machine"]["processor"] for r in found}))
    return table(head, rows) + f"\n\n{processors}."


def effort(root: Path) -> str:
    """What each effort gives beside random samples of as many items, with the same students."""
    path = root / "results" / "effort.json"
    if not path.exists():
        return "Nothing has been measured yet."
    made = json.loads(path.read_text(encoding="utf-8"))
    cells = list(made["accuracy"].values())
    rows: list[list[object]] = []
    for cell in sorted((c for c in cells if c["effort"]), key=lambda c: (c["data"], -c["accuracy"]["mean"])):
        alike = [
            100 * c["accuracy"]["mean"] for c in cells
            if not c["effort"] and (c["data"], c["student"]) == (cell["data"], cell["student"])
        ]  # fmt: skip
        rows.append([
            cell["data"], f"`{cell['method']}`", cell["effort"], f"{cell['steps']:,}", f"{cell['core_seconds']:.0f}",
            mean_and_half(cell["accuracy"]), f"{sum(alike) / len(alike):.1f} ({min(alike):.1f} to {max(alike):.1f})",
        ])  # fmt: skip
    head: list[object] = [
        "data", "method", "preset", "steps", "seconds of a core", "accuracy, %", "random, %: mean of 3 sets (range)"
    ]  # fmt: skip
    about = (
        "10 items per class, one set each, 3 students of ConvNet-W32 (with BatchNorm for the decoupled methods), which "
        "also made the sets; ±: half of a 95 % interval over students. Seconds without the networks that are trained "
        "first. "
        f"{made['machine']['processor']}, torch {made['machine']['torch']}."
    )
    return table(head, rows) + "\n\n" + about


def recipes(root: Path) -> str:
    path = root / "results" / "recipes.json"
    if not path.exists():
        return "Nothing has been measured yet."
    made = json.loads(path.read_text(encoding="utf-8"))
    rows: list[list[object]] = [
        [
            f"`recipes/{name}.yaml`", f"{100 * r['accuracy']['mean']:.1f} ± {100 * r['accuracy']['std']:.1f}",
            r["accuracy"]["n"], f"{r['bytes']['total']:,}", r["inputs"], r["steps"],
            f"{r['core_seconds']:.0f}",
        ]
        for name, r in sorted(made["rows"].items(), key=lambda item: -item[1]["accuracy"]["mean"])
    ]  # fmt: skip
    head: list[object] = ["recipe", "accuracy, %", "n", "bytes", "inputs", "steps", "seconds of a core"]
    m = made["machine"]
    about = (
        f"Data `{made['data']}`, {made['network']}, protocol `potstill` in its `--quick` form; mean ± standard "
        "deviation over n networks on one set. Seconds: the whole command, all threads, with the "
        "networks that it trains first. "
        f"{m['processor']}, torch {m['torch']}."
    )
    return table(head, rows) + "\n\n" + about


def _beside_goal(goal: dict[str, Any] | None, low: float, high: float, mean: float, seconds: float) -> str:
    """How an accuracy lies to a published one with its ±, and how many times as long the published program takes."""
    if goal is None:
        return "—"
    if high < goal["percent"]:
        return f"{goal['percent'] - mean:.1f} below"
    word = "above" if low > goal["percent"] + goal["plus_minus"] else "level"
    return f"{word}, {goal['published_seconds'] / seconds:,.0f}×"


def _printed(percent: float, give: float) -> str:
    return f"{percent:g} %" if give < 0.1 else f"{percent:g} ± {give:g} %"


def time_to_accuracy(root: Path) -> str:
    """Every measured run beside the accuracies that are published for its data."""
    path = root / "results" / "time_to_accuracy.json"
    made = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    if not made.get("reached"):
        return "Nothing has been measured yet."
    goals = {(line["data"], line["published"]): line for line in made["reached"]}
    methods = list(dict.fromkeys(method for _, method in goals))
    rows: list[list[object]] = []
    for r in sorted((r for r in made["rows"].values() if "measured" in r), key=lambda r: (r["data"], r["seconds"])):
        a = r["accuracy"]
        low, high = (100 * v for v in a["ci95"] or [a["mean"]] * 2)
        beside = [_beside_goal(goals.get((r["data"], m)), low, high, 100 * a["mean"], r["seconds"]) for m in methods]
        rows.append([
            r["data"], f"`{r['way']}`", r["inputs"], f"{r['bytes']:,}",
            f"{r['steps']:,} ({100 * r['steps'] / made['published']['steps']['dm']:.0f} %)", f"{r['seconds']:,.0f}",
            f"{100 * a['mean']:.1f} [{low:.1f}, {high:.1f}]", a["n"], f"{r['measured']['epochs']:,}", *beside,
        ])  # fmt: skip
    head: list[object] = [
        "data", "ours", "inputs", "bytes in float32", "steps (of DM's published 20,001)", "seconds", "accuracy, %", "n",
        "students' epochs", *(f"beside {m.upper()}" for m in methods),
    ]  # fmt: skip
    m, p = made["machine"], made["published"]
    theirs = "; ".join(
        f"{line['published'].upper()} on {line['data']} {_printed(line['percent'], line['plus_minus'])} "
        f"({line['source']})"
        for line in goals.values()
    )
    same = "; ".join(
        f"{line['method'].upper()} on {line['data']} {_printed(line['percent'], line['plus_minus'])} ({line['source']})"
        for line in made.get("equal_bytes", ())
    )
    hours = " and ".join(f"{p['seconds'][method] / 3600:.1f} hours ({method.upper()})" for method in methods)
    about = (
        f"{made['settings']['ipc']} items per class, students ConvNet-D3-W{made['settings']['width']}, protocol `dsa` "
        "with the epochs said. Seconds: the wall clock from the command to the saved file. Intervals: 95 %, over "
        f"students of one set. Published with as many inputs as items: {theirs}. *above*: the whole interval lies "
        "above the published number and its ± (where none is printed, half of its last digit); *level*: it reaches "
        "the number; then, how many times as long the published program takes for its whole schedule. That time is "
        "extrapolated: seconds of a step, measured here "
        f"(threads: {p['threads']}), times its number of steps, {hours}; what it reaches before its end was not "
        f"measured. {m['processor']}, {m['cores']} cores, torch {m['torch']}."
        f"\n\nPublished with four inputs in the bytes of one, as tiles have: {same}; by IDC's recipe, the best epoch "
        "on test data."
    )
    return table(head, rows) + "\n\n" + about + _undistilled(list(made.get("undistilled", {}).values()))


def _undistilled(rows: list[dict[str, Any]]) -> str:
    """What random real pictures give at the same bytes, as they are and as tiles of shrunk ones."""
    if not rows:
        return ""
    head: list[object] = [
        "data", "random real pictures", "inputs", "bytes in float32", "accuracy, %", "over", "students' epochs"
    ]  # fmt: skip
    body: list[list[object]] = []
    for r in rows:
        a, over = r["accuracy"], "as they are" if r["over"] == "pixels" else "four shrunk ones in the bytes of one"
        low, high = (100 * v for v in a["ci95"] or [a["mean"]] * 2)
        body.append([
            r["data"], over, r["inputs"], f"{r['bytes']:,}", f"{100 * a['mean']:.1f} [{low:.1f}, {high:.1f}]",
            f"{a['n']} sets", f"{r['epochs']:,}",
        ])  # fmt: skip
    told = f"Not distilled, the same kind of students; intervals over sets. {rows[0]['machine']['processor']}."
    return "\n\n" + table(head, body) + "\n\n" + told


def unroll(root: Path) -> str:
    path = root / "results" / "unroll.json"
    if not path.exists():
        return "Nothing has been measured yet."
    made = json.loads(path.read_text(encoding="utf-8"))
    parts = {"memory": _unroll_memory, "limit": _unroll_limit, "time": _unroll_time, "beside": _unroll_beside}
    parts["tesla"] = _unroll_tesla
    return "\n\n".join(part(made[name]) for name, part in parts.items() if name in made)


def _on(made: dict[str, Any]) -> str:
    m = made["machine"]
    return f"{m['processor']}, one thread, torch {m['torch']}."


def _unroll_memory(made: dict[str, Any]) -> str:
    peaks = {mode: {r["steps"]: r["peak"] for r in made["rows"] if r["mode"] == mode} for mode in ("replay", "full")}
    steps = sorted(peaks["replay"])
    rows: list[list[object]] = [
        [f"`{mode}`", *(f"{peaks[mode][n] / 1e6:,.0f}" if n in peaks[mode] else "not run" for n in steps)]
        for mode in peaks
    ]
    low, high = made["replay_spread"]
    about = (
        f"Peak of the process, MB, over inner steps; {made['network']}, 100 pictures of 28×28 a step, SGD; a process "
        f"per number. `replay` is within {100 * low:+.1f} % and {100 * high:+.1f} % of its median; `full` takes "
        f"{made['full_bytes_per_step'] / 1e6:.0f} MB a step, so that {steps[-1]} steps would be "
        f"{made['full_at_most_steps'] / 1e9:.1f} GB. {_on(made)}"
    )
    return table(["mode", *(f"{n} steps" for n in steps)], rows) + f"\n\n{about}"


def _unroll_limit(made: dict[str, Any]) -> str:
    said = [
        f"`{r['mode']}` "
        + (
            f"finishes ({r['peak'] / 1e6:,.0f} MB at its peak)"
            if r["finished"]
            else f"ends with “{r.get('said', 'killed')}” at {r.get('peak', 0) / 1e6:,.0f} MB"
        )
        for r in made["rows"]
    ]
    first = made["rows"][0]
    return (
        f"{first['steps']} steps of the same in a process that may hold {first['limit'] / 1e9:.0f} GB of data "
        f"(RLIMIT_DATA): {'; '.join(said)}."
    )


def _unroll_time(made: dict[str, Any]) -> str:
    rows: list[list[object]] = [
        [
            f"convnet-d3-w{r['width']}", r["samples"], r["steps"],
            r["optimizer"] + (f", momentum {r['momentum']:g}" if r["momentum"] else ""),
            f"{median(r['seconds']['full']):.2f}", f"{median(r['seconds']['replay']):.2f}",
            f"{r['replay_over_full']:.2f}× ({r['range'][0]:.2f} to {r['range'][1]:.2f})", r["n"],
        ]
        for r in made["rows"]
    ]  # fmt: skip
    head: list[object] = ["network", "pictures a step", "steps", "optimiser", "`full`, s", "`replay`, s", "ratio", "n"]
    about = f"Medians of interleaved runs, seconds of the processor, the first pass of `replay` included. {_on(made)}"
    return table(head, rows) + f"\n\n{about}"


def _unroll_beside(made: dict[str, Any]) -> str:
    names = {"mtt": "MTT", "rat": "RaT-BPTT"}
    rows: list[list[object]] = [
        [
            names[r["what"]], r["steps"], *(f"{median(t):.1f}" for t in r["seconds"].values()),
            f"{r['published_over_replay']:.1f}×", f"{r['published_over_full']:.1f}×",
            *(f"{r['peaks'][what] / 1e6:,.0f}" for what in (f"{r['what']} replay", r["what"])),
            f"{r['agreement']:.0e}", r["n"],
        ]
        for r in made["rows"]
    ]  # fmt: skip
    head: list[object] = [
        "an outer step of", "inner steps", "`replay`, s", "`full`, s", "published, s", "`replay` faster",
        "`full` faster", "`replay`, MB", "published, MB", "difference of gradients", "n",
    ]  # fmt: skip
    about = (
        f"The published code and ours, {made['network']}, the same weights and 100 pictures, in turns, medians of "
        f"seconds of the processor; RaT-BPTT with as many steps of burn-in and {made['real']} real samples. The "
        f"difference is that of the gradients without augmentation in float64, relative; of RaT-BPTT with an ε of "
        "1e-12, because `higher` adds Adam's to √v before v is corrected, and torch after; at 1e-8 it is 1e-4. "
        f"{_on(made)}"
    )
    return table(head, rows) + f"\n\n{about}"


def _unroll_tesla(made: dict[str, Any]) -> str:
    steps = sorted({r["steps"] for r in made["rows"]})

    def cell(lr: float, n: int) -> str:
        some = [r for r in made["rows"] if (r["lr"], r["steps"]) == (lr, n)]
        cosine, norm, rate = ([r[key] for r in some] for key in ("cosine", "norm", "rate"))
        return f"{mean(cosine):.3f} (least {min(cosine):.3f}), {mean(norm):.2f}, {mean(rate):.2f}"

    rates = sorted({r["lr"] for r in made["rows"]})
    rows: list[list[object]] = [[f"{lr:g}", *(cell(lr, n) for n in steps)] for lr in rates]
    experts = len({r["expert"] for r in made["rows"]})
    about = (
        f"`tesla` beside the exact gradient: cosine of the gradients by the pictures, ratio of their norms, ratio of "
        f"the gradients by the learning rate; means over {experts} experts of `mnist-5k` ({made['network']}, start "
        f"after one epoch, target two later), {made['samples']} pictures, DSA. {_on(made)}"
    )
    return table(["learning rate", *(f"{n} steps" for n in steps)], rows) + f"\n\n{about}"
