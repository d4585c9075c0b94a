"""Training on a small device: a distilled set below 8 kB beside baselines of the same bytes, on one core.

    python benchmarks/uses/edge.py [--data fashion-mnist] [--size 14x14] [--head linear] [--to 80%]

The set is made by RaT-BPTT with the head as its student, with learned labels and 4 bits a value. Every row is a file
under ``--folder``, from which an interrupted run goes on; the summary goes to ``results/uses/edge-DATA-HEAD.json``.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from machine import machine

import potstill
from potstill.core import Splits
from potstill.reports.edge import EDGE_HEAD, cells_of
from potstill.rng import generator
from potstill.uses.edge import edge
from potstill.uses.edge.learner import parse_head


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="fashion-mnist")
    parser.add_argument("--size", default="14x14", help="height and width of the pictures")
    parser.add_argument("--samples", type=int, default=10_000, help="training samples, drawn with seed 0")
    parser.add_argument("--ipc", type=int, default=7)
    parser.add_argument("--iterations", type=int, default=400)
    parser.add_argument("--window", type=int, default=40)
    parser.add_argument("--total", type=int, default=60)
    parser.add_argument("--head", default="linear")
    parser.add_argument("--bits", type=int, default=4)
    parser.add_argument("--to", default="80%")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="few ways to store real samples, a briefly trained model")
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    height, width = map(int, args.size.split("x"))
    splits = potstill.load_data(args.data, size=(height, width))
    order = torch.randperm(len(splits.train), generator=generator(0, "edge"))[: args.samples].sort().values
    splits = Splits(train=splits.train.subset(order), test=splits.test)
    name = f"{args.data}-{args.head.partition(':')[0]}"
    folder = args.folder or Path(f"runs/edge-{name}")
    folder.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    hidden = parse_head(args.head)
    path = folder / "set.safetensors"
    if not path.exists():
        small = potstill.distill(
            splits, "rat-bptt", ipc=args.ipc, network=f"mlp-w{hidden}" if hidden else "linear", labels="learned",
            codec="uint4", executor="serial", progress=None,
            inner_optimizer="sgd", lr_net=0.02, window=args.window, total=args.total, batch_per_class=args.ipc,
            iterations=args.iterations, lr=0.05,
        )  # fmt: skip
        small.save(path)
    result = edge(
        path, splits, out=folder / "out", target=args.to, head=args.head, bits=args.bits, seeds=args.seeds,
        quick=args.quick, progress=lambda label, done, total: print(f"{label} {done} of {total}", flush=True),
    )  # fmt: skip
    out = args.out or Path(f"results/uses/edge-{name}.json")
    out.parent.mkdir(parents=True, exist_ok=True)
    summary = {key: value for key, value in result.items() if key != "cells"}
    stamp = {"machine": machine(), "seconds": round(time.monotonic() - started, 1), "script": _settings(sys.argv[1:])}
    out.write_text(json.dumps({**summary, **stamp}, indent=1) + "\n")
    print(" | ".join(EDGE_HEAD))
    for row in result["rows"]:
        print(" | ".join(cells_of(row)))
    print(*result["sentences"], sep="\n")


def _settings(words: list[str]) -> str:
    """Return the command line without its folders."""
    places = ("--folder", "--out")
    return " ".join(
        a for a, before in zip(words, ["", *words], strict=False) if a not in places and before not in places
    )


if __name__ == "__main__":
    main()
