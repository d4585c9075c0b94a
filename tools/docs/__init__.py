"""The tables in the README and in docs/ and the figures of docs/benchmarks, made from the registry and from results/,
so that none is kept by hand.

python -m tools.docs          write them
python -m tools.docs --check  say which are not current, and exit with 1
"""

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from tools.docs import (
    architecture,
    attacked,
    augmentation,
    benchmark_plots,
    choice,
    chosen,
    clinical,
    clips,
    continual,
    control,
    coverage,
    data,
    deletion,
    detection,
    edge,
    fairness,
    faults,
    federated,
    frontier,
    frozen,
    generator_set,
    graph_classes,
    graphs,
    guarded,
    hcdc,
    headlines,
    home,
    hour,
    image_text,
    imported,
    instructions,
    kernels,
    kinds,
    labels,
    matching,
    network_labels,
    planned,
    point_clouds,
    poisoning,
    privacy_audit,
    private_sets,
    provenance,
    ratings,
    registry,
    representations,
    sane,
    scaled,
    search,
    segmentation,
    selection,
    series_classes,
    series_sets,
    small_sets,
    sound,
    sources,
    stored,
    strong,
    super_resolution,
    surrogate,
    table_ranks,
    texts,
    trajectories,
)

__all__ = ["main", "render"]

_BLOCKS: dict[str, Callable[[Path], str]] = {
    "active": selection.active,
    "architecture": architecture.listed,
    "augmentation": augmentation.augmentation,
    "auto": chosen.auto,
    "auto-mended": chosen.mended,
    "auto-unseen": chosen.unseen,
    "balance": small_sets.balance,
    "benchmark-map": sources.benchmark_map,
    "choose": choice.choose,
    "choose-cells": choice.choose_cells,
    "choose-gains": choice.choose_gains,
    "clinical": clinical.clinical,
    "continual": continual.continual,
    "large-table": clinical.large_table,
    "survival": clinical.survival,
    "control": control.control,
    "logged": control.logged,
    "federated": federated.federated,
    "coverage": coverage.coverage,
    "csod": selection.csod,
    "decoded": data.decoded,
    "deletion": deletion.deletion,
    "detection": detection.detection,
    "detection-folder": detection.detection_folder,
    "edge": edge.edge,
    "attacked": attacked.attacked,
    "fairness": fairness.fairness,
    "clips": clips.clips,
    "point-clouds": point_clouds.point_clouds,
    "generator": generator_set.generator_set,
    "network-labels": network_labels.network_labels,
    "graphs": graphs.graphs,
    "graph-findings": graphs.graph_findings,
    "ratings": ratings.ratings,
    "graph-classes": graph_classes.graph_classes,
    "rating-findings": ratings.rating_findings,
    "segmentation": segmentation.segmentation,
    "super-resolution": super_resolution.super_resolution,
    "image-text": image_text.image_text,
    "zero-shot": image_text.zero_shot,
    "surrogate": surrogate.surrogate,
    "table-ranks": table_ranks.table_ranks,
    "table-winners": table_ranks.table_winners,
    "series-sets": series_sets.series_sets,
    "series-classes": series_classes.series_classes,
    "series-class-findings": series_classes.series_class_findings,
    "sound": sound.sound,
    "sound-findings": sound.sound_findings,
    "sound-heard": sound.sound_heard,
    "texts": texts.texts,
    "text-winners": texts.text_winners,
    "text-encoder": texts.text_encoder,
    "text-short": texts.text_short,
    "representations-parts": representations.representations_parts,
    "poisoning": poisoning.poisoning,
    "provenance": provenance.provenance,
    "instructions": instructions.instructions,
    "representations": representations.representations,
    "target-selection": representations.target_selection,
    "committees": labels.committees,
    "effort": matching.effort,
    "experts": trajectories.experts,
    "faults": faults.faults,
    "frontier": frontier.frontier,
    "long-runs": frontier.long_runs,
    "frozen": frozen.frozen,
    "fuzzed": guarded.fuzzed,
    "hcdc": hcdc.hcdc,
    "home": home.home,
    "hour": hour.ablation,
    "imagenet": labels.imagenet,
    "imagenet-recipes": planned.imagenet_recipes,
    "imported": imported.imported,
    "kernel-costs": kernels.kernel_costs,
    "kinds": kinds.kinds,
    "knowledge": labels.knowledge,
    "labellers": labels.labellers,
    "lossless": small_sets.lossless,
    "methods": registry.methods,
    **{f"opening-{name}": partial(headlines.opening, name=name) for name in headlines.OPENINGS},
    "own-data": selection.own_data,
    "privacy-audit": privacy_audit.privacy_audit,
    "private-sets": private_sets.private_sets,
    "protocols": registry.protocols,
    "pruning": selection.pruning,
    "real-codecs": stored.real_codecs,
    "recipes": matching.recipes,
    "results": matching.results,
    "scaled": scaled.scaled,
    "search": search.search,
    "small-data": small_sets.small_data,
    "sane": sane.sane,
    "scaling": matching.scaling,
    "selection-scale": selection.selection_scale,
    **{f"sources-{name}": partial(sources.sources, name=name) for name in sources.SOURCES},
    "speed": matching.speed,
    "store-loss": stored.store_loss,
    "stored-labels": labels.stored_labels,
    "stores": registry.stores,
    "stores-measured": stored.each_store,
    "limits": guarded.limits,
    "label-classes": labels.label_classes,
    "stored-labels-cost": labels.stored_labels_cost,
    "streaming": labels.streaming,
    "strong": strong.strong_few,
    "strong-best": strong.strong_best,
    "students": matching.students,
    "table-codecs": stored.table_codecs,
    "time-to-accuracy": matching.time_to_accuracy,
    "unroll": matching.unroll,
    "version": sources.version,
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
    pictures: dict[Path, Callable[[Path], str]] = {root / "docs/img/architecture.svg": architecture.draw}
    pictures |= {root / f"docs/img/benchmarks/{name}.svg": draw for name, draw in benchmark_plots.FIGURES.items()}
    for path in [root / "README.md", *sorted((root / "docs").glob("**/*.md")), *pictures]:
        old = path.read_text(encoding="utf-8") if path.exists() else ""
        new = pictures[path](root) if path in pictures else render(old, root)
        if new != old:
            status = 1
            sys.stdout.write(f"{path.relative_to(root)}: {'not current; run' if check else 'written by'} tools.docs\n")
            if not check:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(new, encoding="utf-8")
    return status if check else 0
