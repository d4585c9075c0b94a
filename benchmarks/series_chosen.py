"""A learned series whose method and points are chosen on held-out training windows, then measured once on test data.

    python benchmarks/series_chosen.py [--only elnino …] [--seeds 3] [--students 3]
    python benchmarks/series_chosen.py --gather
    python benchmarks/series_chosen.py --show

The rule was written before it was run. The last fifth of the training part's time is held out. Series of 48, 96, 192
and 384 points, those that hold a window and fit the rest, are learned there by ``kip`` and ``condtsf`` in their quick
presets, fewest points first. The first number of points at which a method's error is at most 5 % above that of all
windows, for both learners of ``CHOSEN_BY``, is taken; of two such methods the one whose worse learner is nearer. If
none is, the nearest of all is taken. Networks hold out windows of their own to choose their rate; where the rest is too
short for that, ``ridge`` alone decides. The choice sees one set of each kind. The series is then learned from the whole
training part by each seed, and measured on the test part, beside the best real windows of the same bytes and all
windows.

Every cell is a file under ``--folder``, from which an interrupted run goes on; ``--gather`` writes
``results/series_chosen.json`` from them.
"""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent))
from machine import machine
from series import SERIES, card_of, write_series

import potstill
from potstill.core import Splits
from potstill.data.series import SeriesSource
from potstill.dataset_file.text_io import charged_bytes
from potstill.evaluation.statistics import paired_difference, summary

POINTS = (48, 96, 192, 384)
METHODS = ("kip", "condtsf")
CHOSEN_BY = {"ridge": 1, "dlinear": 3}
"""Learners of the choice, one that each method learns for, and students where they draw."""
LEARNERS = {"ridge": 1, "linear": 3, "mlp": 3, "dlinear": 3}
"""Learners of the test."""
WITHIN = 1.05
"""Largest error over that of all windows at which no more points are tried."""
HELD_OUT = 0.2
CLAIM = 1.10
"""Error over that of all windows of the claim that is tested: issue 36."""


def read(name: str, args: argparse.Namespace) -> Splits:
    """Return a series as its windows, training part and test part."""
    path, settings = args.folder / f"{name}.csv", SERIES[name]
    if not path.exists():
        write_series(name, path)
    return potstill.load_data(path, task=f"forecast:window={settings['window']},horizon={settings['horizon']}")


def held_out(splits: Splits) -> Splits:
    """Return the training part alone, its last time as the test part."""
    assert isinstance(splits.train, SeriesSource)
    fitted, later = splits.train.cut(HELD_OUT)
    return Splits(train=fitted, test=later)


def cell(
    path: Path, splits: Splits, method: str, size: dict[str, Any], seed: int, learners: dict[str, int], students: int
) -> dict[str, Any]:
    """Return the errors and bytes of one set, from its file or measured anew."""
    if path.exists():
        return dict(json.loads(path.read_text()))
    started = time.monotonic()
    small = potstill.distill(splits, method, seed=seed, progress=None, device="cpu", executor="serial", **size)
    seconds = round(time.monotonic() - started, 1)
    scores = {
        n: card_of(small, splits, n, students if draws > 1 else 1, seed, False)["score"]["mean"]
        for n, draws in learners.items()
    }
    found = {"bytes": charged_bytes(small.metadata["bytes"]), "items": len(small), "scores": scores, "seconds": seconds}
    path.write_text(json.dumps(found))
    print(path.stem, found, flush=True)
    return found


def all_windows(path: Path, splits: Splits, learners: dict[str, int], students: int) -> dict[str, float]:
    """Return the error of each learner on all training windows."""
    if not path.exists():
        small = potstill.distill(splits, "random", items=2, seed=0, progress=None)
        scores = {
            n: card_of(small, splits, n, students if draws > 1 else 1, 0, True)["full"]["mean"]
            for n, draws in learners.items()
        }
        path.write_text(json.dumps(scores))
    return dict(json.loads(path.read_text()))


