"""Point clouds, a kind from outside: SADM's parts beside random clouds, plain `dm` and coded real clouds.

    pip install ./examples/outside
    python benchmarks/point_clouds.py [--sets 3] [--folder runs/points]
    python benchmarks/point_clouds.py --show

Clouds of 64 points on eight solids, stretched and turned about the vertical axis by any angle, with noise, are
generated (`examples/outside/tests/shapes.py`): 60 of each for training, 40 for testing; no real clouds were at hand.
Sets have one cloud of each class (``--each`` for more) in 4 bits; ``coded real`` are the best coded real clouds in the
bytes of the ``sadm`` set, chosen on training clouds alone; ``16 points`` and ``32 points`` are random real clouds with
so few points, as many as fit there; and ``random`` are as many clouds as a set has. ``dm`` matches the largest value of
each channel, ``sorted`` all values of each channel in falling order (SADM's loss), and ``sadm`` learns turns as well.
All make 200 updates; the rate of each is chosen among 0.1, 1, 3 and 10 by one set of a seed of its own, scored on a
fifth of the training clouds.

Students: `point-net`, which was matched, and `edge-net`, which was not: 600 updates, one rate, with turns and jitter as
augmentation, no choice by test data. Every cell is a file under ``--folder``; the summary is results/point_clouds.json.
"""

import argparse
import json
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "examples" / "outside" / "tests"))
from machine import machine
from shapes import SHAPES, write_shapes

import potstill
from potstill.core import Splits
from potstill.data import holdout
from potstill.evaluation.statistics import paired_difference, summary

TRAIN, TEST = 60, 40
NETWORKS = ("point-net", "edge-net")
RECIPE: dict[str, Any] = {"lr": 0.03, "steps": 600, "batch": 64, "augment": "turn"}
STEPS, RATES, CHOICE_SEED = 200, (0.1, 1.0, 3.0, 10.0), 99
WAYS: dict[str, dict[str, Any]] = {
    "dm": {"network": "point-net"},
    "sorted": {"network": "sorted-point-net"},
    "sadm": {"network": "sorted-point-net", "parametrization": "turned"},
}
THINNED = {"16 points": 16, "32 points": 32}
"""Points of a real cloud that rows of fewer points keep."""
ROWS = ("random", *WAYS, "coded real", *THINNED)
QUIET: dict[str, Any] = {"progress": None, "device": "cpu", "executor": "serial"}


def read(folder: Path) -> Splits:
    train = potstill.load_data(write_shapes(folder / "train", TRAIN, seed=0), test_fraction=0.0).train
    test = potstill.load_data(write_shapes(folder / "test", TEST, seed=1), test_fraction=0.0).train
    return Splits(train=train, test=test)


def made(splits: Splits, row: str, each: int, rate: float, seed: int) -> potstill.Distilled:
    """Return a set; the angles of ``sadm`` take a few numbers, so its budget is that of one cloud more."""
    if row == "random":
        return potstill.distill(splits, "random", ipc=each, seed=seed, codec="uint4", **QUIET)
    small = potstill.distill(
        splits, "dm", seed=seed, codec="uint4", steps=STEPS, lr=rate, batch_real=8, augment="none",
        ipc=each + (row == "sadm"), **WAYS[row], **QUIET,
    )  # fmt: skip
    assert len(small) == len(SHAPES) * each
    return small


