"""One page about what was made and measured."""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from potstill.reports import collect, render, write
from potstill.storage import load

__all__ = ["report"]


def report(paths: Sequence[str | Path] | str | Path, out: str | Path) -> Path:
    """Write one self-contained page about sets, scorecards or a folder of them.

    Args:
        paths: files or folders of results.
        out: the page, ``….html``.

    Raises:
        PotstillError: nothing to report there, or ``out`` cannot be written.
    """
    several = [paths] if isinstance(paths, str | Path) else paths
    entries = collect([Path(p) for p in several], _arrays)
    title = entries[0].name if len(entries) == 1 else Path(several[0]).resolve().name
    command = shlex.join(["potstill", "report", *map(str, several), "--out", str(out)])
    write(render(entries, title=title, command=command), Path(out))
    return Path(out)


def _arrays(path: Path) -> Mapping[str, Any]:
    """What a page shows of a set, for pages know no torch."""
    small = load(path)
    held = {"inputs": small.inputs, "labels": small.labels, "weights": small.weights, "index": small.index}
    return {name: tensor.numpy() for name, tensor in held.items() if tensor is not None}
