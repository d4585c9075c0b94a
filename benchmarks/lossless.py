"""The smallest set that trains as well as all data, by DATM: bundled digits, beside random samples with soft labels.

    python benchmarks/lossless.py [--ipc 5 10 20 50] [--sets 3]

`datm` (flat experts, learned labels, stretches as hard as the set is large) makes ``--sets`` sets of each size in
``--steps`` steps; ``random-soft`` has the same bytes, drawn as often. Both train ``--students`` networks by the
protocol ``potstill``, which chooses rate and length on validation data cut from the training data; the full data train
the same network as the scorecard's reference. A size is called lossless where the 95 % interval over sets (Student's
t) contains the mean of the full data. Test data are read by the final students alone. results/lossless.json.
"""

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from machine import machine

import potstill
from potstill.evaluation.statistics import summary


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="digits")
    parser.add_argument("--network", default="convnet-d2-w32")
    parser.add_argument("--ipc", type=int, nargs="+", default=[5, 10, 20, 50])
    parser.add_argument("--sets", type=int, default=3)
    parser.add_argument("--students", type=int, default=3)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--experts", type=int, default=4)
    parser.add_argument("--epochs", type=int, default=30, help="of an expert")
    parser.add_argument("--out", type=Path, default=Path("results/lossless.json"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    data = potstill.load_data(args.data)
    found: dict[str, Any] = {"machine": machine(), "settings": {k: str(v) for k, v in vars(args).items()}, "cells": []}
    for ipc in args.ipc:
        for method in ("datm", "random-soft"):
            found["cells"].append(cell(args, data, ipc, method))
            args.out.parent.mkdir(parents=True, exist_ok=True)
            args.out.write_text(json.dumps(found, indent=1) + "\n")


def cell(args: argparse.Namespace, data: Any, ipc: int, method: str) -> dict[str, Any]:
    """Sets of a size by a method, and what students and the full data reach."""
    options: dict[str, Any] = {}
    if method == "datm":
        options = {
            "effort": "quick", "iterations": args.steps, "networks_trained": args.experts,
            "epochs_trained": args.epochs,
        }  # fmt: skip
    begun = time.process_time()
    # What ipc pictures weigh with a row of labels each: where all methods get their bytes from.
    size = ipc * len(data.train.classes) * 4 * (data.train.input.numbers + len(data.train.classes))
    sets, full = [], []
    for seed in range(args.sets):
        small = potstill.distill(
            data, method, bytes=size, seed=seed, network=args.network, progress=None, store="float32", **options
        )
        score = potstill.evaluate(
            small, data, network=args.network, seeds=args.students, seed=seed, baselines=False, full=True
        ).to_dict()
        sets.append(score["accuracy"]["mean"])
        full.append(score["full"]["accuracy"]["mean"])
    over, reference = summary(sets), statistics.fmean(full)
    low, high = over["ci95"]
    made = {
        "method": method, "ipc": ipc, "bytes": size, "items": len(small), "sets": sets, "mean": over["mean"],
        "ci95": over["ci95"], "full": full, "full_mean": reference, "lossless": low <= reference <= high,
        "seconds": round(time.process_time() - begun, 1),
    }  # fmt: skip
    print({k: v for k, v in made.items() if k != "sets"}, flush=True)
    return made


if __name__ == "__main__":
    main()
