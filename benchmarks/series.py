"""One learned series beside real windows in the same bytes, and forecasts that learn nothing, on four real series.

    python benchmarks/series.py [--seeds 3] [--students 3]
    python benchmarks/series.py --yardsticks
    python benchmarks/series.py --more
    python benchmarks/series.py --show

El Niño's temperatures are those of statsmodels; the others are R's, which ``Rscript`` writes. Every cell is a file
under ``--folder``, from which an interrupted run goes on; the summary goes to ``results/series.json``. Nothing is
chosen on the test part, the last fifth of the time: methods have their presets, learners their defaults, and ``real``
searches on held-out training windows. ``--yardsticks`` adds ARIMA and ETS, fitted to the whole training series, and the
absolute errors of what learns nothing, to the stored result. ``--more`` adds rows of CondTSF, the same without its
steps towards forecasts, and gradient matching of cosines, and the learner ``dlinear``, on the three series that repeat
themselves; rows without all seeds are left out.
"""

import argparse
import csv
import json
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent))
from machine import machine

import potstill
from potstill.core import Splits
from potstill.dataset_file.text_io import charged_bytes
from potstill.evaluation.naive import naive_scores
from potstill.evaluation.statistics import paired_difference, summary
from potstill.evaluation.yardsticks import yardstick_scores
from potstill.methods.trajectory.condtsf import QUICK, CondTSF
from potstill.methods.trajectory.hdt import HDT
from potstill.methods.trajectory.hdt import QUICK as HDT_QUICK
from potstill.tasks import get_task

SERIES: dict[str, dict[str, Any]] = {
    "elnino": {"window": 24, "horizon": 12, "length": 48},
    "sunspot.month": {"window": 48, "horizon": 12, "length": 192},
    "nottem": {"window": 24, "horizon": 12, "length": 48},
    "EuStockMarkets": {"window": 20, "horizon": 5, "length": 96},
}
"""Windows, what they foretell, and the points of a learned series: before any was measured."""
ROWS: dict[str, dict[str, Any]] = {
    "kip, series": {"method": "kip", "length": 1},
    "frepo, series": {"method": "frepo", "length": 1},
    "dc, series": {"method": "dc", "length": 1},
    "kip, half as many cosines": {"method": "kip", "length": 1, "harmonics": 2},
    "best real windows": {"method": "real"},
    "k-means of windows": {"method": "k-means", "codec": "uint4"},
    "random windows": {"method": "random", "codec": "uint4"},
}
"""Rows: how the set is made; those without a length have the bytes of the first."""
LEARNERS = {"ridge": 1, "linear": 3, "mlp": 3}
"""Learners, and students where they draw."""
MORE: dict[str, dict[str, Any]] = {
    "condtsf, series": {"method": "condtsf", "length": 1},
    "dc, half as many cosines": {"method": "dc", "length": 1, "harmonics": 2},
    "condtsf without its steps": {"method": CondTSF(**QUICK, gap=10**6), "length": 1},
    "hdt, series": {"method": "hdt", "length": 1},
    "hdt without its harmonic loss": {"method": HDT(**HDT_QUICK, harmonic_weight=0.0), "length": 1},
    "kip, twice the points": {"method": "kip", "length": 2},
    "condtsf, twice the points": {"method": "condtsf", "length": 2},
}
"""Rows of ``--more``; that without its steps is matching of trajectories in the same networks."""
SHORT = ("elnino", "nottem")
"""Series with rows of twice the points, as a learned series of 384 points takes many minutes, and of ``hdt``."""
SECOND = "dlinear"
AGAIN = ("kip, series", "best real windows")
"""Rows that are made again for the learner ``SECOND``."""
REPEATING = ("elnino", "sunspot.month", "nottem")


