"""What 8, 64 and 512 workers would bring, by simulation, and how far the simulation is right where it can be held.

    python benchmarks/simulate.py

A driver hands out jobs one after another, workers take the next as they are free, and the driver takes the answers in
the order of the jobs, as `potstill.execution.Ray` does. What this costs is measured here: processor seconds of the
driver for a job, for a megabyte that jobs share and for one that a job answers; what a job takes beside its own work;
and processor seconds that a fresh worker needs before its first job. Injected are the nodes: eight workers each, 10
Gbit/s from the first to all others together.

Held against: 48 jobs that only sleep, 0.1 to 0.5 s, on Ray with 1 to 16 workers of this machine, which share its cores
without harm as long as they sleep.

Forecast, from jobs measured here in processor seconds: 1,024 experts of a minute each (spread as measured by
`cluster.py scaling`), 1,000 classes in one shard a worker (a thousand steps; a shard takes what every shard repeats,
and its classes, from runs with 1 to 10 shards), and 512 students of half a minute. For each: the efficiency (work of
one worker over workers times the time), and what of it is lost to what, by leaving each cost out.

Results: results/simulate.json
"""

import heapq
import json
import math
import os
import random
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from machine import machine

import potstill
from potstill.execution import Ray, Serial

OUT = Path("results/simulate.json")
WORKERS = (8, 64, 512)
A_NODE = 8
GBIT = 10.0


@dataclass(frozen=True, kw_only=True)
class Costs:
    """Seconds, unless they say otherwise."""

    hand_out: float
    """Of the driver, for each job."""
    take: float
    """Of the driver, for each answer."""
    beside: float
    """Of a worker, for each job."""
    start: float
    """Of a worker, before its first job."""
    shared: float
    """Until what jobs share is on all nodes: of the driver and of its link."""
    repeated: float = 0.0
    """Of each job: what all of them do again."""


def simulated(jobs: Sequence[float], workers: int, costs: Costs) -> float:
    """Seconds from the first job that is handed out to the last answer that is taken."""
    free = [costs.start + costs.shared] * workers
    heapq.heapify(free)
    ended = []
    for n, seconds in enumerate(jobs):
        begin = max(heapq.heappop(free), costs.shared + (n + 1) * costs.hand_out)
        ended.append(begin + costs.beside + costs.repeated + seconds)
        heapq.heappush(free, ended[-1])
    now = costs.shared + len(jobs) * costs.hand_out
    for end in ended:
        now = max(now, end) + costs.take
    return now


def spent(workers: int, jobs: Sequence[Any], fn: Any, executor: Any) -> tuple[float, float]:
    """Seconds by the clock and of this process."""
    clock, own = time.monotonic(), time.process_time()
    for _ in executor.map(fn, jobs):
        pass
    return time.monotonic() - clock, time.process_time() - own


@dataclass(frozen=True)
class Answer:
    """Answers so many bytes, and carries as many."""

    held: bytes = b""

    def __call__(self, size: int) -> bytes:
        return bytes(size)


def measured() -> tuple[dict[str, float], list[dict[str, Any]]]:
    """What handing out and taking cost, and sleeping jobs beside the simulation."""
    rng = random.Random(0)
    naps = [rng.uniform(0.1, 0.5) for _ in range(48)]
    found: dict[str, float] = {}
    rows = []
    for workers in (1, 2, 3, 8, 16):
        with Ray(workers=workers) as executor:
            list(executor.map(time.sleep, [1.0] * workers * 2))  # all workers are there and have torch
            if workers == 1:
                empty = [spent(1, [0] * 100, Answer(), executor) for _ in range(3)]
                found["round_trip"] = statistics.median(clock for clock, _ in empty) / 100
                found["driver_job"] = statistics.median(own for _, own in empty) / 100
                large = [spent(1, [2**22] * 10, Answer(), executor) for _ in range(3)]
                more = statistics.median(own for _, own in large) / 10 - found["driver_job"]
                found["driver_answered_mb"] = max(0.0, more / (2**22 / 1e6))
                held = [spent(1, [0], Answer(bytes(2**26)), executor) for _ in range(3)]
                found["driver_shared_mb"] = statistics.median(own for _, own in held) / (2**26 / 1e6)
            costs = Costs(
                hand_out=found["driver_job"] / 2, take=found["driver_job"] / 2, start=0.0, shared=0.0,
                beside=max(0.0, found["round_trip"] - found["driver_job"]),
            )  # fmt: skip
            real = [spent(workers, naps, time.sleep, executor)[0] for _ in range(3)]
            rows.append({
                "workers": workers, "real": [round(s, 3) for s in real], "simulated": round(
                    simulated(naps, workers, costs), 3),
            })  # fmt: skip
            print(rows[-1], flush=True)
    return found, rows


