"""Small sets of patients with a time until an event: concordance on test patients, by three learners.

    python benchmarks/survival.py [--seeds 3] [--folder runs/survival]
    python benchmarks/survival.py --show

Three tables of R's package survival, which ``Rscript`` writes: gbsg (recurrence or death), rotterdam (death) and colon
(death). Each of ``--seeds`` draws its own test part (30 %) and sets. Sets have 4 bits a value but for ``frame.sample``,
times and events as they are, and at most 900 bytes. Learners have their defaults; the network has one rate and length
for all. Nothing is chosen on test patients. ``all data`` is every training patient.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent))
from machine import machine
from stored_cells import Cells
from table_ranks import filled

import potstill
from potstill.core import Splits
from potstill.evaluation.statistics import paired_difference, summary

TABLES: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "gbsg": ("rfstime", "status", ("pid",)),
    "rotterdam": ("dtime", "death", ("pid", "rtime", "recur")),
    "colon": ("time", "status", ("id", "study", "etype", "node4")),
}
"""Columns of times and events, and those that are left out: numbers of patients, what was measured later, copies."""
BYTES = 900
STORE: dict[str, Any] = {"codec": "columns:bits=4"}
WAYS: dict[str, dict[str, Any]] = {
    "frame.sample": {"method": "random"},
    "random": {"method": "random", **STORE},
    "herding": {"method": "herding", **STORE},
    "k-means": {"method": "k-means", **STORE},
    "dm": {"method": "dm", **STORE},
}
LEARNERS: dict[str, dict[str, Any]] = {"cox": {}, "xgboost-cox": {}, "mlp": {"lr": 0.01, "steps": 200}}


def load(name: str, seed: int, folder: Path) -> Splits:
    """Return training and test patients."""
    time, event, without = TABLES[name]
    path = folder / f"{name}.csv"
    if not path.exists():
        rows = "survival::colon[survival::colon$etype == 2, ]" if name == "colon" else f"survival::{name}"
        script = f"write.csv({rows}, {json.dumps(str(path))}, row.names=FALSE)"
        subprocess.run(["Rscript", "-e", script], check=True)
    return potstill.load_data(
        path, task=f"survival:time={time},event={event}", missing="impute", remove_columns=without, split_seed=seed,
        test_fraction=0.3,
    )  # fmt: skip


def score(small: potstill.Distilled, splits: Splits, seed: int, full: bool) -> dict[str, float]:
    """Return the concordance of each learner of a set, or of all training patients."""
    found = {}
    for learner, recipe in LEARNERS.items():
        card = potstill.evaluate(
            small, splits, networks=learner, seeds=1, seed=seed, baselines=False, full=full, progress=None,
            executor="serial", robust_scores=False, device="cpu", **recipe,
        ).to_dict()  # fmt: skip
        found[learner] = float(card["full" if full else "score"]["mean"])
    return found


def cell(name: str, way: str, seed: int, args: argparse.Namespace, cells: Cells) -> Any:
    """Return one set of a table, measured."""

    def measured() -> Any:
        splits = load(name, seed, args.folder)
        options: dict[str, Any] = {"seed": seed, "progress": None, "device": "cpu", "executor": "serial"}
        if way == "all data":
            small = potstill.distill(splits, "random", items=20, **options)
            return {"bytes": None, "items": len(splits.train), "scores": score(small, splits, seed, True)}
        options |= WAYS[way]
        small = potstill.distill(splits, bytes=BYTES, **options)
        if way != "dm":
            small = filled(splits, small, BYTES, options)
        return {
            "bytes": small.metadata["bytes"]["total"], "items": len(small), "scores": score(small, splits, seed, False)
        }  # fmt: skip

    return cells.get(f"{name} {way} {seed}", measured, timed=True)


def summarize(name: str, args: argparse.Namespace, cells: Cells) -> dict[str, Any]:
    """Return the rows of a table, and differences from random rows of the same bytes."""
    rows, means, splits = [], {}, load(name, 0, args.folder)
    for way in (*WAYS, "all data"):
        found = [cell(name, way, seed, args, cells) for seed in range(args.seeds)]
        means[way] = [float(np.mean(list(f["scores"].values()))) for f in found]
        rows.append({
            "way": way, "items": float(np.mean([f["items"] for f in found])),
            "bytes": None if way == "all data" else float(np.mean([f["bytes"] for f in found])),
            "scores": {n: summary([f["scores"][n] for f in found]) for n in LEARNERS},
        })  # fmt: skip
    assert splits.test is not None
    train = splits.train.fetch(torch.arange(len(splits.train))).y
    assert train is not None
    return {
        "table": name, "patients": len(splits.train) + len(splits.test), "inputs": splits.train.input.num_values,
        "events": float(train[:, 1].mean()), "rows": rows,
        "pairs": [
            {"way": way, "difference": paired_difference(means[way], means["random"])} for way in means
            if way != "random"
        ],
    }  # fmt: skip


def show(result: Mapping[str, Any]) -> None:
    """Print the tables."""
    for table in result["tables"]:
        print(f"\n{table['table']}: {table['patients']:,} patients, {table['events']:.0%} with the event, "
              f"{table['inputs']} inputs; n {result['settings']['seeds']}")  # fmt: skip
        print(f"{'':16}{'rows':>6}{'bytes':>7}" + "".join(f"{n:>26}" for n in LEARNERS))
        for row in table["rows"]:
            text = f"{row['way']:16}{row['items']:6.0f}{row['bytes'] or 0:7,.0f}"
            for value in row["scores"].values():
                low, high = value["ci95"]
                text += f"{100 * value['mean']:10.1f} [{100 * low:5.1f}, {100 * high:5.1f}]"
            print(text)
        for pair in table["pairs"]:
            low, high = pair["difference"]["ci95"]
            print(f"  mean of learners, {pair['way']} minus random: {100 * pair['difference']['mean']:+.1f} "
                  f"[{100 * low:+.1f}, {100 * high:+.1f}]")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=Path("runs/survival"))
    parser.add_argument("--out", type=Path, default=Path("results/survival.json"))
    parser.add_argument("--show", action="store_true", help="print the stored result")
    args = parser.parse_args()
    if not args.show:
        torch.set_num_threads(1)
        args.folder.mkdir(parents=True, exist_ok=True)
        cells = Cells(args.folder)
        result = {
            "settings": {"seeds": args.seeds, "bytes": BYTES}, "machine": machine(),
            "tables": [summarize(name, args, cells) for name in TABLES],
        }  # fmt: skip
        args.out.write_text(json.dumps(result, indent=1) + "\n")
    show(json.loads(args.out.read_text()))


if __name__ == "__main__":
    main()
