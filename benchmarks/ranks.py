"""What two ranks of torchrun change: gradients, time of a step, and a set whose teacher they trained.

    torchrun --standalone --nproc-per-node 2 benchmarks/ranks.py [--networks NAME …] [--batch 256]

For each network, on MNIST-5k: how far the gradients of a batch over the ranks are from those of one process (relative,
in float32 and float64), the bytes that a step sends, and the seconds of a step over the ranks beside those of one
process with one thread, taken by turns (medians of ``--rounds``). Then ``edc`` recovers digits from a teacher that
the ranks trained and from one of one process: how far the teachers' weights and the sets are apart, and what students
of both tell right. Results: results/ranks.json.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from machine import machine

import potstill
from potstill.core import Splits
from potstill.data import TensorSource, holdout
from potstill.execution import Ranks
from potstill.functional.microbatch import share_batches
from potstill.functional.train import copy_parameters, train_step
from potstill.nn import factory


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=["convnet-d3-w16", "convnet-d3-w64", "convnet-d3-w64-batch"])
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path, default=Path("results/ranks.json"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    with Ranks() as ranks:
        found: dict[str, Any] = {"machine": machine(), "ranks": ranks.world, "batch": args.batch, "steps": []}
        for name in args.networks:
            found["steps"].append(row := step(name, args.batch, args.rounds))
            print(row, flush=True)
        found["set"] = made()
        print(found["set"], flush=True)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(found, indent=1) + "\n")


def step(name: str, batch: int, rounds: int) -> dict[str, Any]:
    """One network's row."""
    source = potstill.load_data("mnist-5k").train
    fetched = source.fetch(torch.arange(0, len(source), len(source) // batch)[:batch])
    assert isinstance(fetched.x, torch.Tensor)
    net = factory(name, source.input, len(source.classes), source.device, normalization=source.normalization)(0).train()
    row: dict[str, Any] = {"network": name, "sent_mb": 8e-6 * sum(p.numel() for p in net.parameters())}
    for kind in (torch.float64, torch.float32):
        net, x = net.to(kind), fetched.x.to(kind)
        theta = copy_parameters(net)
        two = train_step(net, theta, None, x, fetched.y, lr=0.01)
        with share_batches(None):
            one = train_step(net, theta, None, x, fetched.y, lr=0.01)
        gap = sum(float((two.velocity[n] - v).square().sum()) for n, v in one.velocity.items())
        size = sum(float(v.square().sum()) for v in one.velocity.values())
        row[f"gap_{str(kind).removeprefix('torch.')}"] = (gap / size) ** 0.5
    times: dict[str, list[float]] = {"ranks": [], "alone": []}
    for _ in range(rounds):
        for who in times:
            begun = time.perf_counter()
            if who == "ranks":
                train_step(net, theta, None, x, fetched.y, lr=0.01)
            else:
                with share_batches(None):
                    train_step(net, theta, None, x, fetched.y, lr=0.01)
            times[who].append(time.perf_counter() - begun)
    row |= {who: statistics.median(t) for who, t in times.items()}
    return row | {"times_faster": row["alone"] / row["ranks"]}


def made() -> dict[str, Any]:
    """Sets of `edc` from a teacher of the ranks and from one of one process."""
    data = potstill.load_data("digits").train
    assert isinstance(data, TensorSource)
    train, held = holdout(data, 0.25, 0)
    options: dict[str, Any] = {
        "ipc": 2, "network": "convnet-d3-w16-batch", "effort": "quick", "iterations": 40, "device": "cpu",
        "progress": None, "store": "float32",
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        os.environ["POTSTILL_CACHE"] = folder
        two = potstill.distill(Splits(train=train, test=None), "edc", seed=0, **options)
    with share_batches(None), tempfile.TemporaryDirectory() as folder:
        os.environ["POTSTILL_CACHE"] = folder  # or the teacher would be that of the ranks
        one = potstill.distill(Splits(train=train, test=None), "edc", seed=0, executor="serial", **options)
    assert isinstance(one.inputs, torch.Tensor)
    assert isinstance(two.inputs, torch.Tensor)
    scores = {}
    for name, small in (("ranks", two), ("alone", one)):
        with share_batches(None):
            score = potstill.evaluate(
                small, Splits(train=train, test=held), networks=["convnet-d3-w16"], seeds=3, baselines=False,
                full=False, robust_scores=False, executor="serial",
            )  # fmt: skip
        scores[name] = score.to_dict()["accuracy"]["values"]
    gap = float((one.inputs - two.inputs).norm() / one.inputs.norm())
    return {"method": "edc", "relative_difference": gap, "held_out": scores}


if __name__ == "__main__":
    main()
