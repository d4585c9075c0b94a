"""Tables of labels and of the decoupled family."""

import json
from pathlib import Path
from typing import Any

from potstill.cli.scaled import worth_cells
from potstill.cli.tables.parts import interval, mean_and_half, table
from potstill.cli.text import plural
from potstill.evaluation.statistics import difference

__all__ = ["decoupled", "imagenet", "knowledge", "stored_labels", "stored_labels_cost", "streaming"]


def knowledge(root: Path) -> str:
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
            rows.append([row["ipc"], *map(mean_and_half, cells), cells[0]["n"], row["stop"], value, interval])
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
        parts.append(f"{table(head, rows)}\n\n{about}")
    if not parts:
        return "Nothing has been measured yet."
    machine = json.loads((folder / "machine.json").read_text(encoding="utf-8"))
    return "\n\n".join([*parts, f"{machine['processor']}, one thread, torch {machine['torch']}."])


_REAL = ("random", "herding", "k-means")


def decoupled(root: Path) -> str:
    """Every decoupled method beside random samples with the same labels, of benchmarks/decoupled.py."""
    made = [json.loads(p.read_text(encoding="utf-8")) for p in sorted((root / "results" / "decoupled").glob("*.json"))]
    if not made:
        return "Nothing has been measured yet."
    names = dict.fromkeys(row["data"] for row in made)
    return "\n\n".join(_beside_random([r for r in made if r["data"] == name]) for name in names)


def _beside_random(made: list[dict[str, Any]]) -> str:
    base = next((r for r in made if r["method"] == "random"), None)
    rows: list[list[object]] = []
    better: list[str] = []
    for row in sorted(made, key=lambda r: -float(r["accuracy"]["mean"])):
        gap = "—"
        if base is not None and row is not base:
            told = difference(row["accuracy"]["values"], base["accuracy"]["values"])
            gap = interval(told, 100, "+.1f")
            if told["ci95"][0] > 0 and row["method"] not in _REAL:
                better.append(f"`{row['method']}`")
        of_sets = " / ".join(f"{100 * sum(v) / len(v):.1f}" for v in row["values_of_sets"])
        rows.append([
            f"`{row['method']}`", mean_and_half(row["accuracy"]), gap, of_sets, row["inputs"],
            f"{row['bytes']['total']:,}", row["steps"], f"{row['core_seconds']:,.0f}",
        ])  # fmt: skip
    head: list[object] = [
        "method", "accuracy, %", "minus `random`", "of each set", "inputs", "bytes", "steps", "core seconds a set"
    ]  # fmt: skip
    s, m = made[0]["settings"], made[0]["machine"]
    about = (
        f"`{made[0]['data']}`, {s['ipc']} per class; teachers {s['network']}; students {s['student']}, protocol "
        f"`potstill` with {s['steps']} steps at rate {s['lr']:g} and one teacher's labels of every augmented batch (KL "
        f"at temperature {s['temperature']:g}). n = {s['students']} students on each of {s['sets']} sets; difference: "
        f"Welch's 95 % interval over students. {m['processor']}, one thread, torch {m['torch']}."
    )
    parts = [table(head, rows), about]
    if base is not None:
        known = len({r["method"].partition(":")[0] for r in made} - set(_REAL))
        some = f": {', '.join(better)}" if better else ""
        parts.append(f"**Above random samples with the same labels: {len(better)} of {known} methods**{some}.")
    return "\n\n".join(parts)


def imagenet(root: Path) -> str:
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
    return table(head, rows) + (
        f"\n\nAn extrapolation, not a measurement: decoding by the {1000 * photo['seconds']:.1f} ms of a core that a "
        f"photograph of 500 × 375 pixels took here, with {model['cores_assumed']} cores for each GPU; networks by the "
        f"operations of ResNet-18 at {model['gpu_flops_assumed'] / 1e12:.0f} TFLOP/s, which is assumed; the two "
        "overlap, so the larger counts. Eight GPUs split classes or batches, and nothing is lost in that."
    )


def streaming(root: Path) -> str:
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
    return table(head, rows) + (
        f"\n\n{made['classes']:,} classes of JPEG files of {made['side']} × {made['side']} pixels, {made['ipc']} per "
        f"class kept, teacher `{made['network']}` trained for one epoch over the stream (or kept from the run before, "
        "which reads nothing); one thread. The bare loop reads and decodes with Pillow (shards with `tarfile`); the "
        f"pass gives normalised batches; medians and range over turns. {made['machine']['processor']}."
    )


