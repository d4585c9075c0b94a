"""Proxies for architecture search at equal compute: the ranking of small ConvNets on Fashion-MNIST.

    python benchmarks/uses/search.py [--candidates 40] [--updates 400] [--seeds 3] [--proxies early,dm,...]

The truth is the test accuracy of every network after ``--updates`` updates, the mean of two seeds. A proxy has a part
of the compute of one seed of the truth for all networks together, and what making it takes comes out of that. Every
training is a file under ``--folder``, from which an interrupted run goes on; the summary goes to
``results/uses/search-DATA.json``.
"""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from machine import machine

import potstill
from potstill.core import Source
from potstill.data.groups import source_key
from potstill.execution import Serial
from potstill.rng import generator
from potstill.uses.search import (
    convnet_grid,
    draw_candidates,
    kendall_tau,
    product,
    regret,
    spearman_top,
    tau_difference,
)
from potstill.uses.search.cells import Cell, CellRunner
from potstill.uses.search.halving import halving_rounds
from potstill.uses.search.proxy import EarlyStopping, Made, Proxy, RealSet, TrainingFree
from potstill.uses.search.run import ALL, REAL, Searched
from potstill.uses.search.split import split_training

BUDGETS = {"1/100": 100, "1/50": 50, "1/20": 20, "1/10": 10}
PROXIES: dict[str, Proxy | None] = {
    "early stopping": EarlyStopping(),
    "successive halving": None,
    "random:10": RealSet(per_class=10),
    "random:50": RealSet(per_class=50),
    "k-means:10": RealSet(per_class=10, selection="k-means"),
    "random:200, 1 bit": RealSet(per_class=200, codec="half:bits=1"),
    "dm:10": Made(method="dm", network="convnet-w16", options={"batch_real": 64}),
    "dm:10, soft labels": Made(method="dm", network="convnet-w16", soft=True, options={"batch_real": 64}),
    "frepo:10": Made(method="frepo", network="convnet-w16"),
    "gradient norm": TrainingFree(name="grad-norm"),
    "operations": TrainingFree(name="operations"),
}
TRUTH_SEEDS = (100, 101)
SHARE = 0.5
"""Part of a proxy's compute that distilling may take."""


def part(source: Source, count: int, name: str) -> Any:
    order = torch.randperm(len(source), generator=generator(0, "search", name))
    return source.subset(order[:count].sort().values)  # type: ignore[attr-defined]


def halving_updates(candidates: int, each: float) -> int:
    """Return the updates of the last round with which halving trains as many in all as ``each`` for all candidates."""
    updates = 1
    while sum(r.candidates * r.updates for r in halving_rounds(candidates, updates + 1)) <= each * candidates:
        updates += 1
    return updates


