"""How long must a small student learn, to say which real samples are the better set of so many bytes?

    python benchmarks/trial_length.py --kb 4 40
    python benchmarks/trial_length.py --show

Sets of equal bytes differ in their number: few samples in many bits, or many in few. Students of width 32 learn one
random set in each codec of the search (`potstill.evaluation.real_set_space`), of Fashion-MNIST: 100 updates of batch
32, as the search does; ten passes of batch 32, at least 100 or 400 updates; and 20 passes of batch 128, at least 300
updates, as measured students do. Accuracy is that of two students on 5 % of the training data; no test data are read.
Shown are Spearman's correlations with the long one, and what is lost by taking the best of a short one.
"""

import argparse
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from machine import machine
from scipy.stats import spearmanr

import potstill
from potstill.core.registry import resolve
from potstill.data import TensorSource, holdout
from potstill.evaluation.byte_matched_baselines import (
    BaselineContext,
    baseline_order,
    max_items_per_class,
    pack_samples,
    take,
)
from potstill.evaluation.candidate_trials import make_probe
from potstill.evaluation.real_set_space import candidate_codecs
from potstill.nn import factory_for

OUT = Path(__file__).resolve().parents[1] / "results/trial_length.json"
LENGTHS = {
    "100 updates": (100, 0, 32),
    "ten passes": (100, 10, 32),
    "400 updates": (400, 10, 32),
    "long": (300, 20, 128),
}
"""Updates, passes and batch size of a student."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="fashion-mnist")
    parser.add_argument("--kb", type=float, nargs="+", default=[4, 40])
    parser.add_argument("--show", action="store_true", help="print what is stored")
    args = parser.parse_args()
    torch.set_num_threads(1)
    found: dict[str, Any] = json.loads(OUT.read_text()) if OUT.exists() else {"data": args.data, "budgets": {}}
    if not args.show:
        for kb in args.kb:
            measure(found, args.data, int(1000 * kb))
    show(found)


def measure(found: dict[str, Any], data: str, size: int) -> None:
    splits = potstill.load_data(data)
    assert isinstance(splits.train, TensorSource)
    train, held = holdout(splits.train, 0.05, 0)
    make = factory_for("convnet-d3-w32", train)
    where = BaselineContext(train=train, byte_budget=size, make=make, seed=0)
    order = baseline_order(train, "random", 0, "trial length", None)
    cells = found["budgets"].setdefault(str(size), {})
    before = 0
    for family in candidate_codecs(train.input, False, size):
        before = 0
        for codec in family:
            if codec in cells:
                continue
            n = max_items_per_class(train, order, where.byte_budget, codec, guess=max(1, before))
            if n <= before:
                continue
            before = n
            made = pack_samples(train, [order], n, codec)
            cell: dict[str, Any] = {"items": len(take(order, n)), "bytes": made.bytes}
            for name, (steps, epochs, batch) in LENGTHS.items():
                length = max(steps, math.ceil(epochs * cell["items"] / batch))
                probe = make_probe(make, train, held, students=2, seed=0)
                protocol = resolve("protocols", "potstill").override(steps=length, batch=batch, lr=0.03, least_epochs=0)
                probe = replace(probe, protocol=protocol.resolve(train.name, make.name, train.input))
                cell[name] = float(probe.student_scores(made.pairs, range(2)).mean())
            cells[codec] = cell
            found["machine"] = machine()
            OUT.write_text(json.dumps(found, indent=1) + "\n")
            print(size, codec, cell, flush=True)


def show(found: dict[str, Any]) -> None:
    for size, cells in found["budgets"].items():
        long = [c["long"] for c in cells.values()]
        print(f"{found['data']}, {int(size):,} bytes, {len(cells)} codecs, two students each:")
        for name in list(LENGTHS)[:-1]:
            short = [c[name] for c in cells.values()]
            taken = max(cells, key=lambda codec: cells[codec][name])
            print(
                f"  {name}: Spearman {spearmanr(short, long).statistic:.2f}; takes {taken}, {cells[taken]['items']:,} "
                f"samples, {100 * (max(long) - cells[taken]['long']):.1f} points below the best"
            )


if __name__ == "__main__":
    main()
