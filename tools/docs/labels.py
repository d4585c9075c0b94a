"""Tables of labels and of the decoupled family."""

import json
from pathlib import Path
from typing import Any

from potstill.cli.commands.scaling import worth_cells
from potstill.cli.text import plural
from potstill.evaluation.statistics import difference, summary
from tools.docs.parts import interval, mean_and_half, table

__all__ = [
    "committees", "imagenet", "knowledge", "label_classes", "labellers", "stored_labels", "stored_labels_cost",
    "streaming",
]  # fmt: skip


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


_REAL = ("random", "random-tiles", "k-means")
_SHORT = {
    "own": "own", "two of batch": "own", "batch and instance": "own", "other batch": "another BatchNorm",
    "instance": "InstanceNorm",
}  # fmt: skip
_COLUMNS = (
    ("own", "batch"), ("own", "instance"), ("other batch", "batch"), ("other batch", "instance"),
    ("instance", "batch"), ("instance", "instance"),
)  # fmt: skip


def labellers(root: Path) -> str:
    """Labeller × student for every decoupled method, of benchmarks/labellers.py."""
    made = _measured(root)
    return "\n\n".join(_matrix(one) for one in made) if made else "Nothing has been measured yet."


def committees(root: Path) -> str:
    """The same of pictures that were made for a committee of two normalisations."""
    made = [one for one in _measured(root) if any(" of batch and instance" in name for name in one["rows"])]
    return "\n\n".join(_committee(one) for one in made) if made else "Nothing has been measured yet."


def _measured(root: Path) -> list[dict[str, Any]]:
    paths = (root / "results").glob("labellers-*.json")
    made = [json.loads(p.read_text(encoding="utf-8")) for p in paths]
    return sorted(made, key=lambda one: (one["ipc"], one["data"] != "photo-patches"))


def _means(row: dict[str, Any], labeller: str, student: str) -> list[float] | None:
    """The mean of each set's students."""
    cell = row["cells"].get(f"{labeller} → {student}")
    return None if cell is None else [sum(v) / len(v) for v in cell["values_of_sets"]]


def _own(row: dict[str, Any], student: str = "batch") -> str:
    """The labeller that made a row's pictures; of real samples: one BatchNorm network."""
    found = (name for name in ("own", "two of batch", "batch and instance") if f"{name} → {student}" in row["cells"])
    return next(found, "own")


def _labeller(row: dict[str, Any], column: str) -> str:
    return _own(row) if column == "own" else column


def _beside(made: dict[str, Any], row: dict[str, Any], real: str, labeller: str, student: str) -> Any:
    """A row minus real samples under the same labels, by set; ``None`` where one of them was not measured."""
    mine = _means(row, labeller, student)
    theirs = _means(made["rows"][real], labeller, student) if real in made["rows"] else None
    return None if mine is None or theirs is None else difference(mine, theirs, made["test"])


def _half(made: dict[str, Any], values: list[float] | None) -> str:
    return "" if values is None else mean_and_half(summary(values, made["test"]))


def _gap(told: Any) -> str:
    return "" if told is None else interval(told, 100, "+.1f")


def _sign(told: Any) -> int:
    if told is None or told["ci95"] is None:
        return 0
    return int(told["ci95"][0] > 0) - int(told["ci95"][1] < 0)


def _ranked(made: dict[str, Any]) -> dict[str, dict[str, Any]]:
    rows = {n: r for n, r in made["rows"].items() if " of batch and instance" not in n and _means(r, _own(r), "batch")}
    return dict(sorted(rows.items(), key=lambda kv: -sum(_means(kv[1], _own(kv[1]), "batch") or [0.0])))


def _title(labeller: str, student: str) -> str:
    return f"{_SHORT[labeller]} → {'BatchNorm' if student == 'batch' else 'InstanceNorm'}"


