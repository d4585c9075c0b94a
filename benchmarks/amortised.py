"""What reusing real statistics saves, and what it costs in accuracy: DM with ``reuse`` 1 against more, same steps.

    python benchmarks/amortised.py [--reuse 8] [--steps 800] [--sets 5] [--students 4] [--out results/amortised.json]

Both runs make the same number of steps from the same seed, so from the same start; the difference of accuracies is
paired by seed, and its interval is over seeds (Student's t on the differences of the sets' mean accuracies). Steps are
timed in the same process, interleaved by set; ``step_ratio`` is the ratio of medians.
"""

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from machine import machine
from scipy import stats

import potstill
from potstill.core.registry import resolve
from potstill.evaluation import evaluate
from potstill.execution import Processes, Serial


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="mnist-5k")
    parser.add_argument("--network", default="convnet-d3-w32")
    parser.add_argument("--ipc", type=int, default=10)
    parser.add_argument("--reuse", type=int, default=8)
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--batch-real", type=int, default=256)
    parser.add_argument("--sets", type=int, default=5)
    parser.add_argument("--students", type=int, default=4)
    parser.add_argument("--epochs", type=int, default=300)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("results/amortised.json"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    splits = potstill.load_data(args.data)
    protocol = resolve("protocols", "dsa").override(epochs=args.epochs)
    executor = Serial() if args.workers < 2 else Processes(args.workers)
    found: dict[int, list[float]] = {1: [], args.reuse: []}
    seconds: dict[int, list[float]] = {1: [], args.reuse: []}
    for seed in range(args.sets):
        for reuse in found:
            begun = time.perf_counter()
            small = potstill.distill(
                splits, "dm", ipc=args.ipc, seed=seed, steps=args.steps, network=args.network,
                batch_real=args.batch_real, steps_per_network=reuse,
            )  # fmt: skip
            seconds[reuse].append((time.perf_counter() - begun) / args.steps)
            score = evaluate(
                small, splits, protocol=protocol, networks=[args.network], seeds=args.students, baselines=False,
                full=False, robust_scores=False, executor=executor,
            )  # fmt: skip
            found[reuse].append(score.accuracy)
            print(
                f"set {seed}, reuse {reuse}: {100 * score.accuracy:.2f} %, {1000 * seconds[reuse][-1]:.0f} ms a step",
                flush=True,
            )
    gaps = [b - a for a, b in zip(found[1], found[args.reuse], strict=True)]
    half = stats.t.ppf(0.975, len(gaps) - 1) * statistics.stdev(gaps) / len(gaps) ** 0.5
    middle = {reuse: statistics.median(t) for reuse, t in seconds.items()}
    mean = statistics.mean(gaps)
    report: dict[str, Any] = {
        "machine": machine(), "settings": {k: v for k, v in vars(args).items() if k != "out"},
        "accuracy": {str(r): a for r, a in found.items()}, "seconds_per_step": {str(r): t for r, t in seconds.items()},
        "step_ratio": middle[1] / middle[args.reuse],
        "difference": {"mean": mean, "ci95": [mean - half, mean + half]},
    }  # fmt: skip
    low, high = (100 * v for v in report["difference"]["ci95"])
    print(
        f"reuse {args.reuse}: {report['step_ratio']:.1f} times as fast, difference "
        f"{100 * report['difference']['mean']:+.2f} points [{low:+.2f}, {high:+.2f}] over {args.sets} sets"
    )
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(report, indent=1, default=str) + "\n")


if __name__ == "__main__":
    main()
