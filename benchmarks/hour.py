"""What an hour makes of a set at 4 kB, and what stops it: an ablation of time, bits, labels, positions and networks.

    python benchmarks/hour.py make  --data fashion-mnist --arm base --seconds 3600
    python benchmarks/hour.py make  --data fashion-mnist --arm hard --seconds 300
    python benchmarks/hour.py make  --data fashion-mnist --arm base --steps 20000 --device cuda --out results/hour/long
    python benchmarks/hour.py real  --data fashion-mnist
    python benchmarks/hour.py table

**Arms** (`ARMS`) change one choice of ``base``, which is the arm `rate` of `benchmarks/frontier.py`: `frepo` over 64
cosine positions that all inputs share, learned scores, and a price for bits. Each has ``--seconds`` of one core
for its steps; a short run says what a step costs and how many inputs fill the bytes.

``real`` are the best coded real samples of the same bytes, searched on the training data with each student's own
network (`potstill.evaluation.real_sets`).

Every arm is scored on test data by ``--students`` fresh networks of widths 32 and 128 (300 updates, batch 128), and all
arms are printed: nothing is chosen here. Results: results/hour/DATA-BYTES.json, where cells are added; with ``--steps``
and ``--out results/hour/long`` sets of so many steps, in the table with their steps and the seconds that these took.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from frontier import COSINE, RATE, STUDENTS, Bench

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tools.docs import hour  # noqa: E402

BASE: dict[str, Any] = {**COSINE, "codec": RATE}
MORE: dict[str, Any] = {"parametrization": "shared-frequency:positions=144"}
ARMS: dict[str, dict[str, Any]] = {
    "base": BASE,
    "no-price": {**BASE, "codec": "step:width=1.0,aware=False"},
    "hard": {**BASE, "labels": "hard"},
    "positions-36": {**BASE, "parametrization": "shared-frequency:positions=36"},
    "positions-144": {**BASE, **MORE},
    "positions-256": {**BASE, "parametrization": "shared-frequency:positions=256"},
    "pixels-2-bits": {**BASE, "parametrization": "pixels", "codec": "uint2"},
    "half-2-bits": {**BASE, "parametrization": "pixels", "codec": "half:bits=2"},
    "width-32": {**BASE, "network": "convnet-d3-w32"},
    "width-128": {**BASE, "network": "convnet-d3-w128"},
    "one-move": {**BASE, "steps_per_network": 1},
    "small-rate": {**BASE, "lr": 0.003, "lr_labels": 0.001},
    "augment": {**BASE, "augment": "dsa"},
    "rate-low": {**BASE, "codec": "step:width=1.2,rate=0.003"},
    "rate-high": {**BASE, "codec": "step:width=1.2,rate=0.03"},
    "positions-144-128": {**BASE, **MORE, "network": "convnet-d3-w128"},
    "positions-144-small-rate": {**BASE, **MORE, "lr": 0.003, "lr_labels": 0.001},
    "positions-144-augment": {**BASE, **MORE, "augment": "dsa"},
}
"""Each changes one choice of ``base``, the last three two."""
NETWORKS = ("convnet-d3-w32", "convnet-d3-w128")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["make", "real", "table"])
    parser.add_argument("--data", default="fashion-mnist", help="a name, or a path that Potstill reads")
    parser.add_argument("--label", help=argparse.SUPPRESS)
    parser.add_argument("--bytes", type=int, default=4000)
    parser.add_argument("--arm", choices=list(ARMS), nargs="+", default=["base"])
    parser.add_argument("--seconds", type=float, default=300.0, help="of one core, for the steps of a set")
    parser.add_argument("--steps", type=int, help="of a set, in place of seconds")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--students", type=int, default=3)
    parser.add_argument("--cache", type=Path, default=Path(".hour"))
    parser.add_argument("--out", type=Path, default=Path("results/hour"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.what == "table":
        print(hour.ablation(ROOT))
        return
    args.cache.mkdir(parents=True, exist_ok=True)
    args.out.mkdir(parents=True, exist_ok=True)
    bench = Hour(args)
    if args.what == "real":
        bench.real()
        return
    for arm in args.arm:
        for seed in args.seeds:
            bench.arm(arm, seed)


class Hour(Bench):
    """The sets of one data set and one number of bytes."""

    def __init__(self, args: argparse.Namespace) -> None:
        super().__init__(args)
        self.arms = {"image": ARMS}
        self.path = args.out / f"{self.name}-{args.bytes}.json"
        self.found: dict[str, Any] = (
            json.loads(self.path.read_text())
            if self.path.exists()
            else {"data": self.name, "bytes": args.bytes, "cells": {}}
        )

    def arm(self, arm: str, seed: int) -> None:
        small = self.distilled(self.args.bytes, arm, seed)
        pair = self.pair(small)
        for network in NETWORKS:
            self.once(f"{arm}|{self.args.steps or round(self.args.seconds)}|{seed}|{network}", lambda n=network: {
                "accuracy": self.accuracy(n, self.test, [pair])[0], "bytes": small.metadata["bytes"]["total"],
                "items": len(small), "steps": small.metadata["cost"]["steps"], "students": self.args.students,
                "clock": small.metadata["cost"]["seconds"], "codec": small.metadata["codec"]["name"],
            })  # fmt: skip

    def real(self) -> None:
        """Coded real samples: searched and scored with each network."""
        for network in NETWORKS:

            def measured(network: str = network) -> dict[str, Any]:
                STUDENTS[self.kind] = (network,)
                search = self.search(self.args.bytes)
                trial = search.chosen()
                made = search.make(trial, self.args.students)
                scores = self.accuracy(network, self.test, list(made.pairs))
                return {
                    **trial.way.to_dict(), "accuracy": float(np.mean(scores)), "sets": scores, "items": made.items,
                    "bytes": made.bytes, "students": self.args.students, "tried": len(search.trials),
                }  # fmt: skip

            self.once(f"real|{network}", measured)


if __name__ == "__main__":
    main()