def learned(splits: Splits, points: int) -> dict[str, Any]:
    """Return the arguments of `potstill.distill` for a series of so many points."""
    return {"parametrization": f"series:length={points}", "items": -(-points // splits.train.input.shape[-1])}


def choose(name: str, splits: Splits, args: argparse.Namespace) -> dict[str, Any]:
    """Return the method and the points that the rule takes, and all that was tried."""
    train = held_out(splits)
    assert isinstance(train.train, SeriesSource)
    judges = dict(CHOSEN_BY)
    try:
        train.train.cut(HELD_OUT)
    except potstill.PotstillError:
        judges = {"ridge": 1}
    full = all_windows(args.folder / f"{name}-held-full.json", train, judges, args.students)
    tried: list[dict[str, Any]] = []
    for points in POINTS:
        if not len(train.train.stretches(points)):
            continue  # shorter than a window with what follows it, or longer than the rest of the training part
        for method in METHODS:
            made = cell(
                args.folder / f"{name}-held-{method}-{points}.json",
                train, method, learned(train, points), 0, judges, args.students,
            )  # fmt: skip
            over = {n: made["scores"][n] / full[n] for n in judges}
            tried.append({"method": method, "points": points, "over": over, "worst": max(over.values())})
        if min(t["worst"] for t in tried if t["points"] == points) <= WITHIN:
            break
    last = [t for t in tried if t["points"] == tried[-1]["points"]]
    reached = min(last, key=lambda t: float(t["worst"]))
    chosen = reached if reached["worst"] <= WITHIN else min(tried, key=lambda t: float(t["worst"]))
    return {"chosen": chosen, "reached": chosen["worst"] <= WITHIN, "tried": tried, "windows": len(train.test or ())}


def measure(name: str, splits: Splits, chosen: dict[str, Any], args: argparse.Namespace) -> dict[str, Any]:
    """Return the chosen series' errors on the test part, those of the best real windows, and of all windows."""
    method, points = str(chosen["method"]), int(chosen["points"])
    made, real = [], []
    for seed in range(args.seeds):
        own = cell(
            args.folder / f"{name}-test-{method}-{points}-{seed}.json",
            splits, method, learned(splits, points), seed, LEARNERS, args.students,
        )  # fmt: skip
        made.append(own)
        size = {"bytes": own["bytes"]}
        path = args.folder / f"{name}-test-real-{own['bytes']}-{seed}.json"
        real.append(cell(path, splits, "real", size, seed, LEARNERS, args.students))
    full = all_windows(args.folder / f"{name}-test-full.json", splits, LEARNERS, args.students)
    rows = {"chosen": made, "real": real}
    return {
        "bytes": {row: sum(c["bytes"] for c in cells) / len(cells) for row, cells in rows.items()},
        "items": {row: max(c["items"] for c in cells) for row, cells in rows.items()},
        "seconds": sum(c["seconds"] for c in made) / len(made),
        "scores": {
            row: {n: summary([c["scores"][n] for c in cells], low=0.0) for n in LEARNERS} for row, cells in rows.items()
        },
        "difference": {
            n: paired_difference([c["scores"][n] for c in made], [c["scores"][n] for c in real]) for n in LEARNERS
        },
        "full": full,
        "over": {n: sum(c["scores"][n] for c in made) / len(made) / full[n] for n in LEARNERS},
    }


def show(result: dict[str, Any]) -> None:
    """Print the choice and its test for each series."""
    for part in result["parts"]:
        chosen, test = part["choice"]["chosen"], part["test"]
        print(f"\n{part['name']}: {chosen['method']}, {chosen['points']} points, {test['bytes']['chosen']:,.0f} bytes")
        for t in part["choice"]["tried"]:
            over = ", ".join(f"{100 * (v - 1):+.1f} % ({n})" for n, v in t["over"].items())
            print(f"  held out: {t['method']:8} {t['points']:4} points  {over}")
        for n, v in test["over"].items():
            own, real, gap = test["scores"]["chosen"][n], test["scores"]["real"][n], test["difference"][n]
            says = "holds" if v <= CLAIM else "FAILS"
            print(
                f"  test, {n:8}{own['mean']:.3f} {own['ci95']}  all windows {test['full'][n]:.3f}  {100 * (v - 1):+.1f}"
                f" % {says}  best real {real['mean']:.3f}, minus it {gap['mean']:+.3f} {gap['ci95']}"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=list(SERIES), choices=list(SERIES))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--students", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=Path("runs/series_chosen"))
    parser.add_argument("--out", type=Path, default=Path("results/series_chosen.json"))
    parser.add_argument("--gather", action="store_true", help="write the result of the series that are done")
    parser.add_argument("--show", action="store_true", help="print the stored result")
    args = parser.parse_args()
    if args.show:
        show(json.loads(args.out.read_text()))
        return
    torch.set_num_threads(1)
    args.folder.mkdir(parents=True, exist_ok=True)
    if not args.gather:
        for name in args.only:
            splits = read(name, args)
            choice = choose(name, splits, args)
            part = {
                "name": name, "settings": SERIES[name], "train": len(splits.train), "choice": choice,
                "test": measure(name, splits, choice["chosen"], args),
            }  # fmt: skip
            (args.folder / f"{name}.json").write_text(json.dumps(part))
            show({"parts": [part]})
        return
    done = [path for name in SERIES if (path := args.folder / f"{name}.json").exists()]
    result = {
        "parts": [json.loads(path.read_text()) for path in done], "seeds": args.seeds, "students": args.students,
        "within": WITHIN, "claim": CLAIM, "chosen_by": list(CHOSEN_BY), "machine": machine(),
    }  # fmt: skip
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(result, indent=1) + "\n")
    show(result)


if __name__ == "__main__":
    main()
