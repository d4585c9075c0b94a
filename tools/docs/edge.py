"""Training on a small device, beside baselines of the same bytes: benchmarks/uses/edge.py."""

import json
from pathlib import Path

from potstill.reports.edge import EDGE_HEAD, cells_of, describe_protocol
from tools.docs.parts import table

__all__ = ["edge"]


def edge(root: Path) -> str:
    """A row for each thing that a device could hold, what they show, and how it was measured."""
    parts = []
    for path in sorted((root / "results" / "uses").glob("edge-*.json")):
        held = json.loads(path.read_text(encoding="utf-8"))
        shape = " × ".join(map(str, held["shape"]))
        rows: list[list[object]] = [[*cells_of(row)] for row in held["rows"]]
        said = (
            f"{held['source']} of {shape}, {held['samples']:,} training samples, a set of {held['items']} items by "
            f"{held['method']}. {describe_protocol(held)} {held['machine']['processor']}, NumPy on one thread. "
            f"`{' '.join(['benchmarks/uses/edge.py', *held['script'].split()])}`"
        )
        parts.append("\n\n".join([table([*EDGE_HEAD], rows), " ".join(held["sentences"]), said]))
    return "\n\n".join(parts) or "Nothing has been measured yet."
