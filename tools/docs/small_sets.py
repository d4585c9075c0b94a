"""Tables of small training sets: beside all data, trajectory settings on few samples, and proportions of classes."""

import json
from pathlib import Path
from statistics import fmean
from typing import Any

from tools.docs.parts import table

__all__ = ["balance", "lossless", "small_data"]


def _held(root: Path, name: str) -> Any:
    return json.loads((root / "results" / name).read_text(encoding="utf-8"))


def _mean(cell: dict[str, Any]) -> float:
    """Mean accuracy of a cell's sets in per cent, each the mean of its students."""
    return 100 * fmean(fmean(v) if isinstance(v, list) else v for v in cell["values_of_sets"])


def lossless(root: Path) -> str:
    """How far sets of the digits are behind all data, by size (benchmarks/lossless.py)."""
    held = _held(root, "lossless-digits.json")
    cells, options = held["cells"], held["options"]
    rows: list[list[object]] = []
    for size in options["ipc"]:
        for arm in ("datm", "random-soft", "random"):
            if cell := cells.get(f"{arm}|{size}"):
                gap, low, high = (100 * v for v in cell["behind_full"])
                each = " ".join(f"{100 * v:.1f}" for v in cell["values_of_sets"])
                rows.append([size, f"`{arm}`", f"{cell['inputs_and_bytes'][0][1]:,}", f"{_mean(cell):.1f}", each,
                             f"{gap:.1f} [{low:.1f}, {high:.1f}]"])  # fmt: skip
    head: list[object] = ["bytes of … float32 a class", "arm", "bytes", "accuracy, %", "each set", "behind all data"]
    said = (
        f"`digits`, {options['sets']} sets × {options['students']} students of `{options['network']}`, "
        f"{options['updates']} updates; all data: {100 * fmean(held['full']):.1f} %. Soft labels are paid. Intervals: "
        f"95 %. {held['machine']['processor']}, torch {held['machine']['torch']}."
    )
    return f"{table(head, rows)}\n\n{said}"


_SETTINGS = {
    "random|as it is": "real random samples",
    "datm|updates 0": "`datm`, experts of one pass over 1,079 samples an epoch",
    "mtt|updates 0": "`mtt`, the same",
    "datm|updates 80": "`datm`, experts of at least 80 updates an epoch",
    "mtt|updates 80": "`mtt`, the same",
    "datm|updates 80, ahead 1, steps 30": "`datm`, and 30 student steps towards the next epoch",
    "mtt|updates 80, ahead 1, steps 30": "`mtt`, the same",
    "datm|near, adamw 0.03": "`datm`, and AdamW at 0.03 (preset `quick`)",
    "mtt|near, adamw 0.03": "`mtt`, the same (preset `quick`)",
}


def small_data(root: Path) -> str:
    """Settings of trajectory methods on few samples (benchmarks/small_data.py)."""
    held = _held(root, "small-data.json")
    rows: list[list[object]] = []
    for key, name in _SETTINGS.items():
        found = [held["cells"].get(f"{data}|5|{key}") for data in ("digits", "mnist-5k")]
        rows.append([name, *(f"{_mean(cell):.1f}" if cell else "—" for cell in found)])
    said = (
        "Accuracy in percent on a held-out quarter of the training data, five float32 inputs per class, one set of two "
        f"students (`convnet-d3-w32`). {held['machine']['processor']}, torch {held['machine']['torch']}."
    )
    return f"{table(['settings', 'digits', 'mnist-5k'], rows)}\n\n{said}"


def balance(root: Path) -> str:
    """Natural and equal proportions of classes in small tables (benchmarks/balance.py)."""
    held = _held(root, "balance.json")
    rows: list[list[object]] = [
        [r["data"], f"`{r['method']}`" if r["method"] != "sample" else "`frame.sample`", r["balance"],
         *(f"{100 * r[k][0]:.1f} ± {100 * r[k][1]:.1f}" for k in ("forest", "mlp"))]
        for r in held["rows"]
    ]  # fmt: skip
    draws = max(r["draws"] for r in held["rows"])
    said = (
        f"Accuracy in percent of a forest and a small network on {held['kept']} rows, mean ± standard deviation over "
        f"{draws} draws. {held['machine']['processor']}, torch {held['machine']['torch']}."
    )
    return f"{table(['data', 'rows by', 'classes', 'forest', 'mlp'], rows)}\n\n{said}"
