"""Fairness of small sets of biased pictures: accuracy at uniform values of the attribute and the equalised-odds gap.

    python benchmarks/trust/fairness.py [--ratios 0.95,0.1] [--seeds 5]    # CMNIST-DD of digits
    python benchmarks/trust/fairness.py --bias corruption --seeds 3 --iterations 200 --ratios 0.95 \\
        --rows "all data" "random real samples" "random, drawn by colour" dm "dm, drawn by colour" \\
        --out results/trust/fairness-corruptions.json                      # CCIFAR10-DD of photo-patches

Every seed draws its own colours or corruptions. Each row is a file under ``--folder``, from which an interrupted run
goes on; the summary goes to ``--out``. Nothing is chosen on the test part.
"""

import argparse
import json
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from machine import machine
from photo_patches import photo_patches

import potstill
from potstill.audit.fairness import equalised_odds, odds_by_chance
from potstill.audit.fairness.odds import Cells, make_cells
from potstill.core import Splits
from potstill.data.biased import ccifar10_dd, cmnist_dd
from potstill.diagnostics import make_bench
from potstill.diagnostics.bench import Bench, Condition, TrainingData
from potstill.evaluation.statistics import paired_difference, summary
from potstill.functional.class_weights import group_weights
from potstill.functional.sampling import class_indices

NETWORK = "mlp-w128"
CROPS = (60, 10)
"""Crops of each photograph, to train and to test with."""
ROWS: dict[str, dict[str, Any] | None] = {
    # None: all training data
    "all data": None,
    "all data, weighted by colour": None,
    "random real samples": {"method": "random"},
    "random, drawn by colour": {"method": "random", "real_weights": "attribute"},
    "random, drawn by density": {"method": "random", "real_weights": "density"},
    "dm": {"method": "dm"},
    "dm, drawn by colour": {"method": "dm", "real_weights": "attribute"},
    "dm, drawn by density": {"method": "dm", "real_weights": "density"},
}
"""Rows: how the training set of the students is made."""
PAIRS = (
    ("dm", "all data"), ("dm", "random real samples"), ("dm, drawn by colour", "dm"), ("dm, drawn by density", "dm"),
    ("dm, drawn by colour", "random, drawn by colour"), ("dm, drawn by density", "random, drawn by density"),
    ("dm, drawn by colour", "all data"), ("dm, drawn by colour", "all data, weighted by colour"),
)  # fmt: skip
"""Rows that are compared, by seed."""


def made(row: dict[str, Any], splits: Splits, seed: int, iterations: int) -> potstill.Distilled:
    """Return the set of a row."""
    options: dict[str, Any] = {} if row["method"] == "random" else {
        "network": NETWORK, "iterations": iterations, "steps_per_network": 1, "codec": "uint8"
    }  # fmt: skip
    return potstill.distill(
        splits, ipc=10, seed=seed, progress=None, executor="serial", device="cpu", **row, **options
    )  # fmt: skip


def measured(bench: Bench, cells: Cells, name: str, full_steps: int) -> dict[str, Any]:
    """Return accuracy and gaps of the students of a row, the means over students."""
    condition = bench.distilled_condition()
    if ROWS[name] is None:
        every, real = bench.real.fetch(torch.arange(len(bench.real))), bench.real
        weights = None
        if name != "all data":
            by_class = class_indices(real.labels, len(real.classes))
            weights = group_weights(by_class, real.attribute.codes).float()
            weights = weights / weights.mean()
        data = TrainingData(x=every.x, y=every.y, weights=weights)
        bench = replace(bench, protocol=bench.protocol.change(steps=(full_steps,)))
        condition = Condition(name=name, items=len(real), data_for=lambda _: data)
    labels = bench.eval_source.labels
    outputs = bench.outputs(condition, keep=False)
    correct = [bench.task.predict(o) == labels for o in outputs if o is not None]
    gaps = [equalised_odds(right, cells) for right in correct]
    chance = odds_by_chance(correct, cells, bench.seed, draws=5)
    mean = lambda values: sum(values) / len(values)  # noqa: E731
    return {
        "accuracy": mean([float(right.double().mean()) for right in correct]),
        "gap": mean([gap.mean for gap in gaps]), "largest": mean([gap.max for gap in gaps]), "chance": chance.mean,
        "students": len(correct),
    }  # fmt: skip


def part(values: list[float]) -> dict[str, Any]:
    """Return mean and interval of values in [0, 1]."""
    found = summary(values)
    ends = found["ci95"]
    return found | {"ci95": None if ends is None else [max(0.0, ends[0]), min(1.0, ends[1])]}


