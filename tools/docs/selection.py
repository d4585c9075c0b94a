"""Tables of selection, and of what users have."""

import json
from pathlib import Path
from typing import Any

from tools.docs.parts import count, interval, mean_and_half, table

__all__ = ["active", "csod", "own_data", "pruning", "selection_scale"]


def own_data(root: Path) -> str:
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
    return table(head, rows) + f"\n\n`{made['method']}`; classes of {sizes} pictures; {made['machine']['processor']}."


def pruning(root: Path) -> str:
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
            f"**{made['data']}**, {labels}: {said['network']}, n = {said['repeats']}, {_records(cells)}, students of "
            f"{said['steps']} steps{whole}."
        )
        parts.append(about + "\n\n" + table(["method", *(f"{100 * k:g} % kept" for k in kept)], rows))
    return "\n\n".join(parts) or "Nothing has been measured yet."


def _records(cells: list[dict[str, Any]]) -> str:
    """How many epochs are recorded: of most methods, and of those that have other records."""
    of = {c["method"]: c["epochs"] for c in cells if c.get("epochs")}
    most = max(of.values(), key=list(of.values()).count)
    others = "".join(f", `{m}` {n}" for m, n in of.items() if n != most)
    return f"{most} epochs recorded" + (f" ({others[2:]})" if others else "")


def _pruned(cell: dict[str, Any], noise: float) -> str:
    """Accuracy, its difference from random with the interval over repeats, and the kept labels that are wrong."""
    gap = cell.get("over_random")
    shown = f"{100 * cell['accuracy']['mean']:.1f}"
    if gap is not None and gap["ci95"] is not None:
        shown += f" ({100 * gap['mean']:+.1f} [{100 * gap['ci95'][0]:+.1f}, {100 * gap['ci95'][1]:+.1f}])"
    return shown + (f"; {100 * cell['wrong']:.0f} % wrong" if noise else "")


def selection_scale(root: Path) -> str:
    path = root / "results" / "selection_scale.json"
    if not path.exists():
        return "Nothing has been measured yet."
    made = json.loads(path.read_text(encoding="utf-8"))
    measured = list(made["rows"].values())
    sizes = sorted({r["samples"] for r in measured})
    by = {(r["name"], r["samples"]): r for r in measured}
    rows: list[list[object]] = []
    for name in sorted({r["name"] for r in measured}, key=lambda name: (name.split(":")[0], ": " in name, name)):
        found = [by.get((name, n)) for n in sizes]
        cells = ["—" if r is None else count(r["cpu"]) if "cpu" in r else r["failed"] for r in found]
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
    parts = [table(head, rows), about]
    if worth:
        parts.append(f"What facility location reached (mean largest similarity, {sizes[0]:,} rows): {worth}.")
    if near:
        parts.append(f"Of the exact neighbours of 500 of {sizes[1]:,} rows the approximate searches found: {near}.")
    return "\n\n".join(parts)


def active(root: Path) -> str:
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
            f"`{name}`", mean_and_half(curve["accuracy"][-1]), f"{needed['mean']:.0f}{never}",
            "—" if apart else interval(curve["saved"], 1, "+.0f"),
            "—" if apart else interval(curve["over_random"], 100, "+.1f"),
        ])  # fmt: skip
    s, m = made["settings"], made["machine"]
    about = (
        f"Forged pictures: is a patch of another photograph in this crop? Split by photograph; {made['pool']:,} crops "
        f"in the pool, {s['network']}, n = {made['seeds']} seeds, each with photographs of its own held out, 95 % "
        f"intervals (Student's t). All labels give {mean_and_half(made['full'])} %. {m['processor']}, "
        f"torch {m['torch']}."
    )
    head: list[object] = [
        "acquisition", f"% right at {last} labels", f"labels for {wanted} of that of all labels", "labels saved",
        "curve over random, points",
    ]  # fmt: skip
    return table(head, rows) + "\n\n" + about


def csod(root: Path) -> str:
    """Average precision of a small detector by what chose its images, of benchmarks/detection_coreset.py."""
    path = root / "results" / "csod.json"
    if not path.exists():
        return "Nothing has been measured yet."
    made = json.loads(path.read_text(encoding="utf-8"))
    rows: list[list[object]] = [
        [
            row["images"], f"`{row['method']}`", f"{row['boxes']:.0f}", mean_and_half(row["ap50"]),
            mean_and_half(row["ap"]), "—" if row["method"] == "random" else interval(row["over_random"], 100, "+.1f"),
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
    return table(["images", "chosen by", "boxes", "AP50", "AP", "AP50 over random"], rows) + "\n\n" + about
