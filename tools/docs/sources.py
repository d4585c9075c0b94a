"""Ends of the pages docs/benchmarks (raw results and what makes them again), and the map of all these pages."""

import re
from pathlib import Path

from tools.docs.headlines import OPENINGS
from tools.docs.parts import table

__all__ = ["QUESTIONS", "SOURCES", "benchmark_map", "sources", "version"]

SOURCES: dict[str, tuple[tuple[str, str], ...]] = {
    "strong": (
        ("strong", "benchmarks/strong.py make` and `score"), ("lossless-digits.json", "benchmarks/lossless.py"),
        ("small-data.json", "benchmarks/small_data.py"), ("small-data-good.json", "benchmarks/small_data.py"),
    ),
    "bytes": (
        ("frontier", "benchmarks/frontier.py make` and `score"),
        ("model_baseline.json", "benchmarks/model_baseline.py"),
        ("bytes-fashion-mnist.json", "benchmarks/bytes.py"), ("bytes-photo-patches.json", "benchmarks/bytes.py"),
        ("bytes-letters.json", "benchmarks/bytes.py"), ("bytes-mnist-5k.json", "benchmarks/bytes.py"),
    ),
    "labels": (
        ("labels.json", "benchmarks/labels.py"), ("label_classes.json", "benchmarks/label_classes.py"),
        ("labellers-photo-patches-1.json", "benchmarks/labellers.py"),
        ("labellers-fashion-5k-1.json", "benchmarks/labellers.py"),
    ),
    "scaling": (("knowledge", "benchmarks/knowledge.py"),),
    "selection": (
        ("pruning", "benchmarks/pruning_curves.py --repeats 5"),
        ("selection_scale.json", "benchmarks/selection_scale.py --others PYTHON"),
        ("active.json", "benchmarks/active.py"), ("csod.json", "benchmarks/detection_coreset.py"),
    ),
    "choice": (
        ("choose", "benchmarks/choose.py"), ("effort.json", "benchmarks/effort.py"),
        ("sane-digits.json", "benchmarks/sane.py"), ("tiny-pictures.json", "benchmarks/tiny_pictures.py"),
    ),
    "automatic": (
        ("auto", "benchmarks/auto.py"), ("auto_unseen", "benchmarks/auto.py"), ("auto_mended", "benchmarks/auto.py"),
    ),
    "codecs": (
        ("coder.json", "benchmarks/coder.py"), ("stores.json", "benchmarks/stores.py"),
        ("table_codecs", "benchmarks/table_codecs.py"),
        ("store_loss.json", "benchmarks/store_loss.py"),
    ),
    "data": (
        ("own_data.json", "benchmarks/own_data.py"), ("decoded.json", "benchmarks/decoded.py"),
        ("streaming.json", "benchmarks/streaming.py --side 32"), ("kinds.json", "benchmarks/kinds.py"),
        ("balance.json", "benchmarks/balance.py"), ("frozen.json", "benchmarks/frozen.py"),
        ("table_ranks.json", "benchmarks/table_ranks.py"),
    ),
    "robustness": (
        ("faults.json", "benchmarks/faults.py"), ("fuzz.json", "-m tests.fuzz.targets"),
        ("coverage.json", "benchmarks/coverage.py"),
        ("cluster.json", "benchmarks/cluster.py"), ("partitions.json", "benchmarks/partitions.py"),
        ("imported.json", "benchmarks/imported.py"),
    ),
    "speed": (
        ("speed.json", "benchmarks/speed.py"), ("experts.json", "benchmarks/experts.py"),
        ("unroll.json", "benchmarks/unroll.py"), ("kernel_costs.json", "benchmarks/kernel_costs.py"),
        ("students.json", "benchmarks/students.py"), ("scaling.json", "benchmarks/scaling.py"),
        ("imagenet_recipes.json", "benchmarks/imagenet_recipes.py"),
        ("simulate.json", "benchmarks/simulate.py"), ("ranks.json", "benchmarks/ranks.py"),
        ("convolution.json", "benchmarks/convolution.py"), ("amortised.json", "benchmarks/amortised.py"),
    ),
    "published": (
        ("published_grid", "benchmarks/published_grid.py"), ("time_to_accuracy.json", "benchmarks/time_to_accuracy.py"),
        ("imported.json", "benchmarks/imported.py"),
    ),
    "recipes": (("recipes.json", "benchmarks/recipes.py"),),
}  # fmt: skip
"""Of each page: files or folders under results/, and what makes them again."""