def thinned(splits: Splits, points: int, size: int, seed: int) -> tuple[potstill.Distilled, int]:
    """Return as many random clouds as fit into ``size`` bytes with so few points in 4 bits, and their bytes.

    Students see every point as often as it takes to have as many as a whole cloud.
    """
    train = splits.train
    x = train.raw(torch.arange(len(train)))[:, :, :points].contiguous()  # a loaded cloud's points are in random order
    few = replace(train, inputs=x, input=replace(train.input, shape=(3, points)))
    for each in range(size // (len(SHAPES) * points * 3 // 2) + 1, 0, -1):
        small = potstill.distill(Splits(train=few, test=None), "random", ipc=each, seed=seed, codec="uint4", **QUIET)
        if (taken := small.metadata["bytes"]["total"]) <= size:
            break
    whole = replace(train, inputs=small.inputs.repeat_interleave(64 // points, 2), labels=small.labels)
    return potstill.distill(Splits(train=whole, test=None), "random", ipc=each, codec="exact", **QUIET), taken


def score(small: potstill.Distilled, splits: Splits, network: str, students: int) -> float:
    card = potstill.evaluate(
        small, splits, networks=network, seeds=students, baselines=False, full=False, robust_scores=False, **RECIPE,
        **QUIET,
    )  # fmt: skip
    return float(card.to_dict()["score"]["mean"])


def measure(small: potstill.Distilled, splits: Splits, students: int) -> dict[str, Any]:
    scores = {n: score(small, splits, n, students) for n in NETWORKS}
    return {"bytes": small.metadata["bytes"]["total"], "items": len(small), "scores": scores}


def cell(folder: Path, key: str, make: Any) -> Any:
    path = folder / f"{key}.json"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(make()) + "\n")
        print(key, path.read_text().strip(), flush=True)
    return json.loads(path.read_text())


def try_rates(args: argparse.Namespace, splits: Splits, row: str, each: int) -> dict[str, float]:
    """Return the accuracy on held-out training clouds by rate."""
    inner, held = holdout(splits.train, 0.2, CHOICE_SEED)
    trial = Splits(train=inner, test=held)
    return {
        f"{rate:g}": cell(
            args.folder, f"{each}-{row}-rate-{rate:g}",
            lambda r=rate: score(made(trial, row, each, r, CHOICE_SEED), trial, NETWORKS[0], 2),
        )
        for rate in RATES
    }  # fmt: skip


def summaries(args: argparse.Namespace, splits: Splits, each: int) -> dict[str, Any]:
    cells: dict[str, list[dict[str, Any]]] = {row: [] for row in ROWS}
    tried = {row: try_rates(args, splits, row, each) for row in WAYS}
    rates = {row: float(max(of, key=of.__getitem__)) for row, of in tried.items()}
    for seed in range(args.sets):
        for row in ROWS:

            def make(row: str = row, seed: int = seed) -> dict[str, Any]:
                if row in THINNED:
                    few, taken = thinned(splits, THINNED[row], cells["sadm"][seed]["bytes"], seed)
                    return measure(few, splits, args.students) | {"bytes": taken}
                if row == "coded real":
                    size = cells["sadm"][seed]["bytes"]
                    small = potstill.distill(splits, "real", bytes=size, network=NETWORKS[0], seed=seed, **QUIET)
                else:
                    small = made(splits, row, each, rates.get(row, 0.0), seed)
                return measure(small, splits, args.students)

            cells[row].append(cell(args.folder, f"{each}-{row}-{seed}", make))
    assert splits.test is not None
    rows: dict[str, Any] = {}
    for row, of in cells.items():
        rows[row] = {
            "bytes": sum(c["bytes"] for c in of) / len(of), "items": sum(c["items"] for c in of) / len(of),
            "lr": rates.get(row), **({"rates": tried[row]} if row in tried else {}),
            "scores": {n: summary([c["scores"][n] for c in of], len(splits.test)) for n in NETWORKS},
        }  # fmt: skip
        for other in ("random", "coded real", *THINNED):
            if row in WAYS and len(of) > 1:
                pairs = {n: [[c["scores"][n] for c in cells[r]] for r in (row, other)] for n in NETWORKS}
                rows[row][f"over {other}"] = {n: paired_difference(*pairs[n]) for n in NETWORKS}
    return rows


def _text(score: Mapping[str, Any]) -> str:
    ends = score["ci95"]
    return f"{100 * score['mean']:.1f}" + ("" if ends is None else f" [{100 * ends[0]:.1f}, {100 * ends[1]:.1f}]")


def show(found: Mapping[str, Any]) -> None:
    for each, rows in found["rows"].items():
        print(f"{each} clouds of each class; all training clouds: {found['full']}")
        for row, of in rows.items():
            values = "  ".join(f"{n} {_text(s)}" for n, s in of["scores"].items())
            print(f"  {row:<12}{of['bytes']:>7,.0f} B {of['items']:>5.0f} clouds  {values}  lr {of['lr']}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", type=int, default=3)
    parser.add_argument("--students", type=int, default=3)
    parser.add_argument("--each", type=int, nargs="+", default=[1])
    parser.add_argument("--folder", type=Path, default=Path("runs/points"))
    parser.add_argument("--out", type=Path, default=Path("results/point_clouds.json"))
    parser.add_argument("--show", action="store_true", help="print the stored result")
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.show:
        show(json.loads(args.out.read_text()))
        return
    splits = read(args.folder)
    whole = potstill.distill(splits, "random", ipc=TRAIN, codec="exact", **QUIET)
    full = cell(args.folder, "full", lambda: measure(whole, splits, args.students)["scores"])
    rows = {str(each): summaries(args, splits, each) for each in args.each}
    found = {"rows": rows, "full": full, "sets": args.sets, "students": args.students, "machine": machine()}
    args.out.write_text(json.dumps(found, indent=1) + "\n")
    show(found)


if __name__ == "__main__":
    main()
