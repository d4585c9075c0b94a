"""Sets of pictures with boxes: benchmarks/detection.py."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tools.docs.parts import mean_and_deviation, over_random, table

__all__ = ["detection", "detection_folder"]


def _stored(root: Path) -> Mapping[str, Any]:
    path = root / "results" / "detection.json"
    found: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return found


def detection(root: Path) -> str:
    """A row for each method, all at one budget in bytes."""
    held = _stored(root)
    if not held.get("rows"):
        return "Nothing has been measured yet."
    networks = list(held["rows"][0]["scores"])
    head: list[object] = [
        "set", "sets", "pictures", "boxes", "bytes", *(c for n in networks for c in (f"AP50, `{n}`", "over random"))
    ]  # fmt: skip
    rows = [
        [
            "all pictures" if row["row"] == "all" else f"`{row['row'].partition(',')[0]}`{row['row'].partition(',')[1]}"
            f"{row['row'].partition(',')[2]}",
            row["scores"][networks[0]]["AP50"]["n"], f"{row['items']:,.0f}", f"{row['boxes']:,.0f}",
            f"{row['bytes']:,.0f}",
            *(cell for n in networks for cell in (mean_and_deviation(row["scores"][n]["AP50"]), over_random(row, n))),
        ]
        for row in held["rows"]
    ]  # fmt: skip
    students = ", ".join(f"{n} of `{name}`" for name, n in held["students"].items())
    about = [
        f"AP50 in percent with the deviation over sets. A set is one draw of {held['training pictures']} training and",
        f"{held['test pictures']} test scenes of {held['side']} × {held['side']}, digits on photographs, and may have",
        f"{held['budget']:,} bytes; its score is the mean of the students ({students}, {held['steps']} updates;",
        f"{held['steps of all']} on all pictures). *Over random*: difference within draws, in points, with the 95 %",
        "interval (Student's t), of single rows, not corrected for their number. Four bits a value, or those named.",
        f"{held['machine']['processor']}, one thread, torch {held['machine']['torch']}.",
        "`benchmarks/detection.py`",
    ]
    return f"{table(head, rows)}\n\n{' '.join(about)}"


def detection_folder(root: Path) -> str:
    """The seconds and the memory of a folder of 5,000 pictures."""
    held = _stored(root).get("folder")
    if held is None:
        return "Nothing has been measured yet."
    rows = [
        [f"`potstill {step['command'].partition(' --')[0]} …`", f"{step['seconds']:,.0f}",
         f"{step['most memory'] / 1e9:.1f}"]
        for step in held["steps"]
    ]  # fmt: skip
    about = f"{held['pictures']:,} JPEG files of 256 × 256, {held['JPEG bytes'] / 1e6:,.0f} MB, with one COCO file."
    return f"{table(['command', 'seconds', 'GB at most'], rows)}\n\n{about} `benchmarks/detection.py --only-folder`"
