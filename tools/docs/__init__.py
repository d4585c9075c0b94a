"""The tables in the README and in docs/, made from the registry and from results/, so that none is kept by hand.

python -m tools.docs          write them
python -m tools.docs --check  say which are not current, and exit with 1
"""

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from tools.docs import (
    architecture,
    choice,
    chosen,
    coverage,
    data,
    faults,
    frozen,
    guarded,
    home,
    imported,
    kernels,
    kinds,
    labels,
    matching,
    registry,
    sane,
    scaled,
    selection,
    stored,
    strong,
    trajectories,
)

__all__ = ["main", "render"]

_BLOCKS: dict[str, Callable[[Path], str]] = {
    "active": selection.active,
    "architecture": architecture.listed,
    "auto": chosen.auto,
    "bytes": stored.bytes_of_data,
    "bytes-ahead": stored.ahead,
    "bytes-codecs": stored.codecs,
    "choose": choice.choose,
    "choose-cells": choice.choose_cells,
    "choose-gains": choice.choose_gains,
    "coverage": coverage.coverage,
    "csod": selection.csod,
    "decoded": data.decoded,
    "committees": labels.committees,
    "effort": matching.effort,
    "experts": trajectories.experts,
    "faults": faults.faults,
    "frozen": frozen.frozen,
    "fuzzed": guarded.fuzzed,
    "home": home.home,
    "imagenet": labels.imagenet,
    "imported": imported.imported,
    "kernel-costs": kernels.kernel_costs,
    "kinds": kinds.kinds,
    "knowledge": labels.knowledge,
    "labellers": labels.labellers,
    "methods": registry.methods,
    **{f"options-{family}": partial(registry.options, family=family) for family in registry.FAMILIES},
    "own-data": selection.own_data,
    "parametrizations": registry.parametrizations,
    "protocols": registry.protocols,
    "pruning": selection.pruning,
    "recipes": matching.recipes,
    "results": matching.results,
    "scaled": scaled.scaled,
    "sane": sane.sane,
    "scaling": matching.scaling,
    "selection-scale": selection.selection_scale,
    "speed": matching.speed,
    "store-loss": stored.store_loss,
    "stored-labels": labels.stored_labels,
    "stores": registry.stores,
    "stores-measured": stored.each_store,
    "limits": guarded.limits,
    "label-classes": labels.label_classes,
    "stored-labels-cost": labels.stored_labels_cost,
    "streaming": labels.streaming,
    "strong": strong.strong,
    "strong-across": strong.strong_across,
    "strong-best": strong.strong_best,
    "students": matching.students,
    "time-to-accuracy": matching.time_to_accuracy,
    "unroll": matching.unroll,
}


def render(text: str, root: Path) -> str:
    """``text`` with everything between ``<!-- NAME:begin -->`` and ``<!-- NAME:end -->`` made anew."""
    for name, block in _BLOCKS.items():
        begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
        if begin in text:
            before, rest = text.split(begin, 1)
            text = f"{before}{begin}\n{block(root)}\n{end}{rest.split(end, 1)[1]}"
    return text


def main(root: Path, *, check: bool) -> int:
    """Write the tables under ``root``, or say which are not current. Returns the exit status."""
    status = 0
    picture = root / "docs" / "img" / "architecture.svg"
    for path in [root / "README.md", *sorted((root / "docs").glob("**/*.md")), picture]:
        old = path.read_text(encoding="utf-8") if path.exists() else ""
        new = architecture.draw(root) if path == picture else render(old, root)
        if new != old:
            status = 1
            sys.stdout.write(f"{path.relative_to(root)}: {'not current; run' if check else 'written by'} tools.docs\n")
            if not check:
                path.write_text(new, encoding="utf-8")
    return status if check else 0
