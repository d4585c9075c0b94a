"""Proxies for architecture search at equal compute: the ranking of small ConvNets.

    python benchmarks/uses/search.py [--candidates 40] [--updates 400] [--seeds 3] [--proxies "early stopping;dm:10"]
    python benchmarks/uses/search.py work --device cuda ...      # in as many processes as help
    python benchmarks/uses/search.py gather --device cuda ...    # the summary of what is there

The truth is the test accuracy of every network after ``--updates`` updates, the mean of two seeds. A proxy has a part
of the compute of one seed of the truth for all networks together, and what making it takes comes out of that. Compute
is in sample-updates times operations of an update: a set of fewer samples than a batch has more updates. Every
training is a file under ``--folder``, from which an interrupted run goes on, and several processes share its work; the
summary goes to ``results/uses/search-DATA.json``. ``photo-patches`` are those of ``benchmarks/photo_patches.py``.
"""

import argparse
import json
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from load import load
from machine import machine
from units import Unit, UnitFolder

from potstill.core import Source
from potstill.data.groups import source_key
from potstill.dataset_file import write_atomic
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
from potstill.uses.search.training import train_candidate

BUDGETS = {"1/100": 100, "1/50": 50, "1/20": 20, "1/10": 10}
EARLY = "early stopping"
PROXIES: dict[str, Proxy | None] = {
    EARLY: EarlyStopping(),
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
PART = 4
"""Networks of a unit of the truth."""
WARM_UP = 2
"""Updates of every network before anything is timed on a GPU, which loads its kernels."""


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
        return search.rank(proxy, updates)
    speed = early["operations"] / early["seconds"]
    made = search.make(proxy, SHARE * early["seconds"])
    left = 1.0
    if made is not None:
        left = (1 - made.seconds / early["seconds"]) * max(1.0, search.runner.batch / len(made.rows.x))
    if left * updates < 1:
        return {"name": name, "reason": f"making it took {made.seconds:.1f} s of {early['seconds']:.1f} s"}  # type: ignore[union-attr]
    return search.rank(proxy, max(1, round(left * updates)), made, speed)


class Bench:
    """Data, networks, and the units of the truth and of the proxies."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        splits = load(args.data, "cpu" if args.what == "gather" else args.device)
        self.train, self.test = part(splits.train, args.samples, "train"), part(splits.test, args.tested, "test")
        grid = convnet_grid(
            widths=(4, 8, 16, 32), depths=(1, 2, 3), poolings=("avg", "max"), activations=("relu", "sigmoid", "leaky")
        )
        self.candidates = draw_candidates(product(grid), args.candidates, 0)
        key = {"data": source_key(self.train), "batch": args.batch, "device": args.device}
        self.truth_runner = self.runner(args.folder / "truth", key)
        self.truth_runner.add_data(ALL, self.train, self.test)
        self.searched = cache(lambda seed: self.search(seed, key))
        settings = {**key, "test": source_key(self.test), "updates": args.updates, "candidates": args.candidates}
        self.folder = UnitFolder(folder=args.folder / "units", settings=settings)

    def runner(self, folder: Path, settings: dict[str, Any]) -> CellRunner:
        return CellRunner(
            folder=folder, settings=settings, batch=self.args.batch, executor=Serial(), progress=lambda *_: None
        )

    def search(self, seed: int, settings: dict[str, Any]) -> Searched:
        """Return the candidates, and training samples of which a part decides, by a seed."""
        kept, held = split_training(self.train, 0.2, seed)
        own = self.runner(self.args.folder / f"seed{seed}", settings)
        own.add_data(REAL, kept, held)
        return Searched(candidates=self.candidates, runner=own, train=kept, held_out=held, seed=seed)

    def updates(self, budget: str) -> int:
        return max(1, self.args.updates // BUDGETS[budget])

    @property
    def proxies(self) -> list[str]:
        """Names of the proxies; early stopping, by whose cost the others are counted, is first."""
        chosen = self.args.proxies.split(";") if self.args.proxies else list(PROXIES)
        return [EARLY, *(name for name in chosen if name != EARLY)]

    def truth_units(self) -> dict[str, list[Cell]]:
        """Return the cells of each unit of the truth by its name."""
        return {
            f"truth-{seed}-{at}": [
                Cell(candidate=c, data=ALL, updates=self.args.updates, seed=seed)
                for c in self.candidates[at : at + PART]
            ]
            for seed in TRUTH_SEEDS for at in range(0, len(self.candidates), PART)
        }  # fmt: skip

    def units(self) -> list[Unit]:
        """Return early stopping with the largest budgets first, the truth, and the other proxies seed by seed."""
        budgets = sorted(BUDGETS, key=BUDGETS.__getitem__)
        early = [
            Unit(name=row_name(s, b, EARLY), compute=self.row(s, b, EARLY))
            for b in budgets for s in range(self.args.seeds)
        ]  # fmt: skip
        truth = [
            Unit(name=name, compute=lambda name=name, cells=cells: self.true_accuracies(name, cells))
            for name, cells in self.truth_units().items()
        ]  # fmt: skip
        others = [
            Unit(name=row_name(s, b, p), compute=self.row(s, b, p), needs=(row_name(s, b, EARLY),))
            for s in range(self.args.seeds) for b in budgets for p in self.proxies[1:]
        ]  # fmt: skip
        return [*early, *truth, *others]

    def true_accuracies(self, name: str, cells: list[Cell]) -> dict[str, Any]:
        stamp = {**machine(), "device": self.args.device}
        return {"cells": self.truth_runner.run(cells, name), "machine": stamp}

    def row(self, seed: int, budget: str, name: str) -> Callable[[], dict[str, Any]]:
        def compute() -> dict[str, Any]:
            early = self.folder.read(row_name(seed, budget, EARLY)) or {}
            return ranked(self.searched(seed), name, self.updates(budget), early)

        return compute

    def warm_up(self) -> None:
        for candidate in self.candidates:
            train_candidate(
                candidate,
                self.train,
                self.test.subset(torch.arange(10)),
                updates=WARM_UP,
                batch=self.args.batch,
                seed=0,
            )

    def summary(self) -> dict[str, Any]:
        """Return what is there: all of the truth, and those seeds of a proxy that are done."""
        truths: list[list[dict[str, Any]]] = []
        stamp: dict[str, Any] = {}
        for seed in TRUTH_SEEDS:
            truths.append([])
            for name in (n for n in self.truth_units() if n.startswith(f"truth-{seed}-")):
                if (unit := self.folder.read(name)) is None:
                    raise SystemExit(f"{self.args.folder}: {name} is not there yet; run without gather")
                truths[-1] += unit["cells"]
                stamp = unit["machine"]
        single = [[one["accuracy"] for one in of_seed] for of_seed in truths]
        truth = [float(np.mean(values)) for values in zip(*single, strict=True)]
        cost = sum(one["operations"] for one in truths[0])
        table = []
        for budget in BUDGETS:
            early = {s: r for s in range(self.args.seeds) if (r := self.folder.read(row_name(s, budget, EARLY)))}
            for name in self.proxies:
                rows = {s: r for s in early if (r := self.folder.read(row_name(s, budget, name)))}
                if rows:
                    table.append(summary_row(name, budget, rows, early, truth, cost))
        return {
            "data": self.args.data, "samples": len(self.train), "tested": len(self.test), "updates": self.args.updates,
            "batch": self.args.batch, "seeds": self.args.seeds,
            "candidates": [{"name": c.name, "accuracy": a} for c, a in zip(self.candidates, truth, strict=True)],
            "truth_seeds": len(TRUTH_SEEDS), "truth_operations": cost,
            "truth_tau": kendall_tau([single[0]], single[1]),
            "truth_seconds": [round(sum(o["seconds"] for o in t), 1) for t in truths], "rows": table,
            "machine": stamp,
        }  # fmt: skip


def row_name(seed: int, budget: str, proxy: str) -> str:
    return f"seed{seed}-{budget}-{proxy}"


def summary_row(
    name: str, budget: str, rows: dict[int, dict[str, Any]], early: dict[int, dict[str, Any]], truth: list[float],
    cost: float,
) -> dict[str, Any]:  # fmt: skip
    """Return a proxy's agreement with the truth over its seeds, and beside early stopping on the same seeds."""
    if reason := next((r["reason"] for r in rows.values() if "reason" in r), None):
        return {"proxy": name, "budget": budget, "reason": reason}
    scores, of_seeds = [r["scores"] for r in rows.values()], list(rows.values())
    regrets = [regret(s, truth) for s in scores]
    same = [early[seed]["scores"] for seed in rows]
    return {
        "proxy": name, "budget": budget, "n": len(scores), "updates": [r["updates"] for r in of_seeds],
        "tau": kendall_tau(scores, truth), "tau_by_seed": [kendall_tau([s], truth)["value"] for s in scores],
        "difference": None if name == EARLY else tau_difference(scores, same, truth),
        "top": [[spearman_top(s, truth, k) for s in scores] for k in (5, 10, 20)],
        "regret": {"mean": float(np.mean(regrets)), "values": regrets},
        "operations": float(np.mean([r["operations"] for r in of_seeds])) / cost,
        "seconds": [round(r["seconds"], 1) for r in of_seeds],
        "making": [round(r["making"]["seconds"], 1) for r in of_seeds],
    }  # fmt: skip


def show(result: dict[str, Any]) -> None:
    print(f"two seeds of the truth: tau {result['truth_tau']['value']:.2f} {result['truth_tau']['ci95']}")
    for row in result["rows"]:
        if "reason" in row:
            print(f"{row['budget']} {row['proxy']:<20} {row['reason']}")
            continue
        gap = row["difference"]
        shown = "" if gap is None or gap["ci95"] is None else f" minus early {gap['value']:+.2f} {gap['ci95']}"
        tau = "none (constant)" if row["tau"]["value"] is None else f"{row['tau']['value']:.2f} {row['tau']['ci95']}"
        print(f"{row['budget']} {row['proxy']:<20} tau {tau} regret {100 * row['regret']['mean']:.2f} n={row['n']} "
              f"compute {row['operations']:.3f}{shown}")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", choices=["work", "gather"], help="default: both, one after the other")
    parser.add_argument("--data", default="fashion-mnist")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--candidates", type=int, default=40)
    parser.add_argument("--updates", type=int, default=400)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--samples", type=int, default=6000, help="training samples, drawn with seed 0")
    parser.add_argument("--tested", type=int, default=5000, help="test samples, drawn with seed 0")
    parser.add_argument("--proxies", default=None, help="names with ; between them")
    parser.add_argument("--stop-after", type=float, help="seconds after which a process begins nothing more")
    parser.add_argument("--folder", type=Path, default=Path("runs/search"))
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    bench = Bench(args)
    failed: list[str] = []
    if args.what != "gather":
        if args.device == "cuda":
            bench.warm_up()
        failed = bench.folder.work(bench.units(), args.stop_after)
    if args.what != "work":
        result = bench.summary()
        out = args.out or Path(f"results/uses/search-{args.data}.json")
        out.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(out, (json.dumps(result, indent=1) + "\n").encode())
        show(result)
    if failed:
        raise SystemExit(f"{len(failed)} units failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
