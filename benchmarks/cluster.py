"""Jobs on a Ray cluster whose machines die, and what a second worker brings.

    python benchmarks/cluster.py faults  [--every 20] [--repeat 1]
    python benchmarks/cluster.py scaling [--repeat 3]

``faults``: a comparison is made once in one process and once on a simulated cluster on this machine
(`ray.cluster_utils`: a head without cores and three nodes of one core), where every ``--every`` seconds one of the
nodes is killed without warning and another joins. Compared are all tensors of all sets and all accuracies, bit by bit;
counted is how often a cell was begun and how often it ended. ``--repeat`` makes the comparison with that many seeds.

``scaling``: the same jobs (expert trajectories; students) with one worker and with two, in turns, after both are warm;
told is the ratio of the medians of seconds by the clock, over two: 1 is perfect. One thread a worker, so on two cores
with nothing else running.

Results: results/cluster.json, which each part completes.
"""

import argparse
import json
import os
import random
import statistics
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from machine import machine

import potstill
from potstill.execution import Processes, Ray, Serial
from potstill.storage import load

OUT = Path("results/cluster.json")


@dataclass(frozen=True)
class Logged:
    """A function whose calls leave a line when they begin and one when they end."""

    fn: Callable[[Any], Any]
    log: str

    def __call__(self, job: Any) -> Any:
        name = getattr(job, "stem", None) or str(job)[:60]
        self._say("begun", name)
        made = self.fn(job)
        self._say("ended", name)
        return made

    def _say(self, what: str, name: str) -> None:
        descriptor = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.write(descriptor, f"{what} {name}\n".encode())
        os.close(descriptor)


@dataclass
class Counted:
    """An executor whose jobs are logged."""

    inner: Any
    log: str

    def map(self, fn: Callable[[Any], Any], jobs: Sequence[Any], /) -> Iterator[Any]:
        return self.inner.map(Logged(fn, self.log), jobs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["faults", "scaling"])
    parser.add_argument("--every", type=float, default=20.0)
    parser.add_argument("--repeat", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(1)
    found = faults(args.every, args.repeat) if args.what == "faults" else scaling(args.repeat)
    kept = json.loads(OUT.read_text()) if OUT.exists() else {}
    OUT.write_text(json.dumps({**kept, args.what: {"machine": machine(), **found}}, indent=1) + "\n")
    print(json.dumps(found, indent=1))


def comparison(out: Path, executor: Any, seed: int) -> None:
    potstill.compare(
        "digits", ["dm", "dsa", "k-means"], [1, 2, 5], sets=3, out=out, network="convnet-d1-w16", seeds=2, seed=seed,
        effort="quick", epochs=60, executor=executor, options={"dm": {"iterations": 150}, "dsa": {"iterations": 12}},
    )  # fmt: skip


def content(folder: Path) -> dict[str, Any]:
    """Everything in a comparison that is no time: tensors' bytes and accuracies."""
    made: dict[str, Any] = {}
    for path in sorted(folder.rglob("*.safetensors")):
        tensors = load(path).tensors
        made[path.name] = {name: tensors[name].numpy().tobytes() for name in sorted(tensors)}
    for path in sorted(folder.rglob("*.scorecard.json")):
        made[path.name] = json.loads(path.read_text())["accuracy"]
    return made


def caught(failed: list[BaseException], fn: Callable[..., None], *given: Any) -> None:
    """The function, whose exception is kept for the main thread."""
    try:
        fn(*given)
    except BaseException as error:
        failed.append(error)


def faults(every: float, repeat: int) -> dict[str, Any]:
    import ray
    from ray.cluster_utils import Cluster

    rows = []
    for seed in range(repeat):
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            begun = time.monotonic()
            comparison(folder / "here", Serial(), seed)
            alone = time.monotonic() - begun
            cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
            nodes = [cluster.add_node(num_cpus=1) for _ in range(3)]
            log = folder / "log"
            # Nodes begin in the main thread alone, so it is the comparison that has one of its own.
            ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
            executor, failed = Counted(Ray(retries=50), str(log)), list[BaseException]()
            work = threading.Thread(target=caught, args=(failed, comparison, folder / "there", executor, seed))
            begun, killed, rng = time.monotonic(), 0, random.Random(0)
            work.start()
            while work.join(every) or work.is_alive():
                cluster.remove_node(nodes.pop(rng.randrange(len(nodes))), allow_graceful=False)
                killed += 1
                nodes.append(cluster.add_node(num_cpus=1))
            there = time.monotonic() - begun
            if failed:
                raise failed[0]
            ray.shutdown()
            cluster.shutdown()
            lines = Counter(log.read_text().splitlines())
            ended = {line: n for line, n in lines.items() if line.startswith("ended")}
            a, b = content(folder / "here"), content(folder / "there")
            rows.append({
                "seed": seed, "cells": len(ended), "equal": a == b, "files": len(a), "nodes_killed": killed,
                "begun": sum(n for line, n in lines.items() if line.startswith("begun")),
                "ended": sum(ended.values()), "ended_twice": sum(n > 1 for n in ended.values()),
                "seconds_alone": round(alone, 1), "seconds_there": round(there, 1),
            })  # fmt: skip
            print(rows[-1], flush=True)
    return {"every": every, "runs": rows}


def experts(executor: Any) -> None:
    """Four experts of MTT, into a cache of their own."""
    with tempfile.TemporaryDirectory() as place:
        os.environ["POTSTILL_CACHE"] = place
        potstill.distill(
            "digits", "mtt", ipc=1, steps=1, network="convnet-d2-w32", networks_trained=4, epochs_trained=4,
            start_until=1, ahead=1, student_steps=1, executor=executor, progress=None,
        )  # fmt: skip


def students(executor: Any) -> None:
    """Eight students of one set."""
    small = potstill.distill("digits", "random", ipc=5, seed=0, progress=None)
    potstill.evaluate(
        small, "digits", network="convnet-d2-w32", seeds=8, baselines=False, full=False, robust_scores=False,
        executor=executor, epochs=150,
    )  # fmt: skip


def scaling(repeat: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    kinds: dict[str, Callable[[int], Any]] = {"ray": lambda n: Ray(workers=n), "processes": lambda n: Processes(n)}
    for kind, make in kinds.items():
        for run in (experts, students):
            seconds: dict[int, list[float]] = {1: [], 2: []}
            for _ in range(repeat):
                for workers, spent in seconds.items():
                    with make(workers) as executor:
                        # Each worker is started and has torch before the clock runs.
                        list(executor.map(time.sleep, [1.0] * workers * 4))
                        begun = time.monotonic()
                        run(executor)
                        spent.append(time.monotonic() - begun)
            one, two = (statistics.median(spent) for spent in seconds.values())
            found[f"{kind} {run.__name__}"] = {"seconds": seconds, "efficiency": round(one / two / 2, 3), "n": repeat}
            print(kind, run.__name__, found[f"{kind} {run.__name__}"], flush=True)
    return found


if __name__ == "__main__":
    import cluster  # what workers are sent must be in a module that they can import

    cluster.main()