def _matrix(made: dict[str, Any]) -> str:
    kept = _ranked(made)
    columns = [
        c for c in _COLUMNS if any(_means(r, _labeller(r, c[0]), c[1]) for n, r in kept.items() if n not in _REAL)
    ]
    rows: list[list[object]] = []
    for name, row in kept.items():
        cells = [_half(made, _means(row, _labeller(row, one), student)) for one, student in columns]
        gaps = ["", ""]
        if name not in _REAL:
            gaps = [_gap(_beside(made, row, real, _own(row), "batch")) for real in ("random", "random-tiles")]
        agreed = [row["agreement"].get(_labeller(row, one)) for one in ("own", "other batch", "instance")]
        reads = " / ".join("–" if a is None else f"{100 * sum(a) / len(a):.0f}" for a in agreed)
        rows.append([f"`{name}`", *cells, *gaps, reads])
    titles = [_title(one, student) for one, student in columns]
    head: list[object] = [
        "set", *titles, "own → BatchNorm, minus `random`", "minus `random-tiles`",
        "read by own / other / InstanceNorm, %",
    ]  # fmt: skip
    return f"{table(head, rows)}\n\n{_about(made)}\n\n{_verdict(made, kept, columns)}"


def _about(made: dict[str, Any]) -> str:
    s, m, known = made["settings"], made["machine"], made["labellers"]
    parts = {"own": "the teacher", "other batch": "the other", "instance": "InstanceNorm"}
    worth = ", ".join(f"{what} {100 * known[n]['accuracy']:.1f}" for n, what in parts.items() if n in known)
    return (
        f"`{made['data']}`, {made['ipc']} per class: accuracy in percent, labeller → student. Networks "
        f"{', '.join(s['networks'])} (accuracy: {worth} %); the third is in the committees of `cv-dd`, `edc`, `g-vbsm` "
        f"and `ufc`. At most {s['iterations']} iterations of a batch. Students: {s['steps']} steps at rate "
        f"{s['lr']:g}, KL at temperature {s['temperature']:g}. n = {s['sets']} sets with "
        f"{plural(s['students'], 'student')} each; 95 % intervals over sets and test samples (of a difference as if "
        f"each had its own), one training of each labeller. {m['processor']}, one thread, torch {m['torch']}."
    )


def _verdict(made: dict[str, Any], kept: dict[str, Any], columns: list[tuple[str, str]]) -> str:
    """What can be told apart, counted."""
    methods = [n for n in kept if n not in _REAL and ":" not in n]  # settings of a method are rows, and do not count
    lines = []
    for one, student in columns:
        told = {
            real: {n: _sign(_beside(made, kept[n], real, _labeller(kept[n], one), student)) for n in methods}
            for real in ("random", "random-tiles")
        }
        known = sum(_means(kept[n], _labeller(kept[n], one), student) is not None for n in methods)
        said = [f"{_title(one, student)} ({plural(known, 'method')})"]
        for real, signs in told.items():
            up = [f"`{n}`" for n, sign in signs.items() if sign > 0]
            down = sum(sign < 0 for sign in signs.values())
            said.append(f"above `{real}` {len(up)}" + (f" ({', '.join(up)})" if up else "") + f", below {down}")
        lines.append(f"- {said[0]}: {said[1]}; {said[2]}.")
    head = (
        "**Told apart from real samples with the same labels** (interval without zero; each at 95 %, none corrected):"
    )
    return "\n".join([head, "", *lines])


def _committee(made: dict[str, Any]) -> str:
    pairs = [
        ("own", "batch"), ("own", "instance"), ("other batch", "batch"), ("instance", "instance"),
        ("other instance", "instance"),
    ]  # fmt: skip
    mixed = [n for n in made["rows"] if " of batch and instance" in n]
    names = [n for name in mixed for n in (name.removesuffix(" of batch and instance"), name)]
    rows: list[list[object]] = []
    for name in [*names, "random", "random-tiles"]:
        for own in ("two of batch", "own", "batch and instance") if name in _REAL else (None,):
            row = made["rows"][name]
            first = _own(row) if own is None else own
            if _means(row, first, "batch") is None:
                continue
            told = [_half(made, _means(row, first if one == "own" else one, student)) for one, student in pairs]
            by = {"own": "BatchNorm", "two of batch": "two of BatchNorm", "batch and instance": "both"}[first]
            rows.append([f"`{name}`" if name not in mixed else f"`{names[names.index(name) - 1]}`", by, *told])
    head: list[object] = [
        "set", "own: made for and labelled by", "own → BatchNorm", "own → InstanceNorm",
        "another BatchNorm → BatchNorm",
        "InstanceNorm → InstanceNorm", "another InstanceNorm → InstanceNorm",
    ]  # fmt: skip
    about = (
        f"`{made['data']}`, {made['ipc']} per class; as above, n = {made['settings']['sets']} sets. Of pictures that "
        "were made for both, the InstanceNorm network of the last column but one is one of the two."
    )
    return f"{table(head, rows)}\n\n{about}"


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


