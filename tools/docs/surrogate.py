"""Designs of experiments for a surrogate: benchmarks/surrogate.py."""

import json
from pathlib import Path
from typing import Any

from tools.docs.parts import interval, table

__all__ = ["surrogate"]


def _told(row: dict[str, Any]) -> str:
    """Return the learners under which a way is told apart from its control, by sign."""
    if row["over"] is None:
        return ""
    signs = []
    for name, of in row["over"].items():
        if name != "other" and of["ci95"] is not None and of["ci95"][0] * of["ci95"][1] > 0:
            signs.append(f"{name} {of['mean']:+.3f}")
    return ", ".join(signs) or "not told apart"


def surrogate(root: Path) -> str:
    """A table for each size: errors of every way, and where they differ from the control."""
    path = root / "results" / "surrogate.json"
    if not path.exists():
        return "Nothing has been measured yet."
    held = json.loads(path.read_text(encoding="utf-8"))
    learners = list(held["rows"][0]["errors"])
    parts = []
    for n in held["settings"]["sizes"]:
        rows: list[list[object]] = [
            [row["way"], *(interval(row["errors"][k], 1, ".3f") for k in learners), _told(row)]
            for row in held["rows"] if row["n"] == n
        ]  # fmt: skip
        parts.append(f"**{n} simulations**\n\n" + table(["way", *learners, "minus the control"], rows))
    parts.append(
        "Errors on 500 fine simulations, as a share of the outputs' deviation: less is better; means and 95 % "
        f"intervals over n = {held['settings']['seeds']} pools. The control of *run* is the Latin hypercube, that of "
        f"*keep* is random. {held['machine']['processor']}, one thread. `benchmarks/surrogate.py`"
    )
    return "\n\n".join(parts)
