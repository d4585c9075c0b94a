"""Accuracy of sets before and after draws were keyed by class name.

    python benchmarks/keyed_draws.py --out before.json          # one side, of the code that PYTHONPATH says
    python benchmarks/keyed_draws.py --compare before.json after.json --out results/keyed_draws/table.md

Short runs of methods of every affected family on two bundled sets, each of several seeds, all scored by protocol
``potstill`` with the same students. The table has the paired difference of each method and its standard deviation over
seeds: both sides draw at random, so the mean difference should be within its error of 0.
"""

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

import potstill

SETS = ("digits", "mnist-5k")
METHODS: dict[str, dict[str, Any]] = {
    "random": {}, "k-means": {}, "dm": {"iterations": 60}, "idm": {"iterations": 20, "pool_batch": 64},
    "dc": {"iterations": 5, "outer": 2, "inner": 2}, "dsa": {"iterations": 5, "outer": 2, "inner": 2},
    "frepo": {"iterations": 40}, "rded": {"teacher_epochs": 3, "network": "convnet-d2-w16-batch"},
}  # fmt: skip
NETWORK = "convnet-d2-w16"


def measure(seeds: int) -> dict[str, list[float]]:
    """Return the accuracies of all sets by ``SET/METHOD``."""
    rows: dict[str, list[float]] = {}
    for name in SETS:
        data = potstill.load_data(name)
        for method, settings in METHODS.items():
            options = settings if method in ("random", "k-means") else {"network": NETWORK} | settings
            for seed in range(seeds):
                small = potstill.distill(data, method, ipc=5, seed=seed, codec="float32", progress=None, **options)
                score = potstill.evaluate(
                    small, data, protocol="potstill", networks=[NETWORK], seeds=1, steps=100, full=False,
                    robust_scores=False, baselines=False, progress=None,
                )  # fmt: skip
                rows.setdefault(f"{name}/{method}", []).append(score.to_dict()["accuracy"]["mean"])
            print(name, method, rows[f"{name}/{method}"], flush=True)
    return rows


def compare(before: dict[str, list[float]], after: dict[str, list[float]]) -> str:
    """Return the table of paired differences, in points of accuracy."""
    lines = [
        "| set | method | before | after | difference ± its deviation over seeds |",
        "| --- | --- | --- | --- | --- |",
    ]
    for row, values in before.items():
        gaps = [100 * (b - a) for a, b in zip(values, after[row], strict=True)]
        name, method = row.split("/")
        means = f"{100 * statistics.mean(values):.1f} | {100 * statistics.mean(after[row]):.1f}"
        spread = f"{statistics.mean(gaps):+.1f} ± {statistics.stdev(gaps):.1f} (n = {len(gaps)})"
        lines.append(f"| {name} | `{method}` | {means} | {spread} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--compare", nargs=2, type=Path)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    args.out.parent.mkdir(parents=True, exist_ok=True)
    if args.compare:
        args.out.write_text(compare(*(json.loads(path.read_text()) for path in args.compare)))
        print(args.out.read_text())
    else:
        args.out.write_text(json.dumps(measure(args.seeds), indent=1) + "\n")
