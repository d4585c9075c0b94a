"""Clips as pictures: benchmarks/clips.py."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tools.docs.parts import interval, table

__all__ = ["clips"]

_NETWORK = "convnet-d2-w16"
_TITLES = {"wesnoth": "Actions of a game's units, real animations"}


def clips(root: Path) -> str:
    """A table for each task and size of frames, a row for each picture of a clip."""
    path = root / "results" / "clips.json"
    if not path.exists():
        return "Nothing has been measured yet."
    held = json.loads(path.read_text(encoding="utf-8"))
    about = (
        "Of *direction* and of *digit and direction* clips are made by the script: nine frames in which digits of "
        "`mnist-5k` move; the class is where to, and which of three digits. "
        f"{_about_wesnoth(held['parts'])}Test accuracy of `{_NETWORK}` in percent: means of "
        f"{held['seeds']} sets with 95 % intervals (Student's t), each the mean of {held['students']} students; of all "
        "clips the mean of students. Sets have five pictures per class in 4 bits; bytes are those "
        "of `dm`, which the best coded real clips have, too; random clips are as many in fewer, and `motion` "
        "is `dm` over still pictures and motions in at most as many, its scale and rate chosen on training clips. "
        f"{_about_augmentation(held['parts'])}"
        "Operations are multiply-adds for one clip; the 3-D network has the same width and reads all frames. "
        f"{held['machine']['processor']}, torch {held['machine']['torch']}. `benchmarks/clips.py`"
    )
    return "\n\n".join([*(_block(part) for part in held["parts"]), about])


def _block(part: Mapping[str, Any]) -> str:
    head: list[object] = ["picture", "bytes", "operations", "random clips", "`dm`", "`motion`", "coded real clips",
        "all clips",
    ]  # fmt: skip
    rows: list[list[object]] = [
        [
            f"`{of['picture']}`", f"{of['rows']['dm']['bytes']:,.0f}", f"{of['operations']:,}",
            *(
                interval(of["rows"][row]["scores"][_NETWORK], 100, ".1f") if row in of["rows"] else ""
                for row in ("random", "dm", "motion", "real")
            ),
            f"{100 * of['full'][_NETWORK]:.1f}",
        ]
        for of in part["pictures"]
    ]  # fmt: skip
    if volume := part.get("3-D network"):
        cells = ("", "", "", "", f"{100 * volume['mean']:.1f}")
        rows.append(["all frames, 3-D network", "", f"{volume['operations']:,}", *cells])
    name = _TITLES.get(part["task"], part["task"].capitalize())
    title = f"**{name}, {part['classes']} classes, frames of {part['size']} × {part['size']}**"
    return f"{title}\n\n{table(head, rows)}"


def _about_augmentation(parts: Sequence[Mapping[str, Any]]) -> str:
    """Return a sentence on rows of pictures of frames that augmentation moved as a whole."""
    rows = [
        f"`{of['picture']}` of *{'actions' if part['task'] == 'wesnoth' else part['task']}*"
        for part in parts
        for of in part["pictures"]
        if of["picture"].startswith(("thirds", "grid")) and of.get("moved") != "frames"
    ]
    if not rows:
        return ""
    return (
        f"Augmentation of students and of `dm` still moved pictures as a whole, not each frame, in {', '.join(rows)}. "
    )


def _about_wesnoth(parts: Sequence[Mapping[str, Any]]) -> str:
    """Return a sentence on the real clips, where they were measured."""
    for part in parts:
        if part["task"] == "wesnoth":
            train, test = (sum(part["clips"][side]) for side in ("train", "test"))
            largest = 100 * max(part["clips"]["test"]) / test
            return (
                "*Actions* (melee, ranged, die, idle, move) are unit animations of Battle for Wesnoth, package "
                f"`wesnoth-1.16-data`, GNU GPL 2 or later, read by `benchmarks/wesnoth_clips.py`: {train} clips, and "
                f"{test} of other units for testing; the largest class has {largest:.0f} %. "
            )
    return ""
