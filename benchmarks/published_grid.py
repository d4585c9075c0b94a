"""MNIST and Fashion-MNIST at IPC 1 and 10 under the published protocols, beside the published numbers.

    python benchmarks/published_grid.py [--data mnist fashion-mnist] [--ipc 1 10] [--budget 120] [--seeds 1] \\
        [--students 5] [--epochs N] [--only METHOD …] [--out results/published_grid]

Every cell is one JSON file, written when it is done; a cell that is there already is not run again, so the grid can be
computed in parts and on several machines. ``--full`` uses the published number of steps (a GPU's work).
The optimising methods get ``--budget`` seconds each; how many steps that made stands in the cell.

A method is measured as its publication measures it: DC by DC's own recipe (``dc``), all others by DSA's (``dsa``),
unless ``--protocol`` says otherwise; ``--epochs`` shortens it. With one seed the spread is that of students on one set;
with several it is that of sets, each of which is the mean of its students. The
page is written by ``python -m tools.docs``.
"""

import argparse
import dataclasses
import json
import statistics
import time
from pathlib import Path
from typing import Any

from machine import machine

import potstill
from potstill.core.registry import resolve
from potstill.evaluation.statistics import summary
from potstill.methods.gradient._values import published_loops

METHODS = ("random", "herding", "random-soft", "dc", "dsa", "dm")
PROTOCOLS = {"dc": "dc"}
"""What a method's publication measures it by, where that is not ``dsa`` (main.py:117-123)."""
VICO = "github.com/VICO-UoE/DatasetCondensation README"
DANCE = "github.com/Hansong-Zhang/DANCE, table 1"
DM = "arXiv:2110.04181, table 1"
PUBLISHED: dict[tuple[str, str, int], tuple[float, float | None, str]] = {
    ("mnist", "dc", 1): (91.7, None, VICO),
    ("mnist", "dc", 10): (97.4, None, VICO),
    ("mnist", "dsa", 1): (88.7, None, VICO),
    ("mnist", "dsa", 10): (97.8, None, VICO),
    ("mnist", "dm", 10): (97.5, None, DM),
    ("fashion-mnist", "dc", 1): (70.5, 0.6, DANCE),
    ("fashion-mnist", "dc", 10): (82.3, 0.4, DANCE),
    ("fashion-mnist", "dsa", 1): (70.6, 0.6, DANCE),
    ("fashion-mnist", "dsa", 10): (84.6, 0.3, DANCE),
    ("fashion-mnist", "random", 1): (51.4, 3.8, DANCE),
    ("fashion-mnist", "random", 10): (73.8, 0.7, DANCE),
    ("fashion-mnist", "herding", 1): (67.0, 1.9, DANCE),
    ("fashion-mnist", "herding", 10): (71.1, 0.7, DANCE),
    ("fashion-mnist", "dm", 1): (70.7, 0.6, DANCE),
    ("fashion-mnist", "dm", 10): (83.5, 0.3, DANCE),
}
"""Test accuracy in percent, and its standard deviation where it is printed. DANCE's table repeats what the methods' own
publications say; of cells that are left out no published number stands in our sources (``random-soft`` has none)."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", default=["mnist", "fashion-mnist"])
    parser.add_argument("--ipc", nargs="+", type=int, default=[1, 10])
    parser.add_argument("--only", nargs="+", default=list(METHODS))
    parser.add_argument("--budget", type=float, default=120.0)
    parser.add_argument(
        "--steps", type=int, default=None, help="in place of the budget: so many, however long it takes"
    )
    parser.add_argument("--full", action="store_true", help="in place of the budget: as published")
    parser.add_argument("--batch-real", type=int, default=256)
    parser.add_argument("--seeds", type=int, default=1, help="sets: 0, 1, …")
    parser.add_argument("--students", type=int, default=5, help="of each set")
    parser.add_argument("--epochs", type=int, default=None, help="else the protocol's")
    parser.add_argument("--protocol", default=None, help="else the publication's")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--distil-network", default="convnet-d3-w128", help="network of the distillation")
    parser.add_argument("--sets", type=Path, default=Path("demo/published_grid"), help="where distilled sets are kept")
    parser.add_argument("--only-distil", action="store_true", help="make the sets, measure nothing")
    parser.add_argument("--out", type=Path, default=Path("results/published_grid"))
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    for data in args.data:
        splits = potstill.load_data(data)
        for ipc in args.ipc:
            for name in args.only:
                protocol = args.protocol or PROTOCOLS.get(name, "dsa")
                cell = args.out / f"{data}-{name}-ipc{ipc}-{protocol}{args.epochs or ''}.json"
                if cell.exists():
                    continue
                begun = time.monotonic()
                result = one(splits, data, name, ipc, protocol, args)
                if result is None:
                    continue
                result["seconds"] = round(time.monotonic() - begun, 1)
                part = cell.with_suffix(".part")
                part.write_text(json.dumps(result, indent=1) + "\n")
                part.replace(cell)
                a = result["accuracy"]
                print(
                    f"{data} {name} ipc {ipc}: {100 * a['mean']:.1f} ± {100 * (a['std'] or 0):.1f} (over {a['n']} "
                    f"{result['over']}), published {result['published']}, {result['distillation']['steps']} steps, "
                    f"{result['seconds']} s",
                    flush=True,
                )


def one(
    splits: Any, data: str, name: str, ipc: int, protocol: str, args: argparse.Namespace
) -> dict[str, Any] | None:  # fmt: skip
    options: dict[str, Any] = {}
    fields = {f.name for f in dataclasses.fields(resolve("methods", name))}
    if "batch_real" in fields:
        options["batch_real"] = args.batch_real
    optimises = "iterations" in fields
    budget = args.budget if optimises and not args.full and args.steps is None else None
    scores, made = [], []
    for seed in range(args.seeds):
        kept = args.sets / f"{data}-{name}-ipc{ipc}{f'-seed{seed}' if seed else ''}.safetensors"
        if kept.exists():
            small = potstill.load(kept)
        else:
            small = potstill.distill(
                splits, name, ipc=ipc, seed=seed, network=args.distil_network, device=args.device,
                preset="published", time_limit=budget, steps=args.steps if optimises else None, **options,
            )  # fmt: skip
            args.sets.mkdir(parents=True, exist_ok=True)
            small.save(kept)
        made.append(small)
        if not args.only_distil:
            scores.append(potstill.evaluate(
                small, splits, protocol=protocol, networks=["convnet-d3-w128"], seeds=args.students, seed=seed,
                baselines=False, full=False, robust_scores=False, device=args.device,
                **({} if args.epochs is None else {"epochs": args.epochs}),
            ).to_dict())  # fmt: skip
    if args.only_distil:
        return None
    values = [s["accuracy"]["values"] for s in scores]
    of_sets = [statistics.fmean(v) for v in values]
    published, card = PUBLISHED.get((data, name, ipc)), made[0].metadata
    return {
        "data": data, "method": name, "ipc": ipc, "protocol": protocol,
        "epochs": epochs_of(protocol, data, args.epochs),
        "network": scores[0]["network"], "over": "sets" if args.seeds > 1 else "students", "sets": args.seeds,
        "students": args.students, "values_of_sets": values,
        "accuracy": summary(of_sets, args.students * len(splits.test)) if args.seeds > 1 else scores[0]["accuracy"],
        "fingerprint": scores[0]["fingerprint"],
        "published": published
        and {"percent": published[0], "plus_minus": published[1], "source": published[2]},
        "distillation": {
            "network": card["network"], "steps": card["cost"]["steps"], "seconds": card["cost"]["seconds"],
            "outcome": card["outcome"], "config": card["config"],
            "budget_s": budget,
            "published_steps": published_steps(name, ipc) if optimises else None,
        },
        "machine": machine(),
    }  # fmt: skip


def published_steps(name: str, ipc: int) -> int:
    """Updates of the set that the published program makes: of DC and DSA several for each of 1,000 networks."""
    return 20_000 if name == "dm" else 1_000 * published_loops(ipc)[0] if name in ("dc", "dsa") else 200


def epochs_of(protocol: str, data: str, given: int | None) -> int:
    """Epochs of a student: the protocol's for these data."""
    if given is not None:
        return given
    kind = resolve("protocols", protocol)
    found = next((c.epochs for c in kind.cases if data in (c.sources or ()) and c.epochs), kind.recipe.epochs)
    return int(found)


if __name__ == "__main__":
    main()
