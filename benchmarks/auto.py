"""What `--method auto` loses against trying everything, and what it saves: docs/auto.md.

    python benchmarks/auto.py --data digits --bytes 1000 --budget 30 --repeats 5
    python benchmarks/auto.py --data mnist-5k --bytes 31440 --budget 300
    python benchmarks/auto.py --data photo-patches --bytes 16000 --budget 300     # pip install scikit-image

For each repeat (a seed) `auto` chooses within ``--budget`` seconds. The **grid** then makes each of the same candidates
for as long as auto's answer had for itself, at least 0.4 of the budget, in steps by what a step was seen to cost.
Grid and answer are made of the same training part and judged by fresh students (``--students``) on a validation part of
the training data that neither has seen; test data are not read. The gap is the accuracy of the grid's best cell, which
is picked on those same students and samples and so flattered, minus that of what auto chose. It counts as significantly
worse where the two-sided 95 % interval over students and samples lies above 0.

Results: results/auto/DATA-BYTES.json, one for each; the rows of docs/auto.md are printed from them with ``--table``.
"""

import argparse
import dataclasses
import json
import time
from pathlib import Path
from statistics import mean
from types import SimpleNamespace
from typing import Any

import torch
from machine import machine

import potstill
from potstill import driver
from potstill.core import Source, Splits
from potstill.data import holdout
from potstill.evaluation.probe import Probe, loss_between, probe_of
from potstill.nn import factory
from potstill.rng import derive
from potstill.tasks import task_of
from potstill.verbs import auto
from potstill.verbs.candidates import Candidate

STUDENT_STEPS = 150


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="digits")
    parser.add_argument("--label", help="column of the classes, of a table")
    parser.add_argument("--bytes", type=int, default=1000)
    parser.add_argument("--budget", type=float, default=30.0, help="seconds of auto")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--students", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("results/auto"))
    parser.add_argument(
        "--own-time", action="store_true", help="count the process's own seconds, on a machine that others use too"
    )
    parser.add_argument("--table", action="store_true", help="only print the rows of what is there")
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.own_time:
        for module in (driver, auto):  # they read the clock by time.monotonic alone
            vars(module)["time"] = SimpleNamespace(monotonic=time.process_time)
    if not args.table:
        measure(args)
    for path in sorted(args.out.glob("*.json")):
        print(row(json.loads(path.read_text())))


def measure(args: argparse.Namespace) -> None:
    """All repeats of one data set; what is there of them is not made again."""
    args.out.mkdir(parents=True, exist_ok=True)
    path = args.out / f"{Path(args.data).stem}-{args.bytes}.json"
    about = {"data": Path(args.data).stem, "bytes": args.bytes, "budget": args.budget, "students": args.students}
    found = json.loads(path.read_text()) if path.exists() else {**about, "machine": machine(), "repeats": []}
    if any(found[name] != value for name, value in about.items()):
        raise SystemExit(f"{path} was measured otherwise; move it away")
    train = data_of(args).train
    for seed in range(len(found["repeats"]), args.repeats):
        found["repeats"].append(repeat(train, args, seed))
        path.write_text(json.dumps(found, indent=1) + "\n")


def data_of(args: argparse.Namespace) -> Splits:
    if args.data == "photo-patches":
        from photo_patches import photo_patches

        return photo_patches()
    return potstill.load_data(args.data, **({} if args.label is None else {"label": args.label}))


def repeat(train: Any, args: argparse.Namespace, seed: int) -> dict[str, Any]:
    """Auto and the grid with one seed."""
    kept, held = holdout(train, min(0.25, 1500 / len(train)), derive(seed, "benchmark") % 2**31)
    splits = Splits(train=kept, test=None)
    begun = time.process_time()
    answer = potstill.distill(
        splits, "auto", bytes=args.bytes, budget=args.budget, seed=seed, device="cpu", executor="serial", progress=None
    )
    took = time.process_time() - begun
    choice = answer.card["choice"]
    probe = judge(kept, held, choice, args.students, seed)
    each = max(answer.card["cost"]["seconds"], 0.4 * args.budget)  # as long as a made answer has
    right = {choice["chosen"]: seen(probe, answer)}
    spent = 0.0
    for tried in choice["tried"]:
        candidate = Candidate.read(tried["name"])
        if tried["left_out"] and not tried["seconds_a_step"]:
            print(f"  {candidate.name}: {tried['left_out']}", flush=True)
            continue
        begun = time.process_time()
        made = cell(splits, candidate, choice, each, tried["seconds_a_step"], seed)
        spent += time.process_time() - begun
        if candidate.name != choice["chosen"]:
            right[candidate.name] = seen(probe, made)
    accuracy = {name: float(r.double().mean()) for name, r in right.items()}
    best = max(accuracy, key=lambda name: accuracy[name])
    gap = loss_between(right[best], right[choice["chosen"]], sure=0.975)
    print(f"  seed {seed}: {choice['chosen']}, gap {100 * gap.mean:.1f} to {best}", flush=True)
    return {
        "seed": seed, "chosen": choice["chosen"], "best": best, "accuracy": accuracy, "seconds": took,
        "grid_seconds": spent, "gap": dataclasses.asdict(gap), "worse": gap.low > 0,
        "held": len(held), "answer": choice["answer"],
    }  # fmt: skip


def judge(kept: Source, held: Source, choice: dict[str, Any], students: int, seed: int) -> Probe:
    """Fresh students: of the network that auto's own had, for `STUDENT_STEPS` updates."""
    make = factory(
        choice["students"]["network"], kept.input, task_of(kept).outputs, kept.device, normalization=kept.normalization
    )
    return probe_of(make, kept, held, students=students, seed=derive(seed, "fresh"), steps=STUDENT_STEPS)


def seen(probe: Probe, made: potstill.Distilled) -> torch.Tensor:
    return probe.right([[(made.model_space(), made.labels)]])[0]


def cell(
    splits: Splits, candidate: Candidate, choice: dict[str, Any], seconds: float, cost: float | None, seed: int
) -> potstill.Distilled:
    """One cell of the grid, as auto makes its answer."""
    steps = {} if candidate.real else {"steps": max(1, int(seconds / (cost or 1))), "effort": "quick"}
    ends = {"iterations": steps["steps"]} if steps else {}
    shared = {name: choice["recipe"][name] for name in ("network",) if name in choice["recipe"]}
    return potstill.distill(
        splits, candidate.method, bytes=choice["bytes"], seed=seed, device="cpu", executor="serial", progress=None,
        parametrization=candidate.parametrization, store=candidate.store, **shared, **steps,
        **{**ends, **dict(candidate.options)},
    )  # fmt: skip


def row(found: dict[str, Any]) -> str:
    """A row of the table."""
    all_of = found["repeats"]
    gaps = [100 * r["gap"]["mean"] for r in all_of]
    ratio = mean(r["seconds"] / r["grid_seconds"] for r in all_of)
    cells = round(mean(len(r["accuracy"]) for r in all_of))
    return (
        f"| {found['data']}, {found['bytes']:,} bytes | {found['budget']:g} | {len(all_of)} | {cells} "
        f"| {mean(gaps):.1f} | {max(gaps):.1f} | {sum(r['worse'] for r in all_of)} of {len(all_of)} "
        f"| {sum(r['answer'] == 'real' for r in all_of)} of {len(all_of)} | {ratio:.2f} |"
    )


if __name__ == "__main__":
    main()
