"""Sets with formal privacy beside a linear map of the same budget: benchmarks/trust/private.py."""

import json
from pathlib import Path
from typing import Any

from tools.docs.parts import mean_and_half, table

__all__ = ["private_sets"]

STUDENTS = ("MLP", "ConvNet", "forest")


def private_sets(root: Path) -> str:
    """A row for each ε: students of the set, the labeller in it, and the linear map that has all of ε."""
    path = root / "results" / "trust" / "private.json"
    if not path.exists():
        return "Nothing has been measured yet."
    held = json.loads(path.read_text(encoding="utf-8"))
    rows: list[list[object]] = []
    by_key: dict[tuple[str, Any], dict[str, Any]] = {(row["row"], row["epsilon"]): row for row in held["rows"]}
    for (name, epsilon), row in by_key.items():
        if name != "set":
            continue
        rival = by_key["rival", epsilon]
        rows.append(
            [f"{epsilon:g}", row["n"], *(mean_and_half(row[student]) for student in STUDENTS),
             mean_and_half(row["own labeller"]), mean_and_half(rival["accuracy"])]
        )  # fmt: skip
    real, free = by_key.get(("random real samples", None)), by_key.get(("rival", None))
    if real is not None and free is not None:
        rows.append(
            ["no privacy: random real samples", real["n"], *(mean_and_half(real[student]) for student in STUDENTS), "",
             mean_and_half(free["accuracy"])]
        )  # fmt: skip
    settings = held["settings"]
    said = (
        f"Accuracy in % on all test samples of {settings['data']}; δ = {settings['delta']:g}, {settings['ipc']} items "
        f"of each class, n releases with {settings['students']} student of a kind for each, half-widths of Student's t "
        "for n above 1. *Labeller*: the linear map that labels the set, with its share of ε. *Linear map*: the same "
        f"map with all of ε. {held['machine']['processor']}, one thread, torch {held['machine']['torch']}. "
        "`benchmarks/trust/private.py`"
    )
    return "\n\n".join([table(["ε", "n", *STUDENTS, "labeller", "linear map"], rows), said])