QUESTIONS = {
    "strong": ("How strong are small sets after minutes?", "benchmarks/strong"),
    "bytes": ("Do distilled sets beat real samples at the same bytes?", "benchmarks/frontier"),
    "codecs": ("What do fewer bits cost?", "benchmarks/codecs"),
    "labels": ("What do stored labels cost, and who can read a set?", "labels"),
    "scaling": ("How many hard labels is a soft label worth?", "scaling-fashion-mnist"),
    "selection": ("Which real samples should you keep?", "benchmarks/selection"),
    "choice": ("Which method over which parametrization?", "benchmarks/choice"),
    "automatic": ("What does the automatic choice lose?", "benchmarks/automatic"),
    "data": ("Does it work on data as people keep them?", "benchmarks/data"),
    "robustness": ("What survives faults, damage and bad luck?", "benchmarks/robustness"),
    "speed": ("How fast is it?", "benchmarks/speed"),
    "published": ("How near are published numbers?", "benchmarks/published"),
    "recipes": ("What do the recipes score?", "benchmarks/recipes"),
}
"""Of each page: its question, and its figure under docs/img."""


def sources(root: Path, name: str) -> str:
    """Return a page's raw results, each with what makes it again."""
    rows: list[list[object]] = []
    for place, script in SOURCES[name]:
        if not (root / "results" / place).exists():
            raise ValueError(f"{name}: results/{place} is not there")
        shown = place if "." in place else f"{place}/"
        rows.append([f"[`results/{shown}`](../../results/{place})", f"`python {script}`"])
    return table(["raw results", "made again by"], rows)


def benchmark_map(root: Path) -> str:
    """Return a card for each page: its question, the first sentence of its answer, and its figure."""
    cards = [
        f"-   **[{question}]({name}.md)**\n\n    "
        f"[![Figure: {question}](../img/{figure}.svg){{ loading=lazy .thumbnail }}]({name}.md)\n\n    "
        f"{OPENINGS[name](root)[0]}"
        for name, (question, figure) in QUESTIONS.items()
    ]
    return '<div class="grid cards" markdown>\n\n' + "\n\n".join(cards) + "\n\n</div>"


def version(root: Path) -> str:
    """Return with which version the results were measured, and what later draws change."""
    held = {entry: _versions(root / "results" / entry) for entries in SOURCES.values() for entry, _ in entries}
    versions = sorted(set().union(*held.values()))
    last = re.search(r"^\| all \| (\d+) \|.*\| (\d+) \|$", _read(root, "keyed_draws/frame_bits.md"), re.MULTILINE)
    cells = re.findall(r"\| ([+-][\d.]+) ± ([\d.]+) \(n = 3\) \|$", _read(root, "keyed_draws/table.md"), re.MULTILINE)
    if last is None or not cells:
        raise ValueError("results/keyed_draws: no counts")
    largest = max(abs(float(gap)) for gap, _ in cells)
    return (
        f"All results were measured with Potstill {' and '.join(versions)}, before draws of real samples were keyed by "
        f"the class's name. With today's draws, {last[1]} of {last[2]} compared runs have the same bits. Mean accuracy "
        f"over three seeds moved by {largest:.1f} points at most, for {len(cells)} pairs of method and data. The "
        "tables were not measured again."
    )


def _read(root: Path, name: str) -> str:
    return (root / "results" / name).read_text(encoding="utf-8")


def _versions(place: Path) -> set[str]:
    """Return the versions that a file, or the files of a folder, say."""
    paths = place.rglob("*.json") if place.is_dir() else [place]
    return {found for path in paths for found in re.findall(r'"potstill": "([^"]+)"', path.read_text(encoding="utf-8"))}
