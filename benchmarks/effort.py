"""What each effort takes and what quick loses: steps and time of every method that optimises, accuracy beside random.

    python benchmarks/effort.py [--only dm dsa …] [--time] [--accuracy] [--efforts quick good] [--network convnet-w32]
                                [--sets 1] [--students 3] [--part I/N] [--out results/effort.json]

**Time** (``--time``). ``potstill.plan`` runs some steps of each effort, and two batches of the networks that are
trained first. Other work on the machine makes the wall clock longer, so it is multiplied with the part of it in which
this process had a core: what is written are seconds of one core, without and with ``--network``.

**Accuracy** (``--accuracy``). Each method makes ``--sets`` sets (seeds 0, 1, …) at each of ``--efforts``; students of
``--student`` are trained on each under the protocol ``potstill`` with its middle rate and 120 updates (the same for
all, nothing is chosen), and random sets of as many items beside them (``--random-sets``). Methods whose networks have
BatchNorm are measured with students that have it too, ``--batch-student``. Intervals are Student's t over all students
where there is one set, else over the sets' means.

Rows are written when they are made; what is there is not made again. ``PUBLISHED`` are accuracies as printed, on the
whole of MNIST at 10 per class with the publication's own recipe: another amount of data, not to be compared with a
difference of a point.
"""

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from machine import machine

import potstill
from potstill.api.listing import presets_of
from potstill.core import registry
from potstill.dataset_file import write_atomic
from potstill.evaluation.statistics import summary

PUBLISHED: dict[str, tuple[float, str]] = {
    "dc": (97.4, "github.com/VICO-UoE/DatasetCondensation README"),
    "dsa": (97.8, "github.com/VICO-UoE/DatasetCondensation README"),
    "dm": (97.5, "arXiv:2110.04181, table 1"),
    "idc": (98.4, "github.com/snu-mllab/Efficient-Dataset-Condensation README"),
}
"""MNIST, 10 images per class, in percent."""


def methods() -> list[str]:
    """Those to which an effort means something and that make their samples, or train networks for it."""
    return [name for name in registry.names("methods") if registry.resolve("methods", name).efforts]