_PUBLISHED_TEMPERATURE = 20.0
"""At which SRe2L's recipe for ImageNet trains."""


def _classes(root: Path) -> dict[str, Any]:
    """What benchmarks/label_classes.py has measured, if anything."""
    path = root / "results" / "label_classes.json"
    made: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return made


def _little(mass: dict[tuple[float, int], dict[str, Any]]) -> str:
    found = mass.get((_PUBLISHED_TEMPERATURE, 10))
    if found is None:
        return ""
    return (
        f"The probability kept is that of another teacher of a thousand classes (below): at T = 20 its ten likeliest "
        f"have {100 * found['mass']:.1f} % (1 % would be even), and of what sets a row apart from an even one "
        f"{100 * found['lost']:.0f} % is lost."
    )


def label_classes(root: Path) -> str:
    """A thousand classes: what is kept of a row, and accuracy beside bytes, of benchmarks/label_classes.py."""
    made = _classes(root)
    if "mass" not in made:
        return "Nothing has been measured yet."
    s, m = made["settings"], made["machine"]
    temperatures = sorted({r["temperature"] for r in made["mass"]})
    by = {(r["temperature"], _of(r)): r for r in made["mass"]}
    kept: list[list[object]] = [
        [name, *(f"{100 * by[t, name]['mass']:.1f} / {100 * by[t, name]['lost']:.1f}" for t in temperatures)]
        for name in dict.fromkeys(map(_of, sorted(made["mass"], key=lambda r: r.get("top_k", 10**6))))
    ]
    head: list[object] = ["stored", *(f"T = {t:g}: kept / lost, %" for t in temperatures)]
    cells = [c for c in made["cells"].values() if c["sets"]]
    order = {"asked": 0, "teacher": 1, "stored": 2, "static": 3, "hard": 4}
    rows: list[list[object]] = []

    def place(cell: dict[str, Any]) -> tuple[float, ...]:
        t = 4.0 if cell["labels"] == "hard" else cell["temperature"]
        return (t != 4.0, t, order[cell["labels"]], -cell["bytes"])

    for cell in sorted(cells, key=place):
        own = cell["labels"] == "asked"
        t = "" if cell["labels"] == "hard" else f"{cell['temperature']:g}"
        size = f"{cell['bytes']:,}"
        gaps = [
            "—" if gap is None else interval(gap, 100, "+.1f")
            for gap in (None if own else cell["minus_asked"], None if t == "4" and own else cell["minus_asked_at_4"])
        ]
        n = cell["accuracy"]["n"]
        rows.append([_what(cell, made["classes"]), t, size, mean_and_half(cell["accuracy"]), n, *gaps])
    same = " and ".join(
        f"{100 * r['same_class']:.1f} % (in {r['teacher_bits']} bits)"
        for r in made["mass"] if "teacher_bits" in r and r["temperature"] == temperatures[0]
    )  # fmt: skip
    exact = all(c["as_forecast"] for c in cells)
    rates = ", ".join(f"{float(r):g}: {100 * a:.1f} %" for r, a in made.get("rates", {}).items())
    data = (
        f"{made['classes']:,} characters in twelve typefaces, 16 × 16 pixels, {made['samples']:,} to train on and "
        f"{made['tested']:,} to test on; the teacher, {s['network']}, has {100 * made['teacher']:.1f} % after "
        f"{plural(s['teacher_epochs'], 'epoch')}."
    )
    first = (
        f"Rows of a teacher of {made['classes']:,} classes for {made['mass'][0]['labels']:,} crops with CutMix: the "
        "probability that the likeliest classes have together, and how much of what sets the row apart from an even "
        "one is lost when the others share the rest, Σ|p − p̂| / Σ|p − 1/K|. The rounded teachers name the same class "
        f"as the teacher for {same} of them."
    )
    where = f"{m['processor']}, one thread, torch {m['torch']}."
    if not rows:
        return "\n\n".join([table(head, kept), f"{first} {data} {where}", "**Students: not measured yet.**"])
    said = (
        f"{data} {plural(s['ipc'], 'random real picture')} per class; students {s['network']}, "
        f"{plural(s['epochs'], 'epoch')} at rate {s['lr']:g} (chosen on training pictures that they did not see: "
        f"{rates}). One student on each of n sets, paired by set; 95 % intervals of Student's t."
        + (" All files had the bytes of their forecast." if exact else "")
    )
    columns: list[object] = [
        "labels", "T", "bytes", "accuracy, %", "n", "minus the teacher asked, points",
        "minus the teacher asked at T = 4",
    ]  # fmt: skip
    return "\n\n".join([table(head, kept), first, table(columns, rows), f"{said} {where}"])


