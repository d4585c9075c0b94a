"""How long must a small student learn, to say which real samples are the better set of so many bytes?

    python benchmarks/trial_length.py --kb 4 40
    python benchmarks/trial_length.py --data letters.csv --label lettr --kb 1 4 16
    python benchmarks/trial_length.py --show

Sets of equal bytes differ in their number: few samples in many bits, or many in few. Students of width 32 learn one
random set in each codec of the search (`potstill.evaluation.real_set_space`): 100 updates of batch 32, as the search
did; ten passes of batch 32, at least 100 or 400 updates; and 20 passes of batch 128, at least 300 updates, as measured
students do. ``closed form`` is ridge regression on untrained features, in place of a student
(`potstill.evaluation.closed_form_screen`). Accuracy is that of two students on 5 % of the training data (20 % of
small data); no test data are read. Tables have an MLP, and no closed form: its students cost little. Shown are
Spearman's correlations with the long one, and what is lost by taking the best of a short one.
"""

import argparse
import json
import math
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from machine import machine
from photo_patches import photo_patches
from scipy.stats import spearmanr

import potstill
from potstill.core import NetworkFactory, Source, Splits
from potstill.core.registry import resolve
from potstill.data import TensorSource, holdout
from potstill.evaluation.byte_matched_baselines import (
    BaselineContext,
    baseline_order,
    max_items_per_class,
    pack_samples,
    take,
)
from potstill.evaluation.candidate_trials import Length, Pair, make_probe
from potstill.evaluation.closed_form_screen import ClosedFormScreen
from potstill.evaluation.real_set_space import candidate_codecs
from potstill.nn import factory_for

OUT = Path(__file__).resolve().parents[1] / "results/trial_length"
LENGTHS = {
    "100 updates": (100, 0, 32),
    "ten passes": (100, 10, 32),
    "400 updates": (400, 10, 32),
    "long": (300, 20, 128),
}
"""Updates, passes and batch size of a student."""
SCREEN = "closed form"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="fashion-mnist")
    parser.add_argument("--label", help="column of the classes, of a table")
    parser.add_argument("--kb", type=float, nargs="+", default=[4, 40])
    parser.add_argument("--show", action="store_true", help="print what is stored")
    args = parser.parse_args()
    torch.set_num_threads(1)
    if not args.show:
        OUT.mkdir(exist_ok=True)
        name = Path(args.data).stem
        out = OUT / f"{name}.json"
        found: dict[str, Any] = json.loads(out.read_text()) if out.exists() else {"data": name, "budgets": {}}
        given = {"label": args.label} if args.label else {}
        splits = photo_patches() if name == "photo-patches" else potstill.load_data(args.data, **given)
        for kb in args.kb:
            measure(found, splits, int(1000 * kb), out)
    for path in sorted(OUT.glob("*.json")):
        show(json.loads(path.read_text()))


def measure(found: dict[str, Any], splits: Splits, size: int, out: Path) -> None:
    assert isinstance(splits.train, TensorSource)
    train, held = holdout(splits.train, 0.05 if len(splits.train) > 20_000 else 0.2, 0)
    image = train.input.kind == "image"
    make = factory_for("convnet-d3-w32" if image else "mlp-w128", train)
    where = BaselineContext(train=train, byte_budget=size, make=make, seed=0)
    order = baseline_order(train, "random", 0, "trial length", None)
    cells = found["budgets"].setdefault(str(size), {})
    screen = ClosedFormScreen(make=make, held_out=held, seed=0) if image else None
    for family in candidate_codecs(train.input, False, size):
        before = 0
        for codec in family:
            cell: dict[str, Any] = cells.get(codec, {})
            if "long" in cell:
                before = max(before, cell["items"] // len(order))
                continue
            n = max_items_per_class(train, order, where.byte_budget, codec, guess=max(1, before))
            if n <= before:
                continue
            before = n
            made = pack_samples(train, [order], n, codec)
            cell |= {"items": len(take(order, n)), "bytes": made.bytes}
            if screen is not None:
                begun = time.process_time()
                cell[SCREEN] = screen.score(made.pairs[0])
                cell["closed form seconds"] = round(time.process_time() - begun, 2)
            for name, (steps, passes, batch) in LENGTHS.items():
                if name not in cell:
                    length = max(steps, math.ceil(passes * cell["items"] / batch))
                    cell[name] = accuracy(train, held, make, made.pairs[0], length, batch)
            cells[codec] = cell
            found["machine"] = machine()
            out.write_text(json.dumps(found, indent=1) + "\n")
            print(size, codec, cell, flush=True)


def accuracy(train: Source, held: Source, make: NetworkFactory, pair: Pair, length: int, batch: int) -> float:
    """Return the mean accuracy of two students of so many updates."""
    probe = make_probe(make, train, held, students=2, seed=0)
    protocol = resolve("protocols", "potstill").override(steps=length, batch=batch, lr=0.03, least_epochs=0)
    resolved = protocol.resolve(train.name, make.name, train.input)
    probe = replace(probe, protocol=resolved, length=Length(steps=length))
    return float(probe.student_scores([pair], range(2)).mean())


def show(found: dict[str, Any]) -> None:
    for size, cells in found["budgets"].items():
        long = [c["long"] for c in cells.values()]
        print(f"{found['data']}, {int(size):,} bytes, {len(cells)} codecs, two students each:")
        for name in [name for name in (SCREEN, *LENGTHS) if name != "long" and all(name in c for c in cells.values())]:
            short = [c[name] for c in cells.values()]
            taken = max(cells, key=lambda codec: cells[codec][name])
            print(
                f"  {name}: Spearman {spearmanr(short, long).statistic:.2f}; takes {taken}, {cells[taken]['items']:,} "
                f"samples, {100 * (max(long) - cells[taken]['long']):.1f} points below the best"
            )


if __name__ == "__main__":
    main()
