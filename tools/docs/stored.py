"""Tables of what storing in few bits loses."""

import json
from pathlib import Path
from typing import Any

from potstill.evaluation.statistics import paired_difference, summary
from tools.docs.parts import interval, mean_and_half, table

__all__ = ["each_store", "real_codecs", "store_loss", "table_codecs"]


def store_loss(root: Path) -> str:
    """What ``--codec auto`` loses against float32, by parametrization, and for soft labels."""
    path = root / "results" / "store_loss.json"
    found = json.loads(path.read_text(encoding="utf-8"))["rows"] if path.exists() else {}
    if not found:
        return "Nothing has been measured yet."
    rows: list[list[object]] = [
        [
            f"`{name}`", row["n"], mean_and_half(row["float32"]), mean_and_half(row["stored"]),
            interval(row["loss"], 100, "+.2f"), ", ".join(row["stores"]), f"{row['bytes']:,}",
            f"1/{1 / row['ratio']:.1f}",
        ]
        for name, row in found.items()
    ]  # fmt: skip
    head: list[object] = [
        "what is stored", "sets", "float32, %", "`--codec auto`, %", "float32 − auto, points", "chosen", "bytes",
        "of float32",
    ]  # fmt: skip
    return table(head, rows)


def each_store(root: Path) -> str:
    """What each store loses against float32 (benchmarks/stores.py), after the fact and while the set is made."""
    path = root / "results" / "stores.json"
    found = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    if not found:
        return "Nothing has been measured yet."
    rows: list[list[object]] = [
        [
            f"`{name}`", f"{row['bytes']:,}", f"{row['coded']:,}", mean_and_half(row["accuracy"]),
            "" if name == "float32" else interval(row["loss"], 100, "+.1f"),
            "—" if row["error"] is None else f"{row['error'] ** 0.5:.3f}",
        ]
        for name, row in found["rows"].items()
    ]  # fmt: skip
    method, student, settings = found["method"], found["student"], found["settings"]
    sets = max(row["accuracy"]["n"] for row in found["rows"].values())
    said = (
        f"`{method['name']}` over pixels on {found['data']}, {method['ipc']} per class, {settings['steps']} steps with "
        f"`{method['network']}`; {sets} sets, {settings['students']} students each ({student['updates']} updates). "
        "Accuracy is on test pictures; the loss is float32 less this store, in points, paired by set. Both have 95 % "
        "intervals of Student's t over sets, which are wide where there are few. The error is the root of the mean "
        "square, of a pixel from 0 to 1; sets that were made for their bits are sets of their own and have none."
    )
    head: list[object] = ["store", "packed bytes", "by LZMA", "accuracy, %", "loss, points", "error"]
    return f"{table(head, rows)}\n\n{said}"


def real_codecs(root: Path) -> str:
    """Accuracy of random real samples by codec at equal bytes (benchmarks/real_codecs.py)."""
    found = [json.loads(path.read_text(encoding="utf-8")) for path in sorted((root / "results/real_codecs").glob("*"))]
    if not found:
        return "Nothing has been measured yet."
    codecs = list(dict.fromkeys(codec for data in found for codec in data["codecs"]))
    rows: list[list[object]] = [
        [f"`{codec}`", *(_real_codec(data["codecs"].get(codec)) for data in found)] for codec in codecs
    ]
    sets = max(len(cell["accuracy"]) for data in found for cell in data["codecs"].values())
    said = (
        f"Test accuracy in percent of `{found[0]['network']}` ({found[0]['updates']} updates) on random real samples, "
        f"and how many of them the bytes hold: {sets} sets, one student each, ± half of a 95 % interval of Student's t "
        "over sets. Nothing was chosen. "
        f"{found[0]['machine']['processor']}, torch {found[0]['machine']['torch']}. `benchmarks/real_codecs.py`"
    )
    head: list[object] = ["codec", *(f"{data['data']}, {data['bytes']:,} bytes" for data in found)]
    return f"{table(head, rows)}\n\n{said}"


def _real_codec(cell: dict[str, Any] | None) -> str:
    if cell is None:
        return "—"
    found = summary(cell["accuracy"])
    low, high = found["ci95"]
    return f"{100 * found['mean']:.1f} ± {50 * (high - low):.1f} ({cell['items']:,})"


def table_codecs(root: Path) -> str:
    """Accuracy of real rows of tables in typed columns, beside floats and equal steps (benchmarks/table_codecs.py)."""
    found = [json.loads(path.read_text(encoding="utf-8")) for path in sorted((root / "results/table_codecs").glob("*"))]
    rows: list[list[object]] = []
    gaps: list[dict[str, Any]] = []
    for data in found:
        for key, cell in data["cells"].items():
            size, learner = key.split("|")
            if "plain" not in cell or "typed" not in cell:
                continue
            plain, typed = cell["plain"], cell["typed"]
            gaps.append(paired_difference(typed["accuracy"], plain["accuracy"]))
            sides = [f"`{s['codec']}`, {s['items']:,}: {_share(s['accuracy'])}" for s in (plain, typed)]
            rows.append([data["data"], f"{int(size) // 1000} kB", learner, *sides, _points(gaps[-1])])
    if not rows:
        return "Nothing has been measured yet."
    known = [gap["ci95"] for gap in gaps if gap["ci95"] is not None]
    said = (
        f"Of {len(rows)} rows, typed columns are shown to be better in {sum(low > 0 for low, _ in known)} and worse in "
        f"{sum(high < 0 for _, high in known)}. Codec, rows that fit, and test accuracy in percent of random rows in "
        "natural proportions: five draws, ± half of a 95 % interval of Student's t over them; the difference is "
        "paired by draw. Without an interval every draw is all rows. Codecs are chosen on a fifth of training rows. "
        f"{found[0]['machine']['processor']}, torch {found[0]['machine']['torch']}. `benchmarks/table_codecs.py`"
    )
    head: list[object] = ["table", "bytes", "learner", "`exact`, `float16`, `uint`", "`columns`", "difference, points"]
    return f"{table(head, rows)}\n\n{said}"


def _share(values: list[float]) -> str:
    found = summary(values)
    half = "" if found["ci95"] is None else f" ± {50 * (found['ci95'][1] - found['ci95'][0]):.1f}"
    return f"{100 * found['mean']:.1f}{half}"


def _points(gap: dict[str, Any]) -> str:
    between = "" if gap["ci95"] is None else f" [{100 * gap['ci95'][0]:+.1f}, {100 * gap['ci95'][1]:+.1f}]"
    return f"{100 * gap['mean']:+.1f}{between}"
