"""Behaviour distillation beside baselines of the same cost: benchmarks/uses/control.py."""

import json
from pathlib import Path

from potstill.reports.control import cells_of, describe_control, head_of
from tools.docs.parts import table

__all__ = ["control"]


def control(root: Path) -> str:
    """A row for each way in every simulator, what they show, and how it was measured."""
    parts = []
    for path in sorted((root / "results" / "uses").glob("control-*.json")):
        held = json.loads(path.read_text(encoding="utf-8"))
        rows: list[list[object]] = [[*cells_of(row, held)] for row in held["rows"]]
        said = f"{describe_control(held)} {held['machine']['processor']}, one thread. `benchmarks/uses/control.py`"
        heading = f"**{held['environment']}.** {' '.join(held['sentences'])}"
        parts.append("\n\n".join([heading, table(head_of(held), rows), said]))
    return "\n\n".join(parts) or "Nothing has been measured yet."