def write_series(name: str, path: Path) -> None:
    """Write a series as a table with a row for each point in time."""
    if name == "elnino":
        import statsmodels.api as sm

        values = sm.datasets.elnino.load_pandas().data.drop(columns="YEAR").to_numpy().reshape(-1, 1).tolist()
        head = ["temperature"]
    else:
        script = f"write.csv(as.matrix(datasets::{name}), row.names=FALSE)"
        text = subprocess.run(["Rscript", "-e", script], capture_output=True, text=True, check=True).stdout
        head, *values = list(csv.reader(text.splitlines()))
    with path.open("w", newline="") as file:
        out = csv.writer(file)
        out.writerow(["point", *(h.lower() for h in head)])
        out.writerows([[n, *row] for n, row in enumerate(values)])


def make(name: str, row: str, splits: Splits, seed: int, cells: Mapping[str, Any]) -> potstill.Distilled:
    """Return the set of a row."""
    settings, series = dict((ROWS | MORE)[row]), SERIES[name]
    if "length" in settings:
        length = series["length"] * settings["length"]
        form = f"series:length={length}"
        if "harmonics" in settings:
            form += f",harmonics={length // settings['harmonics']}"
        size: dict[str, Any] = {"parametrization": form, "items": -(-length // series["window"])}
    else:
        size = {"bytes": cells["kip, series"]["bytes"], "codec": settings.get("codec")}
    return potstill.distill(
        splits, settings["method"], seed=seed, progress=None, device="cpu", executor="serial", **size
    )  # fmt: skip


def card_of(small: potstill.Distilled, splits: Splits, learner: str, students: int, seed: int, full: bool) -> Any:
    return potstill.evaluate(
        small, splits, networks=learner, seeds=students, seed=seed, baselines=False, full=full, progress=None,
        executor="serial", robust_scores=False, device="cpu",
    ).to_dict()  # fmt: skip


def cell(
    name: str,
    row: str,
    splits: Splits,
    seed: int,
    args: argparse.Namespace,
    cells: Mapping[str, Any],
    learners: Mapping[str, int] = LEARNERS,
    kind: str = "",
) -> Any:
    """Return one row of one seed, from its file or measured anew; ``reason`` where there is no such set."""
    path = args.folder / f"{name}-{seed}-{row.replace(' ', '_')}{kind}.json"
    if path.exists():
        return json.loads(path.read_text())
    started = time.monotonic()
    try:
        small = make(name, row, splits, seed, cells)
    except potstill.PotstillError as error:
        found: dict[str, Any] = {"reason": str(error)}
    else:
        seconds = time.monotonic() - started
        scores = {
            learner: card_of(small, splits, learner, args.students if draws > 1 else 1, seed, False)["score"]["mean"]
            for learner, draws in learners.items()
        }
        found = {
            "bytes": charged_bytes(small.metadata["bytes"]), "items": len(small), "scores": scores,
            "codec": small.metadata["codec"]["name"], "seconds": round(seconds, 1),
        }  # fmt: skip
    path.write_text(json.dumps(found))
    print(name, seed, row, found, flush=True)
    return found


def full(name: str, splits: Splits, args: argparse.Namespace) -> dict[str, Any]:
    """Return the error of each learner on all training windows, and of forecasts that learn nothing."""
    path = args.folder / f"{name}-full.json"
    if not path.exists():
        small = potstill.distill(splits, "random", items=4, seed=0, progress=None)
        cards = {n: card_of(small, splits, n, args.students if s > 1 else 1, 0, True) for n, s in LEARNERS.items()}
        naive = {n: v["score"] for n, v in cards["ridge"]["naive"].items()}
        found = {"scores": {n: c["full"]["mean"] for n, c in cards.items()}, "naive": naive}
        path.write_text(json.dumps(found))
    return dict(json.loads(path.read_text()))


def yardsticks(name: str, args: argparse.Namespace) -> dict[str, Any]:
    """Return the errors of models fitted to the whole training series, and of forecasts that learn nothing."""
    path = args.folder / f"{name}.csv"
    write_series(name, path)
    settings = SERIES[name]
    splits = potstill.load_data(path, task=f"forecast:window={settings['window']},horizon={settings['horizon']}")
    assert splits.test is not None
    task = get_task(splits.train)
    models = yardstick_scores(["ets", "arima"], task, splits.train, splits.test)
    naive = naive_scores(task, splits.train, splits.test)
    keys = ("score", "mae", "mase", "models")
    return {
        "yardsticks": {n: {k: v[k] for k in keys if k in v} for n, v in models.items()},
        "naive": {n: {k: v[k] for k in keys if k in v} for n, v in naive.items()},
    }


def more(result: dict[str, Any], args: argparse.Namespace) -> None:
    """Measure the rows and the learner of ``--more``, and add those with all seeds to the stored result."""
    seeds, work = range(args.seeds), dict[str, Splits]()
    for name in REPEATING:
        path, settings = args.folder / f"{name}.csv", SERIES[name]
        write_series(name, path)
        work[name] = potstill.load_data(
            path, task=f"forecast:window={settings['window']},horizon={settings['horizon']}"
        )
    parts = {part["name"]: part for part in result["parts"]}
    bytes_ = {
        name: {
            "kip, series": {"bytes": next(int(r["bytes"]) for r in parts[name]["rows"] if r["row"] == "kip, series")}
        }
        for name in REPEATING
    }
    every = LEARNERS | {SECOND: 3}
    for row in args.rows or MORE:
        for name in SHORT if MORE[row]["length"] > 1 or row.startswith("hdt") else REPEATING:
            made = [cell(name, row, work[name], seed, args, bytes_[name], every) for seed in seeds]
            add(parts[name], row, made, every)
    for name in () if args.rows else REPEATING:
        path = args.folder / f"{name}-full-{SECOND}.json"
        if not path.exists():
            small = potstill.distill(work[name], "random", items=4, seed=0, progress=None)
            path.write_text(json.dumps(card_of(small, work[name], SECOND, args.students, 0, True)["full"]["mean"]))
        parts[name]["full"]["scores"][SECOND] = json.loads(path.read_text())
        for row in AGAIN:
            one = {SECOND: 3}
            made = [cell(name, row, work[name], seed, args, bytes_[name], one, f"-{SECOND}") for seed in seeds]
            next(r for r in parts[name]["rows"] if r["row"] == row)["scores"] |= {
                SECOND: summary([c["scores"][SECOND] for c in made], low=0.0)
            }
        args.out.write_text(json.dumps(result, indent=1) + "\n")


def add(part: dict[str, Any], row: str, made: list[Any], learners: Mapping[str, int]) -> None:
    """Put a row in its place in the stored result."""
    part["rows"] = [r for r in part["rows"] if r["row"] != row]
    part["rows"].insert(3, {
        "row": row, "bytes": sum(c["bytes"] for c in made) / len(made), "items": max(c["items"] for c in made),
        "codecs": sorted({c["codec"] for c in made}), "seconds": sum(c["seconds"] for c in made) / len(made),
        "scores": {n: summary([c["scores"][n] for c in made], low=0.0) for n in learners},
    })  # fmt: skip


def show(result: Mapping[str, Any]) -> None:
    """Print the tables."""
    for part in result["parts"]:
        s = part["settings"]
        print(
            f"\n{part['name']}: {part['train']:,} windows of {s['window']}, {s['horizon']} to come; "
            f"{s['length']} points"
        )
        learners = list(part["full"]["scores"])
        print(f"{'':28}{'bytes':>8}" + "".join(f"{n:>24}" for n in learners))
        for row in part["rows"]:
            if "reason" in row:
                print(f"{row['row']:28}{row['reason'][:90]}")
                continue
            cells = []
            for v in (row["scores"].get(n) for n in learners):
                if v is None:
                    cells.append("")
                    continue
                ends = "" if v["ci95"] is None else " [{:.3f}, {:.3f}]".format(*v["ci95"])
                cells.append(f"{v['mean']:.3f}{ends}")
            print(f"{row['row']:28}{row['bytes']:8,.0f}" + "".join(f"{c:>24}" for c in cells))
        print(f"{'all windows':36}" + "".join(f"{part['full']['scores'][n]:24.3f}" for n in learners))
        print("  ".join(f"{n} {v:.3f}" for n, v in part["full"]["naive"].items()))
        for n, v in (part.get("naive", {}) | part.get("yardsticks", {})).items():
            shown = f"  {n:16} MSE {v['score']:.3f}  MAE {v['mae']:.3f}  MASE {v.get('mase', float('nan')):.3f}  "
            print(shown + "; ".join(v.get("models", ())))
        for pair in part["pairs"]:
            gap = pair["difference"]
            print(f"  {pair['learner']}: kip, series minus best real windows {gap['mean']:+.3f}", gap["ci95"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--students", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=Path("runs/series"))
    parser.add_argument("--out", type=Path, default=Path("results/series.json"))
    parser.add_argument("--show", action="store_true", help="print the stored result")
    parser.add_argument("--yardsticks", action="store_true", help="add forecasts of models to the stored result")
    parser.add_argument("--more", action="store_true", help="add rows and a learner to the stored result")
    parser.add_argument("--rows", nargs="+", default=[], choices=list(MORE), help="with --more: these rows alone")
    args = parser.parse_args()
    if args.show:
        show(json.loads(args.out.read_text()))
        return
    torch.set_num_threads(1)
    args.folder.mkdir(parents=True, exist_ok=True)
    if args.more:
        result = json.loads(args.out.read_text())
        more(result, args)
        args.out.write_text(json.dumps(result, indent=1) + "\n")
        show(result)
        return
    if args.yardsticks:
        result = json.loads(args.out.read_text())
        for part in result["parts"]:
            part |= yardsticks(part["name"], args)
        args.out.write_text(json.dumps(result, indent=1) + "\n")
        show(result)
        return
    parts = []
    for name, settings in SERIES.items():
        path = args.folder / f"{name}.csv"
        write_series(name, path)
        splits = potstill.load_data(path, task=f"forecast:window={settings['window']},horizon={settings['horizon']}")
        assert splits.test is not None
        every = full(name, splits, args)
        found: dict[str, list[Any]] = {row: [] for row in ROWS}
        for seed in range(args.seeds):
            cells: dict[str, Any] = {}
            for row in ROWS:
                cells[row] = cell(name, row, splits, seed, args, cells)
                found[row].append(cells[row])
        rows = []
        for row, made in found.items():
            reason = next((c["reason"] for c in made if "reason" in c), None)
            rows.append(
                {"row": row, "reason": reason} if reason else {
                    "row": row, "bytes": sum(c["bytes"] for c in made) / len(made),
                    "items": max(c["items"] for c in made), "codecs": sorted({c["codec"] for c in made}),
                    "seconds": sum(c["seconds"] for c in made) / len(made),
                    "scores": {n: summary([c["scores"][n] for c in made], low=0.0) for n in LEARNERS},
                }
            )  # fmt: skip
        pairs = [
            {
                "learner": n,
                "difference": paired_difference(
                    [c["scores"][n] for c in found["kip, series"]], [c["scores"][n] for c in found["best real windows"]]
                ),
            }
            for n in LEARNERS
        ]
        parts.append(
            {"name": name, "settings": settings, "train": len(splits.train), "test": len(splits.test), "rows": rows,
             "full": every, "pairs": pairs}
        )  # fmt: skip
    result = {"parts": parts, "seeds": args.seeds, "students": args.students, "machine": machine()}
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(result, indent=1) + "\n")
    show(result)


if __name__ == "__main__":
    main()
