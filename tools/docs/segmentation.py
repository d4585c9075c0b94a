"""Sets of pictures with masks: benchmarks/segmentation.py."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tools.docs.parts import mean_and_deviation, over_random, table

__all__ = ["segmentation"]

_TITLES = {"stamps": "Stamps: object and background", "digits": "Digits, generated: four classes and background"}


def segmentation(root: Path) -> str:
    """A table for each set of pictures, a row for each method and budget."""
    path = root / "results" / "segmentation.json"
    if not path.exists():
        return "Nothing has been measured yet."
    held = json.loads(path.read_text(encoding="utf-8"))
    about = [
        f"mIoU in percent with the deviation over sets. A set is one draw of {held['training pictures']} training and",
        f"{held['test pictures']} test pictures of {held['side']} × {held['side']}; its score is the mean of",
        f"{held['students']} students ({held['students of all']} of all pictures). *Over random*: difference within",
        "draws, in points, with the 95 % interval (Student's t); the intervals are of single rows, not corrected for",
        f"their number. Four bits a value; `dc` with network `fcn2d-w16`. {held['machine']['processor']}, one thread,",
        f"torch {held['machine']['torch']}. `benchmarks/segmentation.py`",
    ]
    return "\n\n".join([*(_block(part) for part in held["data"] if part["rows"]), " ".join(about)])


def _block(part: Mapping[str, Any]) -> str:
    networks = list(part["rows"][0]["scores"])
    head: list[object] = ["set", "sets", "pictures", "bytes", *(c for n in networks for c in (n, "over random"))]
    rows = [
        [
            "all pictures" if row["row"] == "all" else f"`{row['row']}`", row["scores"][networks[0]]["mIoU"]["n"],
            f"{row['items']:,.0f}", f"{row['bytes']:,.0f}",
            *(cell for n in networks for cell in (mean_and_deviation(row["scores"][n]["mIoU"]), over_random(row, n))),
        ]
        for row in part["rows"]
    ]  # fmt: skip
    chance = 100 * part["rows"][0]["chance"]
    title = f"**{_TITLES[part['data']]}** (background everywhere: {chance:.1f} %)"
    return f"{title}\n\n{table(head, rows)}"
