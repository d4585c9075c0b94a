"""A generator as the set: what a method over it and more draws are worth.

    python benchmarks/generator_as_set.py [--data fashion-mnist] [--bytes 4000] [--sets 3]
    python benchmarks/generator_as_set.py --show

Rows: the generator as it starts (``--steps 0``), 500 pictures of each class drawn from it; and the same after 250 steps
of ``dm``, with 10, 50 and 500 pictures of each class drawn (`potstill.resample`). Every set has a generator of its own:
its seed is the set's. ``real`` is the method of that name in the same budget: coded real pictures, searched on held-out
training data, another draw and search for each set.

Students are the same for all rows: batch 128, 600 updates, one learning rate, no choice by test data. A score is the
mean over students. ``planned_bytes`` is 1.3 times the budget, as coded weights take less than their bits; what was
written is counted. Results go to results/generator_as_set.json after every cell; what is there is not made again.
"""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from machine import machine

import potstill
from potstill.core import Splits
from potstill.evaluation.statistics import paired_difference, summary

NETWORKS = ("convnet-d3-w32", "mlp-w128")
RECIPE: dict[str, Any] = {"lr": 0.03, "steps": 600, "batch": 128}
STEPS, PLANNED = 250, 1.3
DRAWS = {"start 500": 500, "dm 10": 10, "dm 50": 50, "dm 500": 500}
"""Pictures of each class by row."""
REAL = "real"
ROWS = (*DRAWS, REAL)


def made(splits: Splits, size: int, seed: int, steps: int) -> potstill.Distilled:
    return potstill.distill(
        splits, "dm", parametrization=f"generator:seed={seed},dim=16", codec="uint4:aware=true", network=NETWORKS[0],
        bytes=size, planned_bytes=int(PLANNED * size), steps=steps, seed=seed, progress=None, device="cpu",
        executor="serial",
    )  # fmt: skip


def coded_real(splits: Splits, size: int, seed: int) -> potstill.Distilled:
    return potstill.distill(
        splits, "real", network=NETWORKS[0], bytes=size, seed=seed, progress=None, device="cpu", executor="serial"
    )


def score(small: potstill.Distilled, splits: Splits, network: str, students: int) -> float:
    card = potstill.evaluate(
        small, splits, networks=network, seeds=students, baselines=False, full=False, progress=None, device="cpu",
        executor="serial", robust_scores=False, **RECIPE,
    )  # fmt: skip
    return float(card.to_dict()["score"]["mean"])


def measure(small: potstill.Distilled, splits: Splits, students: int) -> dict[str, Any]:
    return {
        "bytes": small.metadata["bytes"]["total"], "items": len(small), "seconds": small.metadata["cost"]["seconds"],
        "scores": {n: score(small, splits, n, students) for n in NETWORKS},
    }  # fmt: skip


def summaries(cells: Mapping[str, Any], sets: int, test: int) -> dict[str, Any]:
    """Return each row's means, and its differences from the generator's start and from real pictures over sets that
    both have.
    """
    rows: dict[str, Any] = {}
    for row in ROWS:
        seeds = [seed for seed in range(sets) if f"{row} {seed}" in cells]
        if not seeds:
            continue
        of = [cells[f"{row} {seed}"] for seed in seeds]
        rows[row] = {
            "bytes": sum(c["bytes"] for c in of) / len(of), "items": of[0]["items"],
            "scores": {n: summary([c["scores"][n] for c in of], test) for n in NETWORKS},
        }  # fmt: skip
        for name, other in (("over start", next(iter(DRAWS))), ("over real", REAL)):
            both = [seed for seed in seeds if f"{other} {seed}" in cells]
            if row not in (other, REAL) and len(both) > 1:
                rows[row][name] = {
                    n: paired_difference(*([cells[f"{r} {s}"]["scores"][n] for s in both] for r in (row, other)))
                    for n in NETWORKS
                }
    return rows


def show(found: Mapping[str, Any]) -> None:
    for name, part in found["data"].items():
        print(f"{name}, {part['budget']:,} bytes")
        for row, of in part["rows"].items():
            scores = "  ".join(
                f"{n} {100 * of['scores'][n]['mean']:.1f} (n {of['scores'][n]['n']})" for n in NETWORKS
            )  # fmt: skip
            print(f"  {row:<10}{of['bytes']:>8,.0f} bytes {of['items']:>7,.0f} items  {scores}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="fashion-mnist")
    parser.add_argument("--bytes", type=int, default=4000)
    parser.add_argument("--sets", type=int, default=3)
    parser.add_argument("--students", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("results/generator_as_set.json"))
    parser.add_argument("--show", action="store_true", help="print the stored result")
    args = parser.parse_args()
    torch.set_num_threads(1)
    found: dict[str, Any] = json.loads(args.out.read_text()) if args.out.exists() else {"data": {}}
    if args.show:
        show(found)
        return
    splits = potstill.load_data(args.data)
    assert splits.test is not None
    part = found["data"].setdefault(
        f"{args.data}-{args.bytes}", {"name": args.data, "budget": args.bytes, "cells": {}, "students": args.students}
    )
    for seed in range(args.sets):
        missing = [row for row in ROWS if f"{row} {seed}" not in part["cells"]]
        base = {
            steps: made(splits, args.bytes, seed, steps)
            for steps in {0 if "start" in row else STEPS for row in missing if row != REAL}
        }
        for row in missing:
            small = (
                coded_real(splits, args.bytes, seed)
                if row == REAL
                else potstill.resample(base[0 if "start" in row else STEPS], DRAWS[row], seed=seed)
            )
            part["cells"][f"{row} {seed}"] = measure(small, splits, args.students)
            part["rows"] = summaries(part["cells"], args.sets, len(splits.test))
            found["machine"] = machine()
            args.out.write_text(json.dumps(found, indent=1) + "\n")
            print(row, seed, part["cells"][f"{row} {seed}"], flush=True)
    show(found)


if __name__ == "__main__":
    main()