def started() -> float:
    """Processor seconds of a fresh process until it can run a job."""
    before = os.times()
    with potstill.execution.Processes(1) as executor:
        list(executor.map(abs, [1]))
    after = os.times()
    return (after.children_user - before.children_user) + (after.children_system - before.children_system)


@dataclass
class Weighing:
    """One process, which keeps the processor seconds of each job."""

    spent: list[float]

    def map(self, fn: Any, jobs: Sequence[Any], /) -> Iterator[Any]:
        for job in jobs:
            begun = time.process_time()
            made = next(Serial().map(fn, [job]))
            self.spent.append(time.process_time() - begun)
            yield made


def of_a_shard() -> tuple[float, float]:
    """Processor seconds of a step in a shard, without classes and for each class: a line through several divisions."""
    sizes, seconds = [], []
    for k in (1, 3, 10):
        weighed = Weighing([])
        potstill.distill(
            "mnist-5k", "dm", ipc=10, network="convnet-d2-w32", preset="published", steps=8, codec="uint8",
            class_shards=k, executor=weighed, progress=None,
        )  # fmt: skip
        sizes += [10 / k] * k
        seconds += [s / 8 for s in weighed.spent]
    line = statistics.linear_regression(sizes, seconds)
    return max(0.0, line.intercept), line.slope


def forecast(found: dict[str, float], start: float, shard: tuple[float, float]) -> dict[str, Any]:
    rng = random.Random(0)
    kept = json.loads(Path("results/cluster.json").read_text()).get("scaling", {})
    spread = [s for row in kept.get("experts", {}).get("runs", {}).get("1", []) for s in row["jobs"]]
    middle = statistics.mean(spread) if spread else 1.0
    experts = [60.0 * rng.choice(spread) / middle if spread else 60.0 for _ in range(1024)]
    fixed, each = (1000 * s for s in shard)  # a thousand steps
    made: dict[str, Any] = {}
    for name, megabytes, answered in (("experts", 180.0, 0.001), ("shards", 180.0, 3.0), ("students", 180.0, 0.001)):
        for workers in WORKERS:
            if name == "shards":
                least, more = divmod(1000, workers)
                jobs, repeated = [each * (least + (n < more)) for n in range(workers)], fixed
            else:
                jobs, repeated = (experts if name == "experts" else [30.0] * 512), 0.0
            nodes = math.ceil(workers / A_NODE)
            driver, link = megabytes * found["driver_shared_mb"], (nodes - 1) * megabytes * 8 / (GBIT * 1000)
            costs = Costs(
                hand_out=found["driver_job"] / 2, take=found["driver_job"] / 2 + answered * found["driver_answered_mb"],
                beside=max(0.0, found["round_trip"] - found["driver_job"]), start=start, shared=driver + link,
                repeated=repeated,
            )  # fmt: skip
            alone = sum(jobs) + repeated  # one worker would make all classes in one shard
            alone = alone if name == "shards" else sum(jobs)
            took = simulated(jobs, workers, costs)
            even = [sum(jobs) / workers] * workers
            without = {
                "start of the workers": simulated(jobs, workers, replace(costs, start=0.0)),
                "the data on their way": simulated(jobs, workers, replace(costs, shared=0.0)),
                "the driver": simulated(jobs, workers, replace(costs, hand_out=0.0, take=0.0)),
                "messages": simulated(jobs, workers, replace(costs, beside=0.0)),
                "what every shard repeats": simulated(jobs, workers, replace(costs, repeated=0.0)),
                "jobs that do not come out even": simulated(even, workers, costs),
            }
            lost = {what: round((took - less) / took, 4) for what, less in without.items()}
            made[f"{name} {workers}"] = {
                "jobs": len(jobs), "seconds": round(took, 1), "efficiency": round(alone / workers / took, 3),
                "lost": lost, "most": max(lost, key=lambda what: lost[what]),
            }  # fmt: skip
    return made


def main() -> None:
    torch.set_num_threads(1)
    load = os.getloadavg()[0]
    found, rows = measured()
    start = started()
    shard = of_a_shard()
    made = {
        "machine": machine(), "load": load, "measured": {n: round(s, 6) for n, s in found.items()},
        "start": round(start, 2), "shard_step": {"fixed": round(shard[0], 5), "class": round(shard[1], 5)},
        "injected": {"workers_a_node": A_NODE, "gbit": GBIT, "shared_mb": 180.0}, "held": rows,
        "forecast": forecast(found, start, shard),
    }  # fmt: skip
    OUT.write_text(json.dumps(made, indent=1) + "\n")
    print(json.dumps({n: v for n, v in made.items() if n != "machine"}, indent=1))


if __name__ == "__main__":
    import simulate  # what workers are sent must be in a module that they can import

    simulate.main()