def _of(row: dict[str, Any]) -> str:
    """What a row of the first table is of."""
    if "teacher_bits" in row:
        return f"the teacher in {row['teacher_bits']} bits"
    return "the likeliest class" if row["top_k"] == 1 else f"the {row['top_k']} likeliest"


_BITS = {"float16": 16, "uint8": 8, "uint4": 4}


def _what(cell: dict[str, Any], classes: int) -> str:
    if cell["labels"] == "asked":
        return "the teacher, 32 bits, asked as students train"
    if cell["labels"] == "teacher":
        return f"the teacher in a file, {_BITS[cell['dtype']]} bits"
    if cell["labels"] == "stored":
        k = "all" if cell["top_k"] == classes else f"{cell['top_k']:,}" if cell["top_k"] > 1 else "the likeliest"
        return f"rows: {k} of {classes:,} classes, {_BITS[cell['dtype']]} bits, {plural(cell['pool'], 'epoch')}"
    return _KINDS[cell["labels"]]


def stored_labels_cost(root: Path) -> str:
    """Forecasts, and what reading and writing cost, of benchmarks/labels.py."""
    path = root / "results" / "labels.json"
    if not path.exists():
        return "Nothing has been measured yet."
    made = json.loads(path.read_text(encoding="utf-8"))
    mass = {(m["temperature"], m["top_k"]): m for m in _classes(root).get("mass", []) if "top_k" in m}
    sizes: list[list[object]] = []
    for r in made["imagenet"]["rows"]:
        share = mass.get((_PUBLISHED_TEMPERATURE, r.get("top_k")))
        what = f"the teacher, {r['teacher']}" if "teacher" in r else f"{r['top_k']:,} of 1,000 classes"
        sizes.append([
            what, f"`{r['dtype']}`", r.get("pool", "any"), f"{r['bytes'] / 2**20:,.1f}", f"{r['smaller']:,.0f}×",
            "all" if r.get("top_k", 1000) == 1000 else "" if share is None else f"{100 * share['mass']:.1f} %",
            "size, accuracy unknown",
        ])  # fmt: skip
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
    published, m = made["imagenet"]["published_bytes"] / 2**30, made.get("writing_machine", made["machine"])
    return "\n\n".join([
        table(
            [
                "stored", "bits", "epochs", "MiB", f"smaller than {published:.1f} GiB",
                f"probability kept at T = {_PUBLISHED_TEMPERATURE:g}", "accuracy",
            ],
            sizes,
        ),
        "ImageNet-1K, 50 pictures per class, 300 epochs: **sizes by forecast, accuracy unknown**, beside the published "
        "folder of all classes. " + _little(mass),
        table(["student", "classes", "kept", "labels, ms", "views, ms", "step, ms", "labels' share"], reading),
        f"A batch of {made['reading'][0]['batch']}: its labels read and decoded, its views made, one step of training; "
        f"medians of n = {made['reading'][0]['n']} of a core's own time, interleaved.",
        table(["teacher", "classes", "kept", "teacher alone, labels/s", "with views", "with writing"], writing),
        f"Labels a second of a core, medians of n = {made['writing'][0]['n']}. {m['processor']}, one thread, torch "
        f"{m['torch']}.",
    ])  # fmt: skip