def ranked(search: Searched, name: str, updates: int, early: dict[str, Any]) -> dict[str, Any]:
    """Return the row of a proxy whose making and training cost what ``early`` costs, which has ``updates``."""
    proxy = PROXIES[name]
    if proxy is None:
        return search.halve(halving_updates(len(search.candidates), updates))
    if isinstance(proxy, EarlyStopping):
        return early
    speed = early["operations"] / early["seconds"]
    made = search.make(proxy, SHARE * early["seconds"])
    left = 1.0 if made is None else 1 - made.seconds / early["seconds"]
    if left * updates < 1:
        return {"name": name, "reason": f"making it took {made.seconds:.1f} s of {early['seconds']:.1f} s"}  # type: ignore[union-attr]
    return search.rank(proxy, max(1, round(left * updates)), made, speed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="fashion-mnist")
    parser.add_argument("--candidates", type=int, default=40)
    parser.add_argument("--updates", type=int, default=400)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--samples", type=int, default=6000, help="training samples, drawn with seed 0")
    parser.add_argument("--tested", type=int, default=5000, help="test samples, drawn with seed 0")
    parser.add_argument("--proxies", default=None, help="names with ; between them")
    parser.add_argument("--folder", type=Path, default=Path("runs/search"))
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    splits = potstill.load_data(args.data)
    train, test = part(splits.train, args.samples, "train"), part(splits.test, args.tested, "test")
    grid = convnet_grid(
        widths=(4, 8, 16, 32), depths=(1, 2, 3), poolings=("avg", "max"), activations=("relu", "sigmoid", "leaky")
    )
    candidates = draw_candidates(product(grid), args.candidates, 0)
    started = time.monotonic()

    def show(name: str, done: int, total: int) -> None:
        if done == total:
            print(f"{name} {done} of {total}", flush=True)

    def runner(folder: Path) -> CellRunner:
        return CellRunner(
            folder=folder, settings={"data": source_key(train)}, batch=64, executor=Serial(), progress=show
        )

    truth_runner = runner(args.folder / "truth")
    truth_runner.add_data(ALL, train, test)
    truths = [
        truth_runner.run([Cell(candidate=c, data=ALL, updates=args.updates, seed=s) for c in candidates], f"truth {s}")
        for s in TRUTH_SEEDS
    ]
    single = [[one["accuracy"] for one in of_seed] for of_seed in truths]
    truth = [float(np.mean(values)) for values in zip(*single, strict=True)]
    cost = sum(one["operations"] for one in truths[0])
    names = args.proxies.split(";") if args.proxies else list(PROXIES)
    rows: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for seed in range(args.seeds):
        for budget, divisor in BUDGETS.items():
            kept, held = split_training(train, 0.2, seed)
            own = runner(args.folder / f"seed{seed}")
            own.add_data(REAL, kept, held)
            search = Searched(candidates=candidates, runner=own, train=kept, held_out=held, seed=seed)
            updates = max(1, args.updates // divisor)
            early = search.rank(EarlyStopping(), updates)
            for name in names:
                row = ranked(search, name, updates, early)
                rows.setdefault((name, budget), []).append(row)
            summarise(args, candidates, truth, single, cost, truths, rows, started)


def summarise(
    args: argparse.Namespace, candidates: Any, truth: list[float], single: list[list[float]], cost: float,
    truths: list[list[dict[str, Any]]], rows: dict[tuple[str, str], list[dict[str, Any]]], started: float,
) -> None:  # fmt: skip
    table = []
    for (name, budget), of_seeds in rows.items():
        if reason := next((r["reason"] for r in of_seeds if "reason" in r), None):
            table.append({"proxy": name, "budget": budget, "reason": reason})
            continue
        scores = [r["scores"] for r in of_seeds]
        early = [r["scores"] for r in rows[("early stopping", budget)]][: len(scores)]
        regrets = [regret(s, truth) for s in scores]
        table.append({
            "proxy": name, "budget": budget, "n": len(scores), "updates": [r["updates"] for r in of_seeds],
            "tau": kendall_tau(scores, truth), "tau_by_seed": [kendall_tau([s], truth)["value"] for s in scores],
            "difference": None if name == "early stopping" else tau_difference(scores, early, truth),
            "top": [[spearman_top(s, truth, k) for s in scores] for k in (5, 10, 20)],
            "regret": {"mean": float(np.mean(regrets)), "values": regrets},
            "operations": float(np.mean([r["operations"] for r in of_seeds])) / cost,
            "seconds": [round(r["seconds"], 1) for r in of_seeds],
            "making": [round(r["making"]["seconds"], 1) for r in of_seeds],
        })  # fmt: skip
    ceiling = kendall_tau([single[0]], single[1])
    result = {
        "data": args.data, "samples": args.samples, "tested": args.tested, "updates": args.updates,
        "candidates": [{"name": c.name, "accuracy": a} for c, a in zip(candidates, truth, strict=True)],
        "truth_seeds": len(TRUTH_SEEDS), "truth_operations": cost, "truth_tau": ceiling,
        "truth_seconds": [round(sum(o["seconds"] for o in t), 1) for t in truths], "rows": table,
        "seconds": round(time.monotonic() - started, 1), "machine": machine(),
    }  # fmt: skip
    out = args.out or Path(f"results/uses/search-{args.data}.json")
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(result, indent=1) + "\n")
    print(f"two seeds of the truth: tau {ceiling['value']:.2f} {ceiling['ci95']}")
    for row in table:
        if "reason" in row:
            print(f"{row['budget']} {row['proxy']:<20} {row['reason']}")
            continue
        gap = row["difference"]
        shown = "" if gap is None or gap["ci95"] is None else f" minus early {gap['value']:+.2f} {gap['ci95']}"
        print(f"{row['budget']} {row['proxy']:<20} tau {row['tau']['value']:.2f} {row['tau']['ci95']} regret "
              f"{100 * row['regret']['mean']:.2f} n={row['n']} compute {row['operations']:.3f}{shown}")  # fmt: skip


if __name__ == "__main__":
    main()
