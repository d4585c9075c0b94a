"""Jobs on a Ray cluster whose machines die, and what a second worker brings.

    python benchmarks/cluster.py faults  [--every 20] [--repeat 1] [--sets 3]
    python benchmarks/cluster.py shards  [--every 20] [--repeat 1]
    python benchmarks/cluster.py scaling [--repeat 3]

``faults``: a comparison is made once by two processes of this machine and once on a simulated cluster on this machine
(`ray.cluster_utils`: a head without cores and three nodes of one core), where every ``--every`` seconds one of the
nodes is killed without warning and another joins. Compared are all tensors of all sets and all accuracies, bit by bit;
counted is how often a cell was begun and how often it ended. With six sets a cell in place of three it takes about ten
minutes. ``--repeat`` makes the comparison with that many seeds.

``shards``: the same with one distillation in class shards (``--class-shards``), each of which goes on from a checkpoint
that it writes every five seconds.

``scaling``: the same jobs (expert trajectories; class shards; students) with one worker and with two, in turns, after
both are warm. Told are seconds by the clock, which other work on the machine lengthens, and seconds of the processor:
those of the main process, and of each worker's jobs. Were nothing else running, a run would take those of the main
process and of the busiest worker; the efficiency in processor seconds is the ratio of the medians of that, over two. It
counts what is not divided and what is divided unevenly, and leaves out waiting for messages, which `simulate.py` has.

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
from functools import partial
from pathlib import Path
from typing import Any

import torch
from machine import machine

import potstill
from potstill.dataset_file import load
from potstill.execution import Processes, Ray, Serial

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
    parser.add_argument("what", choices=["faults", "shards", "scaling"])
    parser.add_argument("--every", type=float, default=20.0)
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--sets", type=int, default=3, help="of each cell of the comparison of faults")
    parser.add_argument("--longer", type=int, default=6, help="times a second, about, that a job of scaling takes")
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.what == "scaling":
        found = scaling(args.repeat, args.longer)
    else:
        found = faults(
            args.every, args.repeat, partial(comparison, sets=args.sets) if args.what == "faults" else sharded
        )
    kept = json.loads(OUT.read_text()) if OUT.exists() else {}
    OUT.write_text(json.dumps({**kept, args.what: {"machine": machine(), **found}}, indent=1) + "\n")
    print(json.dumps(found, indent=1))


def comparison(out: Path, executor: Any, seed: int, sets: int = 3) -> None:
    potstill.compare(
        "digits", ["dm", "dsa", "k-means"], [1, 2, 5], repeats=sets, out=out, network="convnet-d1-w16", seeds=2,
        seed=seed,
        preset="quick", epochs=60, executor=executor, options={"dm": {"iterations": 150}, "dsa": {"iterations": 12}},
    )  # fmt: skip


SHARDS = 7
"""Of ten classes: three of two classes, four of one."""


def sharded(out: Path, executor: Any, seed: int) -> None:
    small = potstill.distill(
        "mnist-5k", "dm", ipc=10, network="convnet-d2-w32", preset="published", steps=140, seed=seed, codec="uint8",
        class_shards=SHARDS, executor=executor, checkpoint=out / "run", checkpoint_every=5.0, progress=None,
    )  # fmt: skip
    out.mkdir(exist_ok=True)
    small.save(out / "small.safetensors")


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


def faults(every: float, repeat: int, work: Callable[[Path, Any, int], None]) -> dict[str, Any]:
    import ray
    from ray.cluster_utils import Cluster

    rows = []
    for seed in range(repeat):
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            begun = time.monotonic()
            work(folder / "here", Serial() if work is sharded else Processes(2), seed)
            alone = time.monotonic() - begun
            cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
            nodes = [cluster.add_node(num_cpus=1) for _ in range(3)]
            log = folder / "log"
            # Nodes begin in the main thread alone, so it is the comparison that has one of its own.
            ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
            executor, failed = Counted(Ray(retries=50), str(log)), list[BaseException]()
            running = threading.Thread(target=caught, args=(failed, work, folder / "there", executor, seed))
            begun, killed, rng = time.monotonic(), 0, random.Random(0)
            running.start()
            while running.join(every) or running.is_alive():
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
                "seed": seed, "jobs": len(ended), "equal": a == b, "files": len(a), "nodes_killed": killed,
                "begun": sum(n for line, n in lines.items() if line.startswith("begun")),
                "ended": sum(ended.values()), "ended_twice": sum(n > 1 for n in ended.values()),
                "seconds_alone": round(alone, 1), "seconds_there": round(there, 1),
            })  # fmt: skip
            print(rows[-1], flush=True)
    return {"every": every, "runs": rows}


def experts(executor: Any, longer: int) -> None:
    """Eight experts of MTT."""
    potstill.distill(
        "digits", "mtt", ipc=1, steps=1, network="convnet-d2-w32", num_experts=8, train_epochs=4 * longer,
        max_start_epoch=1, expert_epochs=1, student_steps=1, codec="float32", executor=executor, progress=None,
    )  # fmt: skip


def students(executor: Any, longer: int) -> None:
    """Eight students of one set."""
    small = potstill.distill("digits", "random", ipc=5, seed=0, progress=None)
    potstill.evaluate(
        small, "digits", networks="convnet-d2-w32", seeds=8, baselines=False, full=False, robust_scores=False,
        executor=executor, epochs=150 * longer,
    )  # fmt: skip


def shards(executor: Any, longer: int) -> None:
    """Ten classes in ten shards."""
    potstill.distill(
        "digits", "dm", ipc=10, network="convnet-d2-w32", preset="published", steps=60 * longer, codec="uint8",
        class_shards=10, executor=executor, progress=None,
    )  # fmt: skip


@dataclass(frozen=True)
class Weighed:
    """A function that also says which process ran it and how long its processor worked."""

    fn: Callable[[Any], Any]

    def __call__(self, job: Any) -> tuple[Any, int, float]:
        begun = time.process_time()
        return self.fn(job), os.getpid(), time.process_time() - begun


@dataclass
class Weighing:
    """An executor that keeps the processor seconds of each job, by the process that ran it."""

    inner: Any
    spent: list[tuple[int, float]]

    def map(self, fn: Callable[[Any], Any], jobs: Sequence[Any], /) -> Iterator[Any]:
        for made, process, seconds in self.inner.map(Weighed(fn), jobs):
            self.spent.append((process, seconds))
            yield made


def weighed(run: Callable[[Any, int], None], executor: Any, longer: int) -> dict[str, Any]:
    """What one run took: seconds by the clock, of the main process, and of the busiest worker."""
    jobs: list[tuple[int, float]] = []
    begun, own = time.monotonic(), time.process_time()
    run(Weighing(executor, jobs), longer)
    by_worker: Counter[int] = Counter()
    for process, seconds in jobs:
        by_worker[process] += seconds  # type: ignore[assignment]  # a Counter adds up floats, too
    return {
        "clock": round(time.monotonic() - begun, 2), "main": round(time.process_time() - own, 2),
        "busiest": round(max(by_worker.values()), 2), "jobs": [round(s, 2) for _, s in jobs],
    }  # fmt: skip


def scaling(repeat: int, longer: int) -> dict[str, Any]:
    found: dict[str, Any] = {"load": os.getloadavg()[0], "longer": longer}
    for run in (experts, shards, students):
        made: dict[int, list[dict[str, Any]]] = {1: [], 2: []}
        for _ in range(repeat):
            for workers, rows in made.items():
                # Each run has a cache of its own, which its workers know from their start.
                with tempfile.TemporaryDirectory() as place, Processes(workers) as executor:
                    os.environ["POTSTILL_CACHE"] = place
                    # Each worker is started and has torch before the clock runs.
                    list(executor.map(time.sleep, [1.0] * workers * 2))
                    rows.append(weighed(run, executor, longer))
        one, two = (statistics.median(r["main"] + r["busiest"] for r in rows) for rows in made.values())
        clock = [statistics.median(r["clock"] for r in rows) for rows in made.values()]
        found[run.__name__] = {
            "efficiency_processor": round(one / two / 2, 3), "efficiency_clock": round(clock[0] / clock[1] / 2, 3),
            "n": repeat, "runs": made,
        }  # fmt: skip
        print(run.__name__, {n: v for n, v in found[run.__name__].items() if n != "runs"}, flush=True)
    return found


if __name__ == "__main__":
    import cluster  # what workers are sent must be in a module that they can import

    cluster.main()
