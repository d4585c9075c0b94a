"""Which quick settings of trajectory matching suit small data: chosen on held-out training data, never on test data.

    python benchmarks/small_data.py [--data digits] [--methods mtt datm] [--ipc 5] [--sets 1] [--held 0.25]

Every arm makes ``--sets`` sets of ``--ipc`` float32 inputs a class (labels paid) from the other part of the training
data, and ``--students`` networks are trained on each by protocol `potstill` and tested on the held-out part; real
random samples of the same bytes stand beside. ``updates`` is `min_updates_per_epoch`, the fewest updates of an expert's
epoch; 0 is what these settings were before it existed. Results: results/small-data.json, after every cell.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from machine import machine

import potstill
from potstill.core import Splits
from potstill.core.registry import resolve
from potstill.data import TensorSource, holdout
from potstill.evaluation import evaluate
from potstill.execution import Serial

BEFORE: dict[str, Any] = {
    "num_experts": 3, "train_epochs": 8, "iterations": 150, "expert_epochs": 2, "student_steps": 15, "lr": 1000.0,
    "lr_lr": 1e-5, "lr_labels": 2.0,
}  # fmt: skip
OWN: dict[str, dict[str, Any]] = {"mtt": {"init_from": "k-means"}, "datm": {"expansion_end": 50}}
"""The quick settings that the methods had first; arms differ from these."""
NEAR = {"min_updates_per_epoch": 80, "expert_epochs": 1, "student_steps": 30}
"""Experts that learn, and an end that a student can reach."""
ADAM = {"optimizer": "adamw", "lr_labels": 0.05}
ARMS: dict[str, dict[str, Any]] = {
    "updates 0": {"min_updates_per_epoch": 0},
    "updates 40": {"min_updates_per_epoch": 40},
    "updates 80": {"min_updates_per_epoch": 80},
    "updates 80, lr 100": {"min_updates_per_epoch": 80, "lr": 100.0},
    "updates 80, lr 10": {"min_updates_per_epoch": 80, "lr": 10.0},
    "updates 80, lr 10, ahead 1, steps 30": {**NEAR, "lr": 10.0},
    "updates 80, ahead 1, steps 30": NEAR,
    "near, adamw 0.01": {**NEAR, **ADAM, "lr": 0.01},
    "near, adamw 0.03": {**NEAR, **ADAM, "lr": 0.03},
    "near, adamw 0.1": {**NEAR, **ADAM, "lr": 0.1},
    "adamw 0.03": {**ADAM, "lr": 0.03},
}
"""What differs from them. The quick settings of now are ``near, adamw 0.03``."""
GOOD: dict[str, dict[str, Any]] = {
    "good, sgd": {
        "effort": "good", "optimizer": "sgd", "min_updates_per_epoch": 0, "lr": 1000.0, "lr_labels": 2.0,
        "expert_epochs": 2,
        "student_steps": 50,
    },
    "good, adamw 0.03": {"effort": "good", **ADAM, "min_updates_per_epoch": 80, "lr": 0.03, "expert_epochs": 2,
        "student_steps": 50},
    "good, near, adamw 0.03": {
        "effort": "good", **NEAR, **ADAM, "lr": 0.03, "lr_lr": 1e-5, "train_epochs": 25,
    },
    "good, near, adamw 0.03, experts of 8 epochs": {
        "effort": "good", **NEAR, **ADAM, "lr": 0.03, "lr_lr": 1e-5, "train_epochs": 8,
    },
}  # fmt: skip
"""Of the effort ``good``, whose experts and steps are more; the first is nearly what it was on data as small, the last
what it is."""
ALL = {**ARMS, **GOOD}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="digits")
    parser.add_argument("--methods", nargs="+", choices=list(OWN), default=list(OWN))
    parser.add_argument("--arms", nargs="+", choices=list(ALL), help="those of quick, where none is named")
    parser.add_argument("--ipc", type=int, default=5)
    parser.add_argument("--sets", type=int, default=1)
    parser.add_argument("--students", type=int, default=2)
    parser.add_argument("--held", type=float, default=0.25)
    parser.add_argument("--network", default="convnet-d3-w32")
    parser.add_argument("--out", type=Path, default=Path("results/small-data.json"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    data = potstill.load_data(args.data)
    assert isinstance(data.train, TensorSource)
    train, held = holdout(data.train, args.held, 0)
    classes, numbers = len(train.classes), torch.Size(train.input.shape).numel()
    protocol = resolve("protocols", "potstill").override(steps=300, least_epochs=0, batch=128, lr=0.03, validation=0.0)
    kept: dict[str, Any] = json.loads(args.out.read_text()) if args.out.exists() else {"cells": {}}
    kept["machine"] = machine()
    todo = [("random", "as it is", {})]
    todo += [(method, arm, ALL[arm]) for method in args.methods for arm in args.arms or ARMS]
    for method, arm, options in todo:
        key = f"{args.data}|{args.ipc}|{method}|{arm}"
        if key in kept["cells"]:
            continue
        values, seconds, losses = [], [], []
        for seed in range(args.sets):
            basis = {} if arm in GOOD or method == "random" else {**BEFORE, **OWN[method]}
            given = options if method == "random" else {"network": args.network, **basis, **options}
            small = potstill.distill(
                Splits(train=train, test=None), method=method, bytes=args.ipc * classes * 4 * (numbers + classes),
                seed=seed, codec="float32", device="cpu", executor="serial", progress=None, **given,
            )  # fmt: skip
            found = evaluate(
                small, Splits(train=train, test=held), protocol=protocol, networks=[args.network],
                seeds=args.students, seed=seed, baselines=False, full=False, robust_scores=False, executor=Serial(),
            ).to_dict()  # fmt: skip
            values.append(found["accuracy"]["values"])
            cost = small.metadata["cost"]
            seconds.append(cost["seconds"] + cost["preparation_seconds"])
            losses.append([h["loss"] for h in small.history if "loss" in h][-3:])
        kept["cells"][key] = {
            "values_of_sets": values, "seconds": seconds, "last_losses": losses,
            "options": {k: str(v) for k, v in options.items()}, "samples": len(train), "held": len(held),
        }  # fmt: skip
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(kept, indent=1) + "\n")
        shown = " ".join("/".join(f"{100 * v:.1f}" for v in vs) for vs in values)
        print(f"{key}: {shown}; {seconds[0]:.0f} s", flush=True)


if __name__ == "__main__":
    main()
