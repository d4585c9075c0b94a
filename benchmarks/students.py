"""How students of one evaluation are trained fastest on this machine: in turn, in processes, or stacked by vmap.

    python benchmarks/students.py [--students 5 20] [--steps 60] [--repeats 3] [--out results/students.json]

All train the same number of students for the same number of updates on the same number of samples, without
augmentation. Starting the processes (once for an evaluation) is reported apart. Times are medians of interleaved
repeats, in milliseconds per student and update.
"""

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from machine import machine
from torch.func import functional_call, stack_module_state, vmap

from potstill.augment.siamese import none
from potstill.core import InputSpec, Network
from potstill.evaluation.protocols.dc import PROTOCOL as DC
from potstill.evaluation.student import Job, train
from potstill.execution import Processes, Serial
from potstill.nn import factory
from potstill.rng import derive, generator

SETTINGS = (
    ("mlp", (64,), "table"),
    ("mlp", (1, 28, 28), "image"),
    ("convnet-w32", (1, 28, 28), "image"),
)


def stacked(jobs: list[Job]) -> None:
    """All students as one network with one more axis; the same recipe, the same order of samples."""
    first, p = jobs[0], jobs[0].protocol
    networks: list[Network] = [job.make(derive(job.seed, "network")) for job in jobs]
    params, _ = stack_module_state(networks)  # type: ignore[arg-type]
    names, values = list(params), [v.detach().requires_grad_() for v in params.values()]
    orders = [generator(job.seed, "samples") for job in jobs]
    n = len(first.x)

    def loss(weights: dict[str, torch.Tensor], x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(functional_call(networks[0], weights, (x,)), y)

    many = vmap(loss)
    sgd = torch.optim.SGD(values, lr=first.lr, momentum=p.momentum, weight_decay=p.weight_decay, fused=True)
    for _ in range((p.epochs or 0) + 1):
        order = torch.stack([torch.randperm(n, generator=rng) for rng in orders])
        total = many(dict(zip(names, values, strict=True)), first.x[order], first.y[order]).sum()
        sgd.zero_grad()
        total.backward()
        sgd.step()


def turn(jobs: list[Job], threads: int) -> None:
    list(Serial(threads).map(train, jobs))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--students", type=int, nargs="+", default=[5, 20])
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("results/students.json"))
    args = parser.parse_args()
    cores = os.cpu_count() or 1
    begun = time.perf_counter()
    pool = Processes(cores)
    list(pool.map(abs, range(cores)))
    started = time.perf_counter() - begun
    rows: list[dict[str, Any]] = []
    for name, shape, kind in SETTINGS:
        make = factory(name, InputSpec(kind=kind, shape=shape), 10)
        for n in (10, 100):
            for students in args.students:
                x = torch.randn(n, *shape, generator=generator(0, "x"))
                recipe = DC.override(epochs=args.steps - 1)
                jobs = [
                    Job(make=make, x=x, y=torch.arange(n) % 10, protocol=recipe, lr=0.01, steps=None, augment=none(),
                        seed=s) for s in range(students)
                ]  # fmt: skip
                ways: dict[str, Callable[[], object]] = {
                    "in turn, 1 thread": partial(turn, jobs, 1),
                    f"in turn, {cores} threads": partial(turn, jobs, cores),
                    f"{cores} processes, 1 thread": lambda jobs=jobs: list(pool.map(train, jobs)),  # type: ignore[misc]
                    "stacked, 1 thread": partial(stacked, jobs),
                }
                taken: dict[str, list[float]] = {way: [] for way in ways}
                for _ in range(args.repeats):
                    for way, run in ways.items():
                        torch.set_num_threads(1)
                        begun = time.perf_counter()
                        run()
                        taken[way].append(1e3 * (time.perf_counter() - begun) / students / args.steps)
                medians = {way: round(statistics.median(times), 3) for way, times in taken.items()}
                rows.append({"network": make.name, "input": shape, "samples": n, "students": students, "ms": medians})
                print(rows[-1], file=sys.stderr)
    pool.close()
    result = {"machine": machine(), "start_processes_s": round(started, 2), "load": os.getloadavg(), "rows": rows}
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(result, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
