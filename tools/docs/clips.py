"""Clips as pictures: benchmarks/clips.py."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tools.docs.parts import interval, table

__all__ = ["clips"]

_NETWORK = "convnet-d2-w16"


def clips(root: Path) -> str:
    """A table for each task and size of frames, a row for each picture of a clip."""
    path = root / "results" / "clips.json"
    if not path.exists():
        return "Nothing has been measured yet."
    held = json.loads(path.read_text(encoding="utf-8"))
    about = (
        "Clips of nine frames in which digits of `mnist-5k` move, made by the script; of *direction* the class is where"
        f" to, of *digit and direction* also which of three digits. Test accuracy of `{_NETWORK}` in percent: means of "
        f"{held['seeds']} sets with 95 % intervals (Student's t), each the mean of {held['students']} students; of all "
        "clips the mean of students. Sets have five pictures per class in 4 bits; bytes are those "
        "of `dm`, which the best coded real clips have, too; random clips are as many in fewer. "
        "Operations are multiply-adds for one clip; the 3-D network has the same width and reads all frames. "
        f"{held['machine']['processor']}, torch {held['machine']['torch']}. `benchmarks/clips.py`"
    )
    return "\n\n".join([*(_block(part) for part in held["parts"]), about])


def _block(part: Mapping[str, Any]) -> str:
    head: list[object] = ["picture", "bytes", "operations", "random clips", "`dm`", "coded real clips", "all clips"]
    rows: list[list[object]] = [
        [
            f"`{of['picture']}`", f"{of['rows']['dm']['bytes']:,.0f}", f"{of['operations']:,}",
            *(
                interval(of["rows"][row]["scores"][_NETWORK], 100, ".1f") if row in of["rows"] else ""
                for row in ("random", "dm", "real")
            ),
            f"{100 * of['full'][_NETWORK]:.1f}",
        ]
        for of in part["pictures"]
    ]  # fmt: skip
    volume = part["3-D network"]
    rows.append(["all frames, 3-D network", "", f"{volume['operations']:,}", "", "", "", f"{100 * volume['mean']:.1f}"])
    title = f"**{part['task'].capitalize()}, {part['classes']} classes, frames of {part['size']} × {part['size']}**"
    return f"{title}\n\n{table(head, rows)}"
