"""How small a set can be that trains as well as all the data: DATM beside random samples with soft labels, same bytes.

    python benchmarks/lossless.py [--data digits] [--ipc 2 5 10 20 40] [--sets 3] [--students 3]

For each size both sets are made ``--sets`` times and ``--students`` networks are trained on each by protocol
`potstill`; the same protocol trains as many networks on the full data. Soft labels are paid: both have the bytes of
``--ipc`` float32 inputs and a row of labels each. A size is called lossless where the interval of the difference,
full data less set (Student's t over sets, Welch), contains zero or lies below it: an interval of few sets is wide, so
the difference itself stands beside it. Nothing is chosen here. Results: results/lossless-DATA.json, after every cell.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from machine import machine
from scipy import stats

import potstill
from potstill.core.registry import resolve
from potstill.evaluation import evaluate
from potstill.execution import Serial

METHODS: dict[str, dict[str, Any]] = {
    "datm": {"effort": "quick"},
    "datm-before": {
        "effort": "quick", "min_updates_per_epoch": 0, "expert_epochs": 2, "student_steps": 15, "optimizer": "sgd",
        "lr": 1000.0,
        "lr_labels": 2.0,
    },
    "random-soft": {},
    "random": {},
}  # fmt: skip
"""Under comparison. ``datm-before`` are the quick settings that it had first, which are of larger data: an epoch of
1,400 samples in batches of 256 is six updates, so its experts hardly learn and its labels say nothing. Those of now
were chosen on held-out training data (`small_data.py`)."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="digits")
    parser.add_argument("--ipc", type=int, nargs="+", default=[2, 5, 10, 20, 40])
    parser.add_argument("--only", nargs="+", choices=list(METHODS))
    parser.add_argument("--sets", type=int, default=3)
    parser.add_argument("--students", type=int, default=3)
    parser.add_argument("--network", default="convnet-d3-w32")
    parser.add_argument("--updates", type=int, default=300)
    parser.add_argument("--out", type=Path, default=Path("results"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    data = potstill.load_data(args.data)
    out = args.out / f"lossless-{args.data}.json"
    kept: dict[str, Any] = {"machine": machine(), "options": vars(args) | {"out": ""}, "full": [], "cells": {}}
    if out.exists():
        kept = json.loads(out.read_text())
    protocol = resolve("protocols", "potstill").override(
        steps=args.updates, least_epochs=0, batch=128, lr=0.03, validation=0.0
    )
    numbers = torch.Size(data.train.input.shape).numel()
    classes = len(data.train.classes)
    for ipc in args.ipc:
        for name in args.only or METHODS:
            options = METHODS[name]
            values, sizes, seconds = [], [], []
            for seed in range(args.sets):
                network = {} if name == "random" else {"network": args.network}
                small = potstill.distill(
                    data, method=name.removesuffix("-before"), bytes=ipc * classes * 4 * (numbers + classes), seed=seed,
                    codec="float32", device="cpu", executor="serial", progress=None, **network, **options,
                )  # fmt: skip
                need = len(kept["full"]) < args.sets
                found = evaluate(
                    small, data, protocol=protocol, networks=[args.network], seeds=args.students, seed=seed,
                    baselines=False, full=need, robust_scores=False, executor=Serial(),
                ).to_dict()  # fmt: skip
                values.append(found["accuracy"]["mean"])
                if need:
                    kept["full"].append(found["full"]["mean"])
                sizes.append([len(small), small.metadata["bytes"]["total"]])
                seconds.append(small.metadata["cost"]["seconds"] + small.metadata["cost"]["preparation_seconds"])
            behind = difference(kept["full"], values)
            kept["cells"][f"{name}|{ipc}"] = {
                "values_of_sets": values, "inputs_and_bytes": sizes, "seconds": seconds, "behind_full": behind,
            }  # fmt: skip
            out.parent.mkdir(parents=True, exist_ok=True)
            out.write_text(json.dumps(kept, indent=1) + "\n")
            shown = ", ".join(f"{100 * v:+.1f}" for v in behind)
            mean = 100 * sum(values) / len(values)
            print(f"{ipc:3} {name:12} {mean:5.1f} behind full {shown} {sizes[0]} {seconds[0]:.0f} s", flush=True)
    print(f"full {[round(100 * v, 1) for v in kept['full']]}")


def difference(full: list[float], values: list[float]) -> tuple[float, float, float]:
    """Full data less the set: the difference of means and Welch's 95 % interval, as fractions."""
    a, b = torch.tensor(full, dtype=torch.float64), torch.tensor(values, dtype=torch.float64)
    gap = float(a.mean() - b.mean())
    if len(full) < 2 or float(a.var() + b.var()) == 0:
        return gap, gap, gap
    found = stats.ttest_ind(full, values, equal_var=False).confidence_interval(0.95)
    return gap, float(found.low), float(found.high)


if __name__ == "__main__":
    main()