def with_batch_norm(name: str) -> bool:
    return "batch" in str(getattr(registry.resolve("methods", name), "network", ""))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="mnist-5k")
    parser.add_argument("--ipc", type=int, default=10)
    parser.add_argument("--only", nargs="+", default=[])
    parser.add_argument("--part", default="0/1", metavar="I/N", help="every N-th method, from the I-th, counted from 0")
    parser.add_argument("--time", action="store_true")
    parser.add_argument("--accuracy", action="store_true")
    parser.add_argument("--efforts", nargs="+", default=["quick"], help="of --accuracy")
    parser.add_argument("--network", help="in place of what the effort says, of methods without BatchNorm")
    parser.add_argument("--batch-network", help="likewise, of methods with BatchNorm")
    parser.add_argument("--student", default="convnet-w32")
    parser.add_argument("--batch-student", default="convnet-d3-w32-batch")
    parser.add_argument("--sets", type=int, default=1)
    parser.add_argument("--random-sets", type=int, default=3)
    parser.add_argument("--students", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--measure", type=int, help="steps that a plan runs; by default what five seconds hold")
    parser.add_argument("--out", type=Path, default=Path("results/effort.json"))
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    splits = potstill.load_data(args.data)
    first, every = map(int, args.part.split("/"))
    names = [name for name in methods()[first::every] if not args.only or name in args.only]
    if args.accuracy:
        for student in sorted({students_of(name, args) for name in names}):
            for seed in range(args.random_sets):
                measured(args, splits, "random", None, student, None, seed)
    for name in names:
        if args.time:
            for effort in ("quick", "good", "published"):
                timed(args, splits, name, effort)
        if args.accuracy:
            for effort in args.efforts:
                for seed in range(args.sets):
                    measured(args, splits, name, effort, students_of(name, args), network_of(name, args), seed)
    report(args.out)


def students_of(name: str, args: argparse.Namespace) -> str:
    return str(args.batch_student if with_batch_norm(name) else args.student)


def network_of(name: str, args: argparse.Namespace) -> str | None:
    found: str | None = args.batch_network if with_batch_norm(name) else args.network
    return found if any(f == "network" for f in registry.resolve("methods", name).__dataclass_fields__) else None


def read(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return {"machine": machine(), "time": {}, "accuracy": {}, **found}


def write(path: Path, part: str, key: str, row: dict[str, Any]) -> None:
    """Beside what another process may have written meanwhile."""
    report = read(path)
    report[part][key] = row
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, (json.dumps(report, indent=1, sort_keys=True) + "\n").encode())


def timed(args: argparse.Namespace, splits: potstill.Splits, name: str, effort: str) -> None:
    network = network_of(name, args)
    key = f"{args.data} {name} {effort}" + ("" if network is None else f" {network}")
    if key in read(args.out)["time"]:
        return
    core, wall = time.process_time(), time.perf_counter()
    plan = potstill.plan(
        splits, name, ipc=args.ipc, preset=effort, network=network, profile_steps=args.measure, device="cpu"
    )
    had = min(1.0, (time.process_time() - core) / (time.perf_counter() - wall) / args.threads)
    fields = presets_of(registry.resolve("methods", name))[effort]
    m = plan.measured
    assert m is not None
    row = {
        "data": args.data,
        "method": name, "effort": effort, "fields": fields, "network": plan.network, "steps": plan.steps,
        "step_seconds": m.median * had, "n": m.n, "prepared_seconds": sum(n.seconds for n in plan.networks) * had,
        "seconds": None if plan.seconds is None else plan.seconds * had, "had_a_core": had, "threads": args.threads,
        "peak_bytes": None if plan.memory is None else plan.memory.peak,
    }  # fmt: skip
    write(args.out, "time", key, row)
    seconds = "unknown" if row["seconds"] is None else f"{row['seconds'] / 60:.1f} min"
    print(f"{key}: {plan.steps} steps, {row['step_seconds']:.3g} s each, {seconds} of one core", flush=True)


def measured(
    args: argparse.Namespace, splits: potstill.Splits, name: str, effort: str | None, student: str,
    network: str | None, seed: int,
) -> None:  # fmt: skip
    key = f"{args.data} {name} {effort or ''} {network or ''} on {student} ipc {args.ipc} seed {seed}"
    if key in read(args.out)["accuracy"]:
        return
    core = time.process_time()
    small = potstill.distill(
        splits, name, ipc=args.ipc, preset=effort or "quick", seed=seed, network=network, device="cpu", progress=None
    )
    core = time.process_time() - core
    score = potstill.evaluate(
        small, splits, protocol="potstill", networks=[student], seeds=args.students, baselines=False, full=False,
        robust_scores=False, device="cpu", progress=None, lr=0.03, steps=120,
    )  # fmt: skip
    row = {
        "data": args.data,
        "method": name, "effort": effort, "network": small.metadata["network"], "student": student, "seed": seed,
        "accuracy": score.content["accuracy"], "items": len(small), "bytes": small.metadata["bytes"]["total"],
        "steps": small.metadata["cost"]["steps"], "core_seconds": core, "config": small.metadata["config"],
        "prepared_seconds": small.metadata["cost"]["preparation_seconds"],
    }  # fmt: skip
    write(args.out, "accuracy", key, row)
    print(f"{key}: {100 * score.accuracy:.1f} % ({core:.0f} s of one core)", flush=True)


def report(path: Path) -> None:
    """A table of what there is."""
    found = read(path)
    rows: dict[tuple[str, str, str, str], list[dict[str, Any]]] = {}
    for row in found["accuracy"].values():
        rows.setdefault((row["data"], row["method"], row["effort"] or "", row["student"]), []).append(row)
    means = {key: pooled(some) for key, some in rows.items()}
    print(
        f"{'data':<10} {'method':<10} {'effort':<10} {'student':<20} {'%':>6} {'95 %':>14} {'sets':>5} "
        f"{'over random':>12}"
    )
    best_first = sorted(means.items(), key=lambda item: (item[0][0], item[0][3], -item[1]["mean"]))
    for (data, name, effort, student), a in best_first:
        plain = means.get((data, "random", "", student))
        over = "" if plain is None or name == "random" else f"{100 * (a['mean'] - plain['mean']):+.1f}"
        ci = "" if a["ci95"] is None else f"{100 * a['ci95'][0]:.1f} to {100 * a['ci95'][1]:.1f}"
        n = len(rows[data, name, effort, student])
        printed = PUBLISHED.get(name) if "mnist" in data else None
        published = "" if printed is None else f"  published {printed[0]} (MNIST, {printed[1]})"
        line = f"{data:<10} {name:<10} {effort:<10} {student:<20} {100 * a['mean']:>6.1f} {ci:>14} {n:>5} {over:>12}"
        print(line + published)
    for row in found["time"].values():
        took = "?" if row["seconds"] is None else f"{row['seconds'] / 60:.1f} min"
        print(
            f"{row['data']:<10} {row['method']:<10} {row['effort']:<10} {row['network']:<32} "
            f"{row['steps'] or '?':>7} steps, "
            f"{took} of one core"
        )


def pooled(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Over sets where there are several, else over the students of one."""
    if len(rows) == 1:
        return dict(rows[0]["accuracy"])
    return summary([statistics.mean(row["accuracy"]["values"]) for row in rows])


if __name__ == "__main__":
    main()
