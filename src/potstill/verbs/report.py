"""One page about what was made and measured."""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from potstill.reports import collect, render, write
from potstill.storage import Distilled, load
from potstill.storage.pictures import pictures_of

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
    shown, columns = _shown(small)
    held = {"inputs": shown, "labels": small.labels, "weights": small.weights, "index": small.index}
    held["scores"] = small.scores
    if not small.classified:
        held |= {"labels": small.hard_labels, "targets": small.labels}
    arrays = {name: tensor.numpy() for name, tensor in held.items() if tensor is not None}
    return arrays | {"captions": np.array(small.captions, dtype=str), "columns": np.array(columns, dtype=str)}


def _shown(small: Distilled) -> tuple[Tensor, tuple[str, ...]]:
    """What is drawn of the inputs, and its columns: the pictures among parts with names, else the values and codes."""
    if not small.input.parts:
        return small.inputs, small.input.columns
    if (pictures := pictures_of(small)) is not None:
        return pictures, ()
    parts = [(name, part) for name, part in small.input.parts if part.kind != "words"]
    values = [small.inputs[name].flatten(1).float() for name, _ in parts]
    columns = [
        part.columns if len(part.columns) == x.shape[1] else tuple(f"{name} {j + 1}" for j in range(x.shape[1]))
        for (name, part), x in zip(parts, values, strict=True)
    ]
    if not values:
        return torch.zeros(len(small), 0), ()
    return torch.cat(values, 1), tuple(c for some in columns for c in some)
