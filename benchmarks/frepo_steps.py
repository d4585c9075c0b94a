"""Whether FRePo does better in equal CPU time if a network and a real batch serve several moves: `steps_per_network`.

    python benchmarks/frepo_steps.py [--data digits] [--arms 1 4] [--sets 5] [--seconds 15] [--students 3]

Each arm makes as many moves as fit ``--seconds`` of the process's own CPU time, by the pace of a few moves that are
measured first; the arms take turns within each set, so that what else the machine does falls on all alike. Students are
tested on a held-out quarter of the training data, never on test data. The difference to the first arm stands with its
95 % interval over the sets (paired Student's t); the default is changed only where that excludes zero. Result:
results/frepo_steps.json.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch
from machine import machine
from scipy import stats

import potstill
from potstill.core import Splits
from potstill.data.splits import holdout
from potstill.evaluation import evaluate
from potstill.execution import Serial
from potstill.registry import resolve


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="digits")
    parser.add_argument("--arms", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--sets", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=15.0)
    parser.add_argument("--students", type=int, default=3)
    parser.add_argument("--network", default="convnet-w32-nonorm")
    parser.add_argument("--out", type=Path, default=Path("results/frepo_steps.json"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    train, held = holdout(potstill.load_data(args.data).train, 0.25, 0)
    protocol = resolve("protocols", "potstill").override(steps=300, least_epochs=0, batch=128, lr=0.03, validation=0.0)

    def made(arm: int, seed: int, moves: int) -> tuple[Any, float]:
        begun = time.process_time()
        small = potstill.distill(
            Splits(train=train, test=None), method="frepo", effort="quick", ipc=1, seed=seed, network=args.network,
            steps_per_network=arm, iterations=moves, device="cpu", executor="serial", progress=None,
        )  # fmt: skip
        return small, time.process_time() - begun

    paces = {}
    for arm in args.arms:
        made(arm, 0, 8)  # what is made once is made
        few, many = made(arm, 0, 8)[1], made(arm, 0, 88)[1]
        paces[arm] = 80 / (many - few)
    print({arm: f"{pace:.1f} moves a second" for arm, pace in paces.items()}, flush=True)
    rows: list[dict[str, Any]] = []
    for seed in range(args.sets):
        for arm in args.arms:
            small, seconds = made(arm, seed, max(8, round(args.seconds * paces[arm])))
            found = evaluate(
                small, Splits(train=train, test=held), protocol=protocol, networks=[args.network], seeds=args.students,
                seed=seed, baselines=False, full=False, robust_scores=False, executor=Serial(),
            ).to_dict()  # fmt: skip
            rows.append({
                "arm": arm, "seed": seed, "moves": small.card["outcome"]["step"], "cpu_seconds": seconds,
                "accuracy": found["accuracy"]["mean"],
            })  # fmt: skip
            print(rows[-1], flush=True)
    kept = {
        "machine": machine(), "options": {**vars(args), "out": ""}, "moves_per_second": paces, "rows": rows,
        "differences": {str(arm): difference(rows, arm, args.arms[0]) for arm in args.arms[1:]},
    }  # fmt: skip
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(kept, indent=1) + "\n")
    for arm, (gap, low, high) in kept["differences"].items():
        apart = "told apart" if low > 0 or high < 0 else "not told apart"
        print(f"{arm} less {args.arms[0]}: {100 * gap:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}], {apart}")


def difference(rows: list[dict[str, Any]], arm: int, base: int) -> tuple[float, float, float]:
    """The mean over sets of the arm's accuracy less the base's of the same seed, and its 95 % interval."""
    by = {(r["arm"], r["seed"]): r["accuracy"] for r in rows}
    gaps = torch.tensor([by[arm, s] - by[base, s] for a, s in by if a == base], dtype=torch.float64)
    half = float(stats.t.ppf(0.975, len(gaps) - 1) * gaps.std() / len(gaps) ** 0.5)
    return float(gaps.mean()), float(gaps.mean()) - half, float(gaps.mean()) + half


if __name__ == "__main__":
    main()
