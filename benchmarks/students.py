"""How students of one evaluation are trained fastest: in turn, in processes, or side by side; and what bfloat16 costs.

    python benchmarks/students.py [--device cuda] [--students 5 20] [--steps 60] [--repeats 3]

**Time.** All ways train the same students for the same number of updates of the same samples, under protocol ``dsa``
with its augmentation. Starting the processes (once for an evaluation; on a CPU only) is reported apart. Times are
medians of interleaved repeats, in milliseconds per student and update.

**Accuracy.** Students of random real samples (``--ipc`` per class of ``--data``) are trained one by one in float32,
side by side in float32, and one by one in bfloat16, from the same seeds; differences of test accuracies are paired.
"""

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from machine import machine

from potstill.augment.names import named_augmentation
from potstill.core import InputSpec
from potstill.data import load
from potstill.data.real_data import RealData
from potstill.evaluation.protocols import DSA
from potstill.evaluation.statistics import summary
from potstill.evaluation.student import StudentJob, train, train_and_predict
from potstill.evaluation.vmap_students import fit_stacked, train_and_predict_stacked
from potstill.execution import Processes, Serial
from potstill.nn import factory
from potstill.rng import generator

SETTINGS = (
    ("mlp", (1, 28, 28)),
    ("convnet-w32", (1, 28, 28)),
    ("convnet-w128", (1, 28, 28)),
    ("convnet-w128", (3, 32, 32)),
)


def turn(jobs: list[StudentJob], threads: int) -> None:
    list(Serial(threads).map(train, jobs))


def side_by_side(jobs: list[StudentJob], threads: int) -> None:
    list(Serial(threads).map(fit_stacked, [jobs]))


def times(args: argparse.Namespace, pool: Processes | None, network: str, shape: tuple[int, ...], n: int) -> list[Any]:
    cores, rows = len(os.sched_getaffinity(0)), []
    make = factory(network, InputSpec(kind="image", shape=shape), 10, args.device)
    for students in args.students:
        x = torch.randn(n, *shape, generator=generator(0, "x")).to(args.device)
        y = (torch.arange(n) % 10).to(args.device)
        jobs = [
            StudentJob(
                make=make, x=x, y=y, protocol=DSA.override(steps=args.steps), lr=0.01, steps=args.steps,
                augment=named_augmentation("dsa", load("mnist-5k").train), seed=s,
            ) for s in range(students)
        ]  # fmt: skip
        ways: dict[str, Callable[[], object]] = {
            "in turn": partial(turn, jobs, cores), "side by side": partial(side_by_side, jobs, cores)
        }  # fmt: skip
        if pool is not None:
            ways[f"{cores} processes"] = lambda jobs=jobs: list(pool.map(train, jobs))  # type: ignore[misc]
        taken: dict[str, list[float]] = {way: [] for way in ways}
        for _ in range(args.repeats):
            for way, run in ways.items():
                begun = time.perf_counter()
                run()
                if args.device == "cuda":
                    torch.cuda.synchronize()
                taken[way].append(1e3 * (time.perf_counter() - begun) / students / args.steps)
        medians = {way: round(statistics.median(each), 3) for way, each in taken.items()}
        rows.append({"network": make.name, "input": shape, "samples": n, "students": students, "ms": medians})
        print(rows[-1], file=sys.stderr)
    return rows


def accuracies(args: argparse.Namespace) -> dict[str, Any]:
    splits = load(args.data, device=args.device)
    train_data, test = splits.train, splits.test
    assert test is not None
    counts = [args.ipc] * len(train_data.classes)
    index = torch.cat(RealData.of_source(train_data).draw_exactly(counts, generator(0, "set")))
    batch = train_data.fetch(index)
    assert isinstance(batch.x, torch.Tensor)
    assert batch.y is not None
    make = factory(args.network, train_data.input, len(train_data.classes), args.device)
    protocol = DSA.override(epochs=args.epochs)
    augment = named_augmentation(protocol.recipe.augment, train_data)
    jobs = [
        StudentJob(make=make, x=batch.x, y=batch.y, protocol=protocol, lr=0.01, steps=None, augment=augment, seed=s)
        for s in range(args.pairs)
    ]
    rough = [replace(job, protocol=protocol.override(precision="bfloat16")) for job in jobs]
    found = {
        "in turn": [train_and_predict(test, job) for job in jobs],
        "side by side": train_and_predict_stacked(test, jobs),
        "bfloat16": [train_and_predict(test, job) for job in rough],
    }
    right = {
        way: [float((p == test.labels).double().mean()) for p in each if p is not None] for way, each in found.items()
    }
    return {
        "data": args.data, "ipc": args.ipc, "network": make.name, "epochs": args.epochs, "n": args.pairs,
        "accuracy": {way: summary(values, len(test)) for way, values in right.items()},
        "difference": {
            way: summary([a - b for a, b in zip(right[way], right["in turn"], strict=True)])
            for way in ("side by side", "bfloat16")
        },
    }  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--students", type=int, nargs="+", default=[5, 20])
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--samples", type=int, nargs="+", default=[10, 100])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--data", default="mnist-5k", help="of the accuracies")
    parser.add_argument("--ipc", type=int, default=10)
    parser.add_argument("--network", default="convnet-w32")
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--pairs", type=int, default=10)
    parser.add_argument("--out", type=Path, help="results/students.json, or on a GPU results/students-cuda.json")
    args = parser.parse_args()
    args.out = args.out or Path("results") / ("students.json" if args.device == "cpu" else "students-cuda.json")
    pool, started = None, 0.0
    if args.device == "cpu":
        cores = len(os.sched_getaffinity(0))
        begun = time.perf_counter()
        pool = Processes(cores)
        list(pool.map(abs, range(cores)))
        started = time.perf_counter() - begun
    rows = [row for network, shape in SETTINGS for n in args.samples for row in times(args, pool, network, shape, n)]
    if pool is not None:
        pool.close()
    result = {
        "machine": machine(), "device": args.device, "start_processes_s": round(started, 2), "load": os.getloadavg(),
        "steps": args.steps, "repeats": args.repeats, "rows": rows, "precision": accuracies(args),
    }  # fmt: skip
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(result, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
