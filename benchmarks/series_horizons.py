"""One learned series measured at other horizons than it was made for, beside sets that were made for those.

    python benchmarks/series_horizons.py [--only elnino …] [--seeds 3] [--students 3]
    python benchmarks/series_horizons.py --gather
    python benchmarks/series_horizons.py --show

``kip`` learns a series for 12 values to come, in its quick preset. It is measured for them, for 6, and of elnino for 18
(`potstill.evaluate`, ``task="forecast:horizon=H"``). Beside it: series of as many points that were made for 6 and 18,
the best real windows of the same bytes at that horizon, and all windows. Horizons and points were set before anything
was measured. Every cell is a file under ``--folder``; ``--gather`` writes ``results/series_horizons.json`` from them.
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
from series import SERIES, write_series

import potstill
from potstill.core import Splits
from potstill.dataset_file.text_io import charged_bytes
from potstill.evaluation.statistics import paired_difference, summary

POINTS = {"nottem": 48, "elnino": 48, "sunspot.month": 96}
MADE = 12
ASKED = {"nottem": (12, 6), "elnino": (12, 6, 18), "sunspot.month": (12, 6)}
"""Horizons; nottem is too short for 18, and sunspots take long."""
LEARNERS = {"ridge": 1, "mlp": 3}


def read(name: str, horizon: int, args: argparse.Namespace) -> Splits:
    """Return a series as windows with a horizon."""
    path = args.folder / f"{name}.csv"
    if not path.exists():
        write_series(name, path)
    return potstill.load_data(path, task=f"forecast:window={SERIES[name]['window']},horizon={horizon}")


def make(name: str, method: str, splits: Splits, seed: int, **size: Any) -> potstill.Distilled:
    """Return a set, by default of so many points."""
    points = POINTS[name]
    size = size or {"parametrization": f"series:length={points}", "items": -(-points // SERIES[name]["window"])}
    return potstill.distill(splits, method, seed=seed, progress=None, device="cpu", executor="serial", **size)


def errors(small: potstill.Distilled, splits: Splits, horizon: int, seed: int, students: int) -> dict[str, float]:
    """Return the error of each learner at a horizon."""
    return {
        n: potstill.evaluate(
            small, splits, task=f"forecast:horizon={horizon}", networks=n, seeds=students if draws > 1 else 1,
            seed=seed, baselines=False, full=False, robust_scores=False, executor="serial", device="cpu", progress=None,
        ).to_dict()["score"]["mean"]
        for n, draws in LEARNERS.items()
    }  # fmt: skip


def cell(name: str, seed: int, args: argparse.Namespace) -> dict[str, Any]:
    """Return the errors of all sets of a seed, by horizon and row, from its file or measured anew."""
    path = args.folder / f"{name}-{seed}.json"
    if path.exists():
        return dict(json.loads(path.read_text()))
    started, found = time.monotonic(), dict[str, Any]()
    data = read(name, MADE, args)
    far = make(name, "kip", data, seed)
    weight = charged_bytes(far.metadata["bytes"])
    for horizon in ASKED[name]:
        rows = {f"made for {MADE}": errors(far, data, horizon, seed, args.students)}
        own = read(name, horizon, args)
        if horizon != MADE:
            rows["made for it"] = errors(make(name, "kip", own, seed), own, horizon, seed, args.students)
        rows["best real windows"] = errors(
            make(name, "real", own, seed, bytes=weight), own, horizon, seed, args.students
        )  # fmt: skip
        found[str(horizon)] = rows
    found |= {"bytes": weight, "seconds": round(time.monotonic() - started, 1)}
    path.write_text(json.dumps(found))
    print(path.stem, found, flush=True)
    return found


def all_windows(name: str, horizon: int, args: argparse.Namespace) -> dict[str, float]:
    """Return the error of each learner on all training windows at a horizon."""
    path = args.folder / f"{name}-full-{horizon}.json"
    if not path.exists():
        data = read(name, horizon, args)
        small = make(name, "random", data, 0, items=2)
        path.write_text(
            json.dumps({
                n: potstill.evaluate(
                    small, data, networks=n, seeds=1, baselines=False, robust_scores=False, executor="serial",
                    device="cpu", progress=None,
                ).to_dict()["full"]["mean"]
                for n in LEARNERS
            })
        )  # fmt: skip
    return dict(json.loads(path.read_text()))


def summarize(name: str, cells: list[dict[str, Any]], args: argparse.Namespace) -> dict[str, Any]:
    """Return the table of a series."""
    horizons = []
    for horizon in ASKED[name]:
        rows = {
            row: {n: summary([c[str(horizon)][row][n] for c in cells], low=0.0) for n in LEARNERS}
            for row in cells[0][str(horizon)]
        }
        of = [c[str(horizon)] for c in cells]
        gaps = {
            rival: {
                n: paired_difference([c[f"made for {MADE}"][n] for c in of], [c[rival][n] for c in of])
                for n in LEARNERS
            }
            for rival in rows if rival != f"made for {MADE}"
        }  # fmt: skip
        full = all_windows(name, horizon, args)
        horizons.append({"horizon": horizon, "rows": rows, "difference": gaps, "full": full})
    return {
        "name": name, "window": SERIES[name]["window"], "points": POINTS[name],
        "bytes": sum(c["bytes"] for c in cells) / len(cells), "horizons": horizons,
    }  # fmt: skip


def show(result: dict[str, Any]) -> None:
    """Print a line for each series, horizon and row."""
    for part in result["parts"]:
        print(f"\n{part['name']}: windows of {part['window']}, {part['points']} points, {part['bytes']:.0f} bytes")
        for h in part["horizons"]:
            for row, scores in h["rows"].items():
                said = "  ".join(f"{n} {v['mean']:.3f} {v['ci95']}" for n, v in scores.items())
                print(f"  {h['horizon']:3} to come  {row:18} {said}")
            print(f"  {h['horizon']:3} to come  {'all windows':18} {h['full']}")
            for rival, gap in h["difference"].items():
                said = "  ".join(f"{n} {v['mean']:+.3f} {v['ci95']}" for n, v in gap.items())
                print(f"       made for {MADE} minus {rival}: {said}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=list(POINTS), choices=list(POINTS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--students", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=Path("runs/series_horizons"))
    parser.add_argument("--out", type=Path, default=Path("results/series_horizons.json"))
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
            for seed in range(args.seeds):
                cell(name, seed, args)
            for horizon in ASKED[name]:
                all_windows(name, horizon, args)
        return
    parts = []
    for name in POINTS:
        done = [path for seed in range(args.seeds) if (path := args.folder / f"{name}-{seed}.json").exists()]
        if len(done) == args.seeds:
            parts.append(summarize(name, [json.loads(path.read_text()) for path in done], args))
    result = {"parts": parts, "made": MADE, "seeds": args.seeds, "students": args.students, "machine": machine()}
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(result, indent=1) + "\n")
    show(result)


if __name__ == "__main__":
    main()
