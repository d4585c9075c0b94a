"""Every method's quick effort on small data: benchmarks/sane.py."""

import json
from pathlib import Path

from tools.docs.parts import table

__all__ = ["sane"]

NEAR = 0.05
"""Accuracy by which sets of random samples differ among themselves here (docs/benchmarks/strong.md: five points)."""


def sane(root: Path) -> str:
    """Methods by where they end beside random samples."""
    path = root / "results" / "sane-digits.json"
    if not path.exists():
        return "Nothing has been measured yet."
    held = json.loads(path.read_text(encoding="utf-8"))
    found = {name: cell["accuracy"] for name, cell in held["methods"].items() if "accuracy" in cell}
    random = found.pop("random")
    order = sorted(found, key=lambda name: -found[name])

    def listed(low: float, high: float) -> str:
        return ", ".join(f"`{n}` {100 * found[n]:.1f}" for n in order if low <= found[n] - random < high) or "none"

    options = held["options"]
    refused = ", ".join(f"`{n}`" for n, cell in held["methods"].items() if "refused" in cell)
    said = (
        f"Random real samples: {100 * random:.1f} %. Accuracy in percent on a held-out quarter of `{options['data']}`, "
        f"{options['ipc']} float32 inputs of each class, mean of two students (`{options['network']}`); one set each, "
        "which is why five points to either side say nothing. Made by the preset `quick` in that network (in one with "
        "BatchNorm where a method needs it, whose own students tell a few points more right), in at most "
        f"{options['budget']:.0f} seconds, which {refused or 'no method'} did not fit. {held['machine']['processor']}, "
        f"torch {held['machine']['torch']}. `benchmarks/sane.py`"
    )
    rows: list[list[object]] = [
        ["more than 5 points above random samples", listed(NEAR, 1)],
        ["within 5 points", listed(-NEAR, NEAR)],
        ["5 to 20 points below", listed(-0.2, -NEAR)],
        ["more than 20 points below", listed(-1, -0.2)],
    ]
    return f"{table(['beside random samples', 'methods'], rows)}\n\n{said}"
