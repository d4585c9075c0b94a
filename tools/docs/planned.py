"""Plans of the recipes for ImageNet beside published hours: benchmarks/imagenet_recipes.py."""

import json
from pathlib import Path
from typing import Any

from tools.docs.parts import table

__all__ = ["imagenet_recipes"]

PUBLISHED_HOURS = {"imagenet-1k/sre2l": 29, "imagenet-1k/fadrm": 6.5, "imagenet-1k/edc": 69}
"""Recovery of 50 pictures a class on one RTX 4090: CDA's README, and FADRM's table of seconds a picture."""
PLANNED_RATE, RATE_OF_ONE = 312.0, 82.6
"""TFLOP/s of a planned device, and of the published hours' device."""


def imagenet_recipes(root: Path) -> str:
    """What each recipe took in a dry run, what it is planned to take, and the published hours."""
    held = json.loads((root / "results" / "imagenet_recipes.json").read_text(encoding="utf-8"))
    rows: list[list[object]] = [_row(name, row) for name, row in sorted(held["rows"].items())]
    head: list[object] = [
        "recipe", "dry run: distil, label, evaluate, s", "largest peak, MB", "planned, hours", "device-hours",
        "a device, GB", "disk, GB", "steps on one RTX 4090: planned, hours", "published, hours",
    ]  # fmt: skip
    said = (
        "Dry run: a thousand classes of generated pictures and a few steps, which shows that a recipe runs from end to "
        "end and no accuracy. Planned for one node of eight devices with 80 GB and 312 TFLOP/s each. Not held against "
        f"a real cluster. {held['machine']['processor']}, torch {held['machine']['torch']}. "
        "`benchmarks/imagenet_recipes.py`"
    )
    return f"{table(head, rows)}\n\n{said}"


def _row(name: str, row: dict[str, Any]) -> list[object]:
    dry, plan = row["dry"], row["plan"]
    steps = sum(p["seconds"] * p["devices"] for p in plan["phases"] if p["name"].startswith("steps of the method"))
    hours = PUBLISHED_HOURS.get(name)
    ways = ("distill", "label", "evaluate")
    return [
        f"`{name}`", ", ".join(f"{dry[way]['seconds']:.0f}" for way in ways),
        f"{max(dry[way]['peak'] for way in ways) / 1e6:.0f}", f"{plan['seconds'] / 3600:.1f}",
        f"{plan['gpu_hours']:.0f}", f"{plan['memory'] / 1e9:.1f}", f"{plan['disk']['total'] / 1e9:,.0f}",
        f"{steps / 3600 * PLANNED_RATE / RATE_OF_ONE:.0f}" if hours else "—", f"{hours:g}" if hours else "—",
    ]  # fmt: skip
