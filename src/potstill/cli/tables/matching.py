"""Tables of matching methods: their results, their speed, what they cost."""

import json
from pathlib import Path
from typing import Any

from potstill.cli.tables.parts import table
from potstill.reports import results_table

__all__ = ["recipes", "results", "scaling", "speed", "time_to_accuracy"]


_WORK = {
    "dm": "one DM step",
    "dm-reuse": "one DM step of eight with one network (`--reuse 8`)",
    "dc": "one DC step",
    "dsa": "one DSA step",
    "student": "five epochs of a student",
    "two-students": "five epochs of two students",
    "idc": "one IDC update",
    "ncfm": "one NCFM update",
}


def speed(root: Path) -> str:
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
    return table(head, rows) + "\n\n" + about


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


def recipes(root: Path) -> str:
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
    return table(head, rows) + "\n\n" + about


def time_to_accuracy(root: Path) -> str:
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
    return table(head, rows) + "\n\n" + about