def biased(args: argparse.Namespace, ratio: float, seed: int) -> Splits:
    """Return the biased data, the test pictures each with every value."""
    if args.bias == "colour":
        return cmnist_dd(args.data or "digits", ratio=ratio, seed=seed, test="every")
    data = photo_patches(train_crops=CROPS[0], test_crops=CROPS[1]) if args.data is None else args.data
    return ccifar10_dd(data, ratio=ratio, severity=4, seed=seed, test="every")


def cell(path: Path, ratio: float, seed: int, name: str, args: argparse.Namespace) -> dict[str, Any]:
    """Return one row of one seed, from its file or measured anew."""
    if path.exists():
        return dict(json.loads(path.read_text()))
    started = time.monotonic()
    splits = biased(args, ratio, seed)
    row = ROWS[name] or {"method": "random"}
    small = made(row, splits, seed, args.iterations)
    bench = make_bench(
        small, splits, network=NETWORK, eval_split="test", students=args.students, steps=args.steps, lr=0.03, seed=seed,
        most=10_000,
    )  # fmt: skip
    cells = make_cells(bench.eval_source.labels, bench.eval_source.attribute.codes)
    found = measured(bench, cells, name, args.full_steps) | {
        "bytes": None if ROWS[name] is None else small.metadata["bytes"]["total"],
        "train": len(splits.train), "test": len(bench.eval_source), "seconds": round(time.monotonic() - started, 1),
    }  # fmt: skip
    path.write_text(json.dumps(found))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bias", choices=["colour", "corruption"], default="colour")
    parser.add_argument("--data", help="default: digits in colours, or corrupted crops of photographs")
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS), metavar="NAME")
    parser.add_argument("--ratios", default="0.95,0.1")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--students", type=int, default=2)
    parser.add_argument("--steps", type=int, default=180, help="updates of the students of a set")
    parser.add_argument("--full-steps", type=int, default=600, help="updates of the students of all data")
    parser.add_argument("--iterations", type=int, default=300)
    parser.add_argument("--folder", type=Path, default=Path("runs/fairness"))
    parser.add_argument("--out", type=Path, default=Path("results/trust/fairness.json"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    args.folder.mkdir(parents=True, exist_ok=True)
    parts = []
    for ratio in map(float, args.ratios.split(",")):
        found: dict[str, list[dict[str, Any]]] = {name: [] for name in args.rows}
        for seed in range(args.seeds):
            for name in args.rows:
                n = list(ROWS).index(name)
                found[name].append(cell(args.folder / f"{args.bias}-{ratio}-{seed}-{n}.json", ratio, seed, name, args))
                print(ratio, seed, name, found[name][-1], flush=True)
        rows = [
            {
                "row": name.replace("colour", args.bias),
                **{key: part([c[key] for c in of]) for key in ("accuracy", "gap", "largest")},
                "chance": sum(c["chance"] for c in of) / len(of),
                "bytes": None if of[0]["bytes"] is None else sum(c["bytes"] for c in of) / len(of),
            }
            for name, of in found.items()
        ]  # fmt: skip
        pairs = [
            {"row": a.replace("colour", args.bias), "other": b.replace("colour", args.bias), **{
                key: paired_difference([c[key] for c in found[a]], [c[key] for c in found[b]])
                for key in ("accuracy", "gap")
            }}
            for a, b in PAIRS
            if a in found and b in found
        ]  # fmt: skip
        first = found["dm"][0]
        parts.append({"ratio": ratio, "rows": rows, "pairs": pairs, "train": first["train"], "test": first["test"]})
        for row in rows:
            print(ratio, row["row"], row["accuracy"]["mean"], row["accuracy"]["ci95"], row["gap"]["mean"],
                  row["gap"]["ci95"], "by chance", row["chance"])  # fmt: skip
        for pair in pairs:
            print(ratio, pair["row"], "minus", pair["other"], pair["accuracy"], pair["gap"])
    settings = {
        key: getattr(args, key) for key in ("bias", "seeds", "students", "steps", "full_steps", "iterations")
    } | {"data": args.data or ("digits" if args.bias == "colour" else "photo-patches")}  # fmt: skip
    args.out.parent.mkdir(parents=True, exist_ok=True)
    stamp = {"settings": {**settings, "network": NETWORK, "ipc": 10}, "machine": machine()}
    args.out.write_text(json.dumps({**stamp, "parts": parts}, indent=1) + "\n")


if __name__ == "__main__":
    main()
