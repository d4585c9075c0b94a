"""Sets of pairs of pictures and texts: benchmarks/pairs.py and benchmarks/zero_shot.py."""

import json
from pathlib import Path
from typing import Any

from potstill.evaluation.statistics import paired_difference, summary
from tools.docs.parts import interval, mean_and_deviation, table

__all__ = ["image_text", "zero_shot"]

_TITLES = {"emoji": "Emoji and their names", "stamps": "Stamps and their captions"}
_RIVALS = ("random-bytes", "prototypes-bytes")
_KINDS = ("names", "descriptions", "random words")
_METRICS = ("ir@1", "ir@10", "tr@1", "tr@10")


def image_text(root: Path) -> str:
    """A table for each set of pairs and each number of pairs, a row for each method."""
    path = root / "results" / "pairs.json"
    if not path.exists():
        return "Nothing has been measured yet."
    held = json.loads(path.read_text(encoding="utf-8"))
    sizes = sorted({(key.split()[0], int(key.split()[1])) for key in held["cells"]}, key=lambda s: (s[0], -s[1]))
    processors = " and ".join(m["processor"] for m in held["machines"])
    students = next(iter(held["cells"].values()))["students"]
    about = [
        "Recall in percent on the test split; the score is the mean of Recall@10 both ways. Each set is measured by",
        f"{students} students of the shortened protocol on pictures of 16 × 16, network `{held['network']}`; spreads",
        "are deviations over sets. *Over random* and *over prototypes*: difference from random pairs and from",
        "prototypes in the bytes of the `vl-distill` set, seed by seed, in points, with the 95 % interval (Student's",
        "t); intervals are of single rows, not corrected for their number. *As captions*: the score with the nearest",
        f"real captions in place of learned texts. {processors}, one thread,",
        f"torch {held['machines'][-1]['torch']}. `benchmarks/pairs.py`",
    ]
    return "\n\n".join([*(_block(held, *size) for size in sizes), " ".join(about)])


def _block(held: dict[str, Any], data: str, size: int) -> str:
    cells: dict[str, list[dict[str, Any]]] = {}
    for row in held["rows"]:
        cells[row] = [c for n in range(99) if (c := held["cells"].get(f"{data} {size} {row} {n}"))]
    rivals = [[c["mean"] for c in cells[row]] for row in _RIVALS]
    rows = [_row(row, some, rivals) for row, some in cells.items() if some]
    about, full = held["data"][data], held["data"][data]["full"]["mean"]
    title = (
        f"**{_TITLES[data]}, {size} of {about['train']:,} pairs**, codec `{about['codec']['chosen']}` (full data: "
        f"{100 * full:.1f})"
    )
    head = ["set", "sets", "pairs", "bytes", "score", "over random", "over prototypes", "as captions", *_METRICS]
    return f"{title}\n\n{table(head, rows)}"


def _row(row: str, some: list[dict[str, Any]], rivals: list[list[float]]) -> list[object]:
    means = [c["mean"] for c in some]
    gaps = [_over(means, rival) if row != name else "" for name, rival in zip(_RIVALS, rivals, strict=True)]
    captions = [c["nearest captions"] for c in some if "nearest captions" in c]
    name = f"`{row.removesuffix('-bytes')}`" + (" in equal bytes" if row.endswith("-bytes") else "")
    name = "`prototypes`, means" if row == "prototype means" else name
    return [
        name, len(some), f"{sum(c['items'] for c in some) / len(some):,.0f}",
        f"{sum(c['bytes'] for c in some) / len(some):,.0f}", mean_and_deviation(summary(means)), *gaps,
        f"{100 * sum(captions) / len(captions):.1f}" if captions else "",
        *(f"{100 * sum(c['metrics'][m] for c in some) / len(some):.1f}" for m in _METRICS),
    ]  # fmt: skip


def _over(means: list[float], rivals: list[float]) -> str:
    """Return the difference, with its interval from two sets on."""
    n = min(len(means), len(rivals))
    return "" if n < 2 else interval(paired_difference(means[:n], rivals[:n]), 100, "+.1f")


def zero_shot(root: Path) -> str:
    """A row for each set of pairs: accuracies by the texts of classes, and what descriptions add to random words."""
    path = root / "results" / "zero_shot.json"
    if not path.exists():
        return "Nothing has been measured yet."
    held = json.loads(path.read_text(encoding="utf-8"))
    rows: list[list[object]] = []
    for data, name in dict.fromkeys(tuple(key.rsplit(" ", 1)[0].split(" ", 1)) for key in held["cells"]):
        cells = [c for n in range(99) if (c := held["cells"].get(f"{data} {name} {n}"))]
        means = {kind: [sum(c["set"][kind]) / len(c["set"][kind]) for c in cells] for kind in _KINDS}
        of_random = [sum(c["random"]["descriptions"]) / len(c["random"]["descriptions"]) for c in cells]
        rows.append([
            data, name if name == "all pairs" else f"`{name}`", len(cells), f"{cells[0]['items']:,}",
            f"{100 / cells[0]['classes']:.1f}", *(mean_and_deviation(summary(means[kind])) for kind in _KINDS),
            _over(means["descriptions"], means["random words"]), _over(means["descriptions"], of_random),
        ])  # fmt: skip
    about = [
        f"Mean of the classes' accuracies in percent: means of {held['students']} students of {held['steps']} updates,",
        "with deviations over sets. *Over random words*: descriptions less random words; *over random pairs*: with",
        "descriptions, the set less as many random pairs; both in points, with the 95 % interval over sets (Student's",
        f"t). {held['machine']['processor']}, one thread, torch",
        f"{held['machine']['torch']}. `benchmarks/zero_shot.py`",
    ]
    head: list[object] = [
        "pictures",
        "set",
        "sets",
        "pairs",
        "chance",
        *_KINDS,
        "over random words",
        "over random pairs",
    ]
    return f"{table(head, rows)}\n\n{' '.join(about)}"
