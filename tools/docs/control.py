"""Behaviour distillation beside baselines of the same cost: benchmarks/uses/control.py."""

import json
from pathlib import Path

from potstill.reports.control import cells_of, describe_control, head_of
from tools.docs.parts import table

__all__ = ["control", "logged"]


def control(root: Path) -> str:
    """A row for each way in every simulator, what they show, and how it was measured."""
    return _tables(root, "control")


def logged(root: Path) -> str:
    """Return the same of pairs from logged episodes: benchmarks/uses/logged.py."""
    return _tables(root, "logged")


def _tables(root: Path, name: str) -> str:
    parts = []
    for path in sorted((root / "results" / "uses").glob(f"{name}-*.json")):
        held = json.loads(path.read_text(encoding="utf-8"))
        rows: list[list[object]] = [[*cells_of(row, held)] for row in held["rows"]]
        said = f"{describe_control(held)} {held['machine']['processor']}, one thread. `benchmarks/uses/{name}.py`"
        heading = f"**{held['environment']}.** {' '.join(held['sentences'])}"
        parts.append("\n\n".join([heading, table(head_of(held), rows), said]))
    return "\n\n".join(parts) or "Nothing has been measured yet."
