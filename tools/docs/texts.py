"""Sets of texts beside real ones: benchmarks/text.py."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tools.docs.parts import interval, table

__all__ = ["text_encoder", "text_short", "text_winners", "texts"]

_READS = {
    "krr-ntk": "vectors", "linear-model": "vectors", "mlp": "vectors", "tfidf": "texts", "text-cnn": "texts",
}  # fmt: skip


def texts(root: Path) -> str:
    """A table for each number of texts per class, a row for each way to make a set."""
    path = root / "results" / "text.json"
    if not path.exists():
        return "Nothing has been measured yet."
    held = json.loads(path.read_text(encoding="utf-8"))
    blocks = [_block(part, held["full"], f"{part['ipc']} per class") for part in held["parts"]]
    s = held["settings"]
    said = (
        f"{held['train']:,} training and {held['test']:,} test descriptions of Debian packages in "
        f"{len(held['classes'])} sections. Accuracy in percent: means of {s['seeds']} sets with 95 % intervals "
        f"(Student's t); of `mlp` and `text-cnn` each is the mean of {s['students']} students. Bytes are of texts or "
        f"vectors and labels, without the encoder. {held['machine']['processor']}, one thread, torch "
        f"{held['machine']['torch']}. `benchmarks/text.py`"
    )
    return "\n\n".join([*blocks, said])


def text_short(root: Path) -> str:
    """Return a table with another learner of texts, and one of vectors of another representation."""
    path = root / "results" / "text_short.json"
    if not path.exists():
        return "Nothing has been measured yet."
    held = json.loads(path.read_text(encoding="utf-8"))
    blocks = [
        _block(part, part["full"], f"{part['ipc']} per class, vectors of `{part['representation']}`")
        for part in held["parts"]
    ]
    encoders = " and ".join(f"{part['encoder']:,}" for part in held["parts"])
    s = held["settings"]
    said = (
        f"The same data, part of the rows, measured again. Means of {s['seeds']} sets, 95 % intervals. Of `mlp` and "
        f"`text-cnn` each is the mean of {s['students']} students; of all data, one student. The encoders take "
        f"{encoders} bytes. {held['machine']['processor']}, one thread. `benchmarks/text.py --short`"
    )
    return "\n\n".join([*blocks, said])


def text_winners(root: Path) -> str:
    """Who has the highest mean on each learner, at each number of texts per class, and the best real samples."""
    path = root / "results" / "text.json"
    if not path.exists():
        return "Nothing has been measured yet."
    lines = []
    for part in json.loads(path.read_text(encoding="utf-8"))["parts"]:
        best = []
        for learner in ("linear-model", "mlp", "tfidf"):
            rows = [row for row in part["rows"] if learner in row["scores"]]
            made = max((r for r in rows if _is_made(r)), key=lambda r: r["scores"][learner]["mean"])
            real = max((r for r in rows if not _is_made(r)), key=lambda r: r["scores"][learner]["mean"])
            best.append(f"{learner}: {_in_words(made, learner)}, and {_in_words(real, learner)}")
        lines.append(f"- **{part['ipc']} per class.** {'; '.join(best)}.")
    return "\n".join(["Highest means of a distilled set, and of a set of real texts:", "", *lines])


def text_encoder(root: Path) -> str:
    """Return what real texts do in the bytes of the encoder alone, beside the best set of vectors without it."""
    paths = [root / "results" / name for name in ("text_encoder.json", "text.json")]
    if not all(path.exists() for path in paths):
        return "Nothing has been measured yet."
    held, sets = (json.loads(path.read_text(encoding="utf-8")) for path in paths)
    rows: list[list[object]] = []
    for part in sets["parts"]:
        vectors = [row for row in part["rows"] if row["row"].endswith(", vectors")]
        best = max(vectors, key=lambda row: row["scores"]["linear-model"]["mean"])
        rows.append([
            f"{best['row']}, {part['ipc']} per class", f"{best['bytes']:,.0f}",
            f"{best['bytes'] + held['encoder']:,.0f}",
            f"linear-model {interval(best['scores']['linear-model'], 100, '.1f')}",
        ])  # fmt: skip
        inside = next(row for row in part["rows"] if row["row"] == "kip, text in the loop")
        rows.append([
            f"{inside['row']}, {part['ipc']} per class", f"{inside['bytes']:,.0f}", f"{inside['bytes']:,.0f}",
            f"tfidf {interval(inside['scores']['tfidf'], 100, '.1f')}",
        ])  # fmt: skip
    rows.append([
        f"{held['items']:,.0f} random real texts", f"{held['bytes']:,.0f}", f"{held['bytes']:,.0f}",
        f"tfidf {interval(held['tfidf'], 100, '.1f')}",
    ])  # fmt: skip
    head: list[object] = ["set", "bytes without the encoder", "bytes that a reader needs", "learner, accuracy"]
    said = (
        f"The encoder takes {held['encoder']:,} bytes; the last row has texts in these alone, {held['seeds']} draws. "
        "`benchmarks/text.py --with-encoder`"
    )
    return "\n\n".join([table(head, rows), said])


def _is_made(row: Mapping[str, Any]) -> bool:
    return str(row["row"]).startswith(("dm", "kip", "frepo"))


def _in_words(row: Mapping[str, Any], learner: str) -> str:
    return f"{100 * row['scores'][learner]['mean']:.1f} % by {row['row']} ({row['bytes']:,.0f} bytes)"


def _block(part: Mapping[str, Any], full: Mapping[str, float], title: str) -> str:
    learners = [name for name in _READS if any(name in row["scores"] for row in part["rows"])]
    head: list[object] = ["set", "bytes", *(f"{name} ({_READS[name]})" for name in learners)]
    rows: list[list[object]] = [
        [
            row["row"], f"{row['bytes']:,.0f}",
            *(interval(row["scores"][n], 100, ".1f") if n in row["scores"] else "" for n in learners),
        ]
        for row in part["rows"]
    ]  # fmt: skip
    rows.append(["all data", "", *(f"{100 * full[n]:.1f}" for n in learners)])
    pairs = "; ".join(
        f"{p['row']} minus {p['other']} on {p['learner']}: {interval(p['difference'], 100, '+.1f')}"
        for p in part["pairs"]
        if p["row"].startswith(("kip", "frepo") if "representation" in part else "kip") and "bytes of kip" in p["other"]
    )
    return f"**{title}**\n\n{table(head, rows)}\n\nBy set, in points: {pairs}."
