"""Sets sampled from a small diffusion model beside real pictures, in equal bytes.

    python benchmarks/generative.py                 # results/generative.json; --sets, --data, --budgets, --ways: a part
    python benchmarks/generative.py --show

`d4m`, `minimax` and `mgd3` guide, fine-tune or start a diffusion model over the latents of an autoencoder, both trained
on the same data. Two controls decide whether that did anything: `diffusion-samples`, plain samples of the same model,
and `d4m strength=0`, whose prototypes are decoded with no diffusion at all. Beside them: random real pictures, those of
`k-means`, `real` (selection and codec searched on held-out training data), `dm` over pixels, and `encoded`, latents of
random real pictures, whose file needs a decoder that is not counted.

All have the same budget of bytes, about that of 10 pictures per class. Pictures are stored as pictures: no
reader needs the model. Labels are hard. Three sets of each by other seeds, three students each, of two networks.
Settings are those of preset quick; its guidance was chosen on held-out training data.
"""

import argparse
import json
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent))
import latents
from latents import cached
from machine import machine

import potstill
from potstill.core import Splits
from potstill.evaluation.statistics import paired_difference, summary

OUT = Path("results/generative.json")
FOLDER = Path(tempfile.gettempdir()) / "potstill-generative"
"""Finished cells, from which an interrupted run goes on."""
BUDGETS = {"mnist-5k": (3300,), "fashion-mnist": (8000,)}
CODEC = {"mnist-5k": "uint2", "fashion-mnist": "uint3"}
TRAINING = 5000
NETWORK, OTHER = "convnet-d3-w16", "mlp"
STUDENTS, SETS = 3, 3
EVALUATION: dict[str, Any] = {"quick": True, "full": False, "progress": None, "baselines": False}
WAYS: dict[str, tuple[str, dict[str, Any]]] = {
    "random": ("random", {}),
    "k-means": ("k-means", {}),
    "real": ("real", {}),
    "dm": ("dm", {"batch_real": 32, "iterations": 200}),
    "encoded": ("dm", {"parametrization": "latents", "codec": "uint8", "steps": 0}),
    "diffusion-samples": ("diffusion-samples", {}),
    "d4m": ("d4m", {"labels": "hard"}),
    "d4m strength=0": ("d4m", {"labels": "hard", "strength": 0.0}),
    "minimax": ("minimax", {}),
    "mgd3": ("mgd3", {}),
}
CONTROL = "diffusion-samples"


def load(name: str) -> Splits:
    """Return the data with at most 5,000 training pictures, evenly spaced."""
    data = potstill.load_data(name)
    n = len(data.train)
    if n > TRAINING:
        data = Splits(train=data.train.subset(torch.arange(TRAINING) * n // TRAINING), test=data.test)
    return data


def measure(data: Splits, name: str, way: str, seed: int, budget: int) -> dict[str, Any]:
    """Return size, time and accuracies of one set."""
    method, options = WAYS[way]
    codec = {} if way == "real" else {"codec": CODEC[name]}
    small = potstill.distill(
        data, method, bytes=budget, preset="quick", network=NETWORK, seed=seed, progress=None, **{**codec, **options}
    )
    cost = small.metadata["cost"]
    cell: dict[str, Any] = {
        "items": len(small), "bytes": small.metadata["bytes"]["total"], "seconds": cost["seconds"], "accuracy": {},
        "codec": small.metadata["codec"].get("name"),
    }  # fmt: skip
    for network in (NETWORK, OTHER):
        score = potstill.evaluate(small, data, networks=network, seeds=STUDENTS, seed=seed, **EVALUATION)
        cell["accuracy"][network] = score.accuracy
    return cell


def summarize(cells: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Return rows of means, and paired differences from plain samples."""
    rows: dict[str, Any] = {}
    for way, found in cells.items():
        rows[way] = {name: [c[name] for c in found] for name in ("items", "bytes", "seconds", "codec")}
        rows[way]["n"] = len(found)
        for network in (NETWORK, OTHER):
            values = [c["accuracy"][network] for c in found]
            rows[way][network] = summary(values)
            base = [c["accuracy"][network] for c in cells.get(CONTROL, [])][: len(values)]
            paired = way != CONTROL and len(base) == len(values)
            rows[way][f"{network} minus {CONTROL}"] = paired_difference(values, base) if paired else None
    return rows


def show(result: dict[str, Any]) -> None:
    for name, budgets in result["data"].items():
        for budget, rows in budgets.items():
            print(f"{name}, {int(budget):,} bytes; n sets of {result['students']} students each")
            for way, row in sorted(rows.items(), key=lambda item: -item[1][NETWORK]["mean"]):
                text = [f"{min(row['items']):>4}-{max(row['items'])}", f"{max(row['bytes']):>6}"]
                for network in (NETWORK, OTHER):
                    gap, own = row[f"{network} minus {CONTROL}"], row[network]
                    text.append(f"{100 * own['mean']:6.1f}")
                    if gap is not None and gap.get("ci95") is not None:
                        numbers = (gap["mean"], *gap["ci95"])
                        text.append("({:+.1f}: {:+.1f} to {:+.1f})".format(*(100 * v for v in numbers)))
                print(f"  {way:18} n={row['n']}", *text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", type=int, default=SETS)
    parser.add_argument("--data", nargs="+", choices=list(BUDGETS), default=list(BUDGETS))
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), default=list(WAYS))
    parser.add_argument("--budgets", type=int, nargs="+", help="some of the budgets alone")
    parser.add_argument("--show", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(1)
    latents.FOLDER = FOLDER
    if not args.show:
        tables: dict[str, Any] = {}
        for name in args.data:
            data = load(name)
            for budget in args.budgets or BUDGETS[name]:
                cells: dict[str, list[dict[str, Any]]] = {}
                for seed in range(args.sets):
                    for way in args.ways:
                        compute = partial(measure, data, name, way, seed, budget)
                        cells.setdefault(way, []).append(cached(f"{name} {budget} {way} {seed}", compute))
                tables.setdefault(name, {})[str(budget)] = summarize(cells)
        result = {
            "machine": machine(), "network": NETWORK, "other": OTHER, "sets": args.sets, "students": STUDENTS,
            "data": tables,
        }  # fmt: skip
        OUT.write_text(json.dumps(result, indent=1) + "\n")
    show(json.loads(OUT.read_text()))


if __name__ == "__main__":
    main()
