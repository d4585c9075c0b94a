"""Pre-training on small sets of vectors, and selection for a target: benchmarks/representations.py and
benchmarks/target_selection.py."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from potstill.reports.continual import percent, points
from tools.docs.parts import table

__all__ = ["representations", "representations_parts", "target_selection"]

_WAYS = {
    "none": "nothing", "this set": "learned pictures and vectors (`krr-st`)", "random": "random real pictures",
    "k-means": "real pictures nearest to k-means centres", "all data": "all real pictures",
    "teacher": "(the teacher's vectors)", "untrained": "(vectors of an untrained network)",
}  # fmt: skip


def representations(root: Path) -> str:
    """A row for each way and pair of data, and how it was measured."""
    path = root / "results" / "representations.json"
    if not path.exists():
        return "Nothing has been measured yet."
    held = json.loads(path.read_text(encoding="utf-8"))
    rows: list[list[object]] = []
    for name, pair in held["pairs"].items():
        for way, row in pair["rows"].items():
            gap = pair["differences"].get(way, {})
            rows.append([
                name, _WAYS[way], *(f"{row[n]:,}" if row[n] else "" for n in ("items", "bytes")),
                _cell(row, gap, "accuracy"), _cell(row, gap, "probe"),
            ])  # fmt: skip
    head = [
        "data, then data of the labels",
        "learned first",
        "pictures",
        "bytes",
        "fine-tuned",
        "ridge on its features",
    ]
    text = (
        f"Accuracy in percent with {held['labels']} labels for each class, on {held['test_samples']:,} test samples; "
        f"in brackets the set minus that row, with 95% intervals. n = {held['seeds']}: each repeat has another set, "
        f"other labels, another network and other real pictures. Pictures of {held['side']} × {held['side']}; "
        f"{held['items']} of the set; {held['steps']} updates of pre-training and {held['tuning_steps']} of "
        f"fine-tuning, convnet-w32. Teacher: `{held['teacher']}`. {held['machine']['processor']}, one thread. "
        "`benchmarks/representations.py`"
    )
    return "\n\n".join([table(head, rows), text])


def representations_parts(root: Path) -> str:
    """A row for each way and pair of data, with a part of each class labelled, and how it was measured."""
    path = root / "results" / "representations_parts.json"
    if not path.exists():
        return "Nothing has been measured yet."
    held = json.loads(path.read_text(encoding="utf-8"))
    amounts = held["labels"].split(",")
    sources = list(dict.fromkeys(name.rpartition(", ")[0] for name in held["pairs"]))
    rows: list[list[object]] = []
    for name in sources:
        pairs = [held["pairs"][f"{name}, {amount}"] for amount in amounts]
        for way, row in pairs[0]["rows"].items():
            cells = [
                _cell(pair["rows"][way], pair["differences"].get(way, {}), kind)
                for pair in pairs
                for kind in ("accuracy", "probe")
            ]
            rows.append([name, _WAYS[way], f"{row['bytes']:,}" if row["bytes"] else "", *cells])
    head: list[object] = ["data, then data of the labels", "learned first", "bytes"]
    head += [f"{amount}, {kind}" for amount in amounts for kind in ("fine-tuned", "ridge")]
    counts = "; ".join(
        f"{name}: {' and '.join(str(held['pairs'][f'{name}, {amount}']['labelled']) for amount in amounts)}"
        for name in sources
    )
    text = (
        f"Labels in all: {counts}. n = {held['seeds']}; all else as above. {held['machine']['processor']}, one thread. "
        f"`benchmarks/representations.py --labels {held['labels']}`"
    )
    return "\n\n".join([table(head, rows), text])


def _cell(row: Mapping[str, Any], gap: Mapping[str, Any], kind: str) -> str:
    if kind not in row:
        return ""
    mean = f"{100 * row[kind]['mean']:.1f}"
    return f"{mean} ({points(gap[kind])})" if kind in gap else mean


def target_selection(root: Path) -> str:
    """A row for each way, and how it was measured."""
    path = root / "results" / "target_selection.json"
    if not path.exists():
        return "Nothing has been measured yet."
    held = json.loads(path.read_text(encoding="utf-8"))
    rows: list[list[object]] = []
    for case, found in held["cases"].items():
        for row, value in found.items():
            size, _, way = row.partition(" ")
            gap = value.get("less minus it")
            rows.append([
                case, size, way.replace("less", "`less`"), percent(value["accuracy"]), f"{100 * value['right']:.0f}",
                "" if gap is None else points(gap),
            ])  # fmt: skip
    head = ["corpus", "texts", "chosen", "accuracy", "right label and wanted, %", "`less` minus it"]
    text = (
        f"Descriptions of Debian packages as 64 numbers: {held['corpus']:,} of twelve sections; the target are "
        f"{held['target']} texts of three sections, and the test part {held['test']:,} others of these. Every row has "
        f"the target texts in training, too. Means over {held['repeats']} repeats, each with other sections and texts, "
        f"of {held['students']} MLPs each, with 95% intervals; differences are paired. `less` takes the groups in turn "
        "(preset `quick`). `benchmarks/target_selection.py`"
    )
    return "\n\n".join([table(head, rows), text])
