"""From how many pixels on tiles help: sets over tiles and over whole pictures of the same bytes, by the pictures' side.

    python benchmarks/tiny_pictures.py [--sides 12 16 20 28] [--method m3d] [--sets 2]
    python benchmarks/tiny_pictures.py --method remember --stored memory --out results/tiny-pictures-memory.json

Pictures of MNIST-5k are shrunk to each side (means of areas); a quarter of the training data is held out. The method's
quick sets of ``--ipc`` float32 pictures a class, whole and cut into 2 × 2 cells, are tested on it by students of
protocol `potstill` (300 updates); ``digits``, 8 pixels wide, as they are. The second: the same of a memory's bases,
which have half the pixels along a side. Results: results/tiny-pictures.json, and as ``--out`` says.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from machine import machine

import potstill
from potstill.core import Splits
from potstill.core.registry import resolve
from potstill.data import TensorSource, holdout
from potstill.evaluation import evaluate
from potstill.execution import Serial


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sides", type=int, nargs="+", default=[12, 16, 20, 28])
    parser.add_argument("--method", default="m3d")
    parser.add_argument("--stored", default="tiles", help="the parametrization that is held against whole pictures")
    parser.add_argument("--ipc", type=int, default=5)
    parser.add_argument("--sets", type=int, default=2)
    parser.add_argument("--network", default="convnet-d3-w16")
    parser.add_argument("--out", type=Path, default=Path("results/tiny-pictures.json"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for data, side in [("digits", 8), *(("mnist-5k", side) for side in args.sides)]:
        train, held = holdout(shrunk(data, side), 0.25, 0)
        for stored in ("pixels", args.stored):
            row = {"data": data, "side": side, "stored": stored, "sets": made(train, held, stored, args)}
            rows.append(row)
            means = [sum(values) / len(values) for values in row["sets"]]
            print(f"{data} {side}: {stored} {[round(100 * m, 1) for m in means]}", flush=True)
            found = {"machine": machine(), "options": {**vars(args), "out": ""}, "rows": rows}
            args.out.parent.mkdir(parents=True, exist_ok=True)
            args.out.write_text(json.dumps(found, indent=1) + "\n")


def shrunk(name: str, side: int) -> TensorSource:
    """The training data with pictures of that side."""
    source = potstill.load_data(name).train
    assert isinstance(source, TensorSource)
    assert isinstance(source.inputs, torch.Tensor)
    if source.input.shape[-1] == side:
        return source
    x = source.raw(torch.arange(len(source)))
    assert isinstance(x, torch.Tensor)
    return TensorSource.make(F.interpolate(x.float(), size=(side, side), mode="area"), source.labels, name=name)


def made(train: Any, held: Any, stored: str, args: argparse.Namespace) -> list[list[float]]:
    """Accuracies of two students of each set, on what is held out."""
    protocol = resolve("protocols", "potstill").override(steps=300, least_epochs=0, batch=128, lr=0.03, validation=0.0)
    sets = []
    for seed in range(args.sets):
        small = potstill.distill(
            Splits(train=train, test=None), args.method, ipc=args.ipc, preset="quick", network=args.network,
            parametrization=stored, seed=seed, codec="float32", device="cpu", progress=None, executor="serial",
        )  # fmt: skip
        score = evaluate(
            small, Splits(train=train, test=held), protocol=protocol, networks=[args.network], seeds=2,
            baselines=False, full=False, robust_scores=False, executor=Serial(),
        )  # fmt: skip
        sets.append(score.to_dict()["accuracy"]["values"])
    return sets


if __name__ == "__main__":
    main()