_KINDS = {"hard": "classes, mixed by area", "static": "one row of the teacher for each picture, mixed by area"}


def stored_labels(root: Path) -> str:
    """Accuracy of students beside the bytes of the labels that they learn, of benchmarks/labels.py."""
    path = root / "results" / "labels.json"
    if not path.exists():
        return "Nothing has been measured yet."
    made = json.loads(path.read_text(encoding="utf-8"))
    part, m = made["accuracy"], made["machine"]
    s = part["settings"]
    rows: list[list[object]] = []
    for cell in part["cells"]:
        what = _KINDS.get(cell["labels"])
        if what is None:
            likeliest = "the likeliest class" if cell["top_k"] == 1 else f"the {cell['top_k']} likeliest classes"
            what = f"stored: {likeliest}, `{cell['dtype']}`, {plural(cell['pool'], 'epoch')}"
        gap = interval(cell["less_than_all"], 100, "+.1f") if cell is not part["cells"][0] else "—"
        rows.append([what, f"{cell['bytes']:,}", mean_and_half(cell["accuracy"]), gap])
    exact = all(c["as_forecast"] for c in part["cells"] if c["labels"] == "stored")
    about = (
        f"`{s['data']}`, {s['ipc']} random real samples per class; students {s['network']}, {s['epochs']} epochs; one "
        f"teacher ({100 * part['teacher']:.1f} % after {plural(s['teacher_epochs'], 'epoch')}) labels crops with "
        f"CutMix; KL at temperature {s['temperature']:g}. n = {s['sets']} sets with one student each, paired by set; "
        f"95 % intervals of Student's t. The published layout would take {part['published_bytes']:,} bytes."
        + (" All files had the bytes of their forecast." if exact else "")
        + f" {m['processor']}, one thread, torch {m['torch']}."
    )
    head: list[object] = ["labels", "bytes", "accuracy, %", "minus all in 16 bits, points"]
    return f"{table(head, rows)}\n\n{about}"


def stored_labels_cost(root: Path) -> str:
    """Forecasts, and what reading and writing cost, of benchmarks/labels.py."""
    path = root / "results" / "labels.json"
    if not path.exists():
        return "Nothing has been measured yet."
    made = json.loads(path.read_text(encoding="utf-8"))
    sizes: list[list[object]] = [
        [r["top_k"], f"`{r['dtype']}`", r["pool"], f"{r['bytes'] / 2**30:.2f}", f"{r['smaller']:,.0f}×"]
        for r in made["imagenet"]["rows"]
    ]
    reading: list[list[object]] = [
        [
            f"`{r['network']}`", f"{r['classes']:,}", f"{r['top_k']:,}", f"{r['ms']['labels']:.2f}",
            f"{r['ms']['views']:.1f}", f"{r['ms']['step']:.0f}", f"{100 * r['share']:.1f} %",
        ]
        for r in made["reading"]
    ]  # fmt: skip
    writing: list[list[object]] = [
        [
            f"`{r['network']}`", f"{r['classes']:,}", f"{r['top_k']:,}",
            *(f"{r['per_second'][k]:,.0f}" for k in ("teacher", "teacher and views", "written")),
        ]
        for r in made["writing"]
    ]  # fmt: skip
    published = made["imagenet"]["published_bytes"] / 2**30
    return "\n\n".join([
        table(["classes kept", "bits", "epochs stored", "GiB", f"smaller than {published:.1f} GiB"], sizes),
        "ImageNet-1K, 50 pictures per class, 300 epochs: forecasts beside the published folder of all classes.",
        table(["student", "classes", "kept", "labels, ms", "views, ms", "step, ms", "labels' share"], reading),
        f"A batch of {made['reading'][0]['batch']}: its labels read and decoded, its views made, one step of training; "
        f"medians of n = {made['reading'][0]['n']} of a core's own time, interleaved.",
        table(["teacher", "classes", "kept", "teacher alone, labels/s", "with views", "with writing"], writing),
        f"Labels a second of a core, medians of n = {made['writing'][0]['n']}. {made['machine']['processor']}, one "
        f"thread, torch {made['machine']['torch']}.",
    ])  # fmt: skip
