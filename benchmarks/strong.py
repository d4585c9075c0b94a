"""How strong small sets are after a minute, ten minutes and longer, at the bytes of papers: docs/benchmarks/strong.md.

    python benchmarks/strong.py make  --data fashion-mnist --ipc 1 --seconds 60 [--only frepo-small …] [--sets 2]
    python benchmarks/strong.py score --data fashion-mnist --ipc 1 --seconds 60 [--protocol dsa …] [--networks …]

**Arms** (`ARMS`) are a method, what is stored, and the settings that make sense in minutes on a CPU; where they differ
from the publication's they stand there. ``make`` gives each set so many seconds of one core: a short run says what a
step takes, and all sets of an arm make the same number of steps. What is trained before the first step (expert
trajectories) is told apart and counted beside. Sets are kept under ``--cache``; what is there is not made again, and
a run that was stopped goes on.

**Bytes** are those of ``--ipc`` float32 pictures per class with an int64 label each, as papers count them; here
labels, bases and positions are paid from the same purse. Real samples (``random``, ``k-means``) have the same bytes as
float32 pictures, and ``random-tiles`` and so on are real samples in the form of the arm that is named, untrained.

**How it is measured.** ``score`` trains ``--students`` fresh networks of each of ``--networks`` on each set by
``--protocol`` and reads the test data once. Nothing is chosen on them: settings were chosen on ``--validation`` of the
training data, of which no set is made (``score --held``). Intervals are Student's t over means of sets.

Results: one file per data, bytes and seconds under results/strong/; the table is `tools/docs/strong.py`'s.
"""

import argparse
import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from machine import machine

import potstill
from potstill.core import Source, Splits
from potstill.core.registry import resolve
from potstill.data import TensorSource, holdout
from potstill.dataset_file import Contents, Provenance, Schema, build, drop_checkpoint
from potstill.errors import PotstillError
from potstill.evaluation import Protocol, evaluate
from potstill.evaluation.statistics import summary
from potstill.execution import Serial

KERNEL = {
    "init_from": "real", "optimizer": "adamw", "lr": 0.01, "lr_labels": 0.003, "batch_real": 512, "lr_net": 1e-3,
    "ridge": 1e-3,
}  # fmt: skip
"""Of ridge regression on features: rates that are quick (the published ones are for 500,000 steps)."""
QUICK = {"effort": "quick"}
"""The method's own settings for minutes; only the number of steps differs."""
REMEMBER = {"init_from": "real", "batch_real": 256, "batch_per_class": 4}
MTT = {
    "init_from": "real", "lr": 100.0, "lr_lr": 1e-7, "num_experts": 2, "train_epochs": 6, "mode": "replay",
}  # fmt: skip
"""What those settings were when the table was made, where they have changed since."""
SGD = {
    "min_updates_per_epoch": 0, "expert_epochs": 2, "student_steps": 15, "optimizer": "sgd", "lr": 1000.0,
    "lr_labels": 5.0,
}  # fmt: skip
"""The first quick settings of the trajectory methods, of their first rows; rows with ``-now`` are of today's."""
MATCHED = {"batch_real": 64, "steps_per_network": 4}
ARMS: dict[str, dict[str, Any]] = {
    "dm": {"method": "dm", **MATCHED},
    "dm-tiles": {"method": "dm", "parametrization": "tiles", **MATCHED},
    "dm-frequency": {"method": "dm", "parametrization": "frequency:kept=64", **MATCHED},
    "m3d-tiles": {"method": "m3d", "parametrization": "tiles", **MATCHED},
    "dsa-tiles": {"method": "dsa", "parametrization": "tiles", "batch_real": 64},
    "frepo": {"method": "frepo", **KERNEL},
    "frepo-small2": {"method": "frepo", "parametrization": "small:factor=2", **KERNEL},
    "frepo-small3": {"method": "frepo", "parametrization": "small:factor=3", **KERNEL},
    "frepo-frequency": {"method": "frepo", "parametrization": "frequency:kept=64", **KERNEL},
    "frepo-memory": {"method": "frepo", "parametrization": "memory", **KERNEL},
    "rfad-frequency": {"method": "rfad", "parametrization": "frequency:kept=64", **QUICK, "init_from": "real"},
    "frepo-frequency160": {"method": "frepo", "parametrization": "frequency:kept=160", **KERNEL},
    "dm-frequency160": {"method": "dm", "parametrization": "frequency:kept=160", **MATCHED},
    "rfad-frequency100": {"method": "rfad", "parametrization": "frequency:kept=100", **QUICK, "init_from": "real"},
    "rfad-frequency160": {"method": "rfad", "parametrization": "frequency:kept=160", **QUICK, "init_from": "real"},
    "rfad-slow-frequency160": {
        "method": "rfad",
        "parametrization": "frequency:kept=160",
        **QUICK,
        "init_from": "real",
        "lr": 0.002,
    },
    "rfad-augmented-frequency160": {
        "method": "rfad",
        "parametrization": "frequency:kept=160",
        **QUICK,
        "init_from": "real",
        "augment": "dsa",
    },
    "rfad-frequency256": {"method": "rfad", "parametrization": "frequency:kept=256", **QUICK, "init_from": "real"},
    "rcig-frequency": {"method": "rcig", "parametrization": "frequency:kept=64", **QUICK, "init_from": "real"},
    "kip": {"method": "kip", **QUICK},
    "kip-frequency": {"method": "kip", "parametrization": "frequency:kept=64", **QUICK, "init_from": "real"},
    "rat-bptt": {"method": "rat-bptt", **QUICK},
    "rat-bptt-tiles": {"method": "rat-bptt", "parametrization": "tiles", **QUICK},
    "rat-bptt-frequency": {"method": "rat-bptt", "parametrization": "frequency:kept=64", **QUICK},
    "at-bptt-frequency": {"method": "at-bptt", "parametrization": "frequency:kept=64", **QUICK},
    "remember": {"method": "remember", **QUICK, **REMEMBER},
    "dd": {"method": "dd", **QUICK},
    "ld": {"method": "ld", **QUICK},
    "mtt-tiles": {"method": "mtt", "parametrization": "tiles", **QUICK, **SGD},
    "mtt-frequency": {"method": "mtt", "parametrization": "frequency:kept=64", **QUICK, **SGD, **MTT},
    "mtt-now-frequency": {"method": "mtt", "parametrization": "frequency:kept=64", **QUICK},
    "datm-now-frequency": {"method": "datm", "parametrization": "frequency:kept=64", **QUICK},
    "tesla-now-frequency": {"method": "tesla", "parametrization": "frequency:kept=64", **QUICK},
    "dance-frequency160": {"method": "dance", "parametrization": "frequency:kept=160", **QUICK},
    "idm-frequency160": {"method": "idm", "parametrization": "frequency:kept=160", **QUICK},
    "ncfm-frequency160": {"method": "ncfm", "parametrization": "frequency:kept=160", **QUICK},
    "ncfm-2bits": {"method": "ncfm", **QUICK, "store": "uint2"},
    "mtt-now-frequency160": {"method": "mtt", "parametrization": "frequency:kept=160", **QUICK},
    "datm-now-frequency160": {"method": "datm", "parametrization": "frequency:kept=160", **QUICK},
    "tesla-now-frequency160": {"method": "tesla", "parametrization": "frequency:kept=160", **QUICK},
    "tesla-frequency": {"method": "tesla", "parametrization": "frequency:kept=64", **QUICK, **SGD, "lr": 500.0},
    "att-frequency": {"method": "att", "parametrization": "frequency:kept=64", **QUICK, **SGD, "student_steps": 20},
    "ftd-frequency": {"method": "ftd", "parametrization": "frequency:kept=64", **QUICK, **SGD},
    "datm-frequency": {"method": "datm", "parametrization": "frequency:kept=64", **QUICK, **SGD},
    "pad-frequency": {"method": "pad", "parametrization": "frequency:kept=64", **QUICK, **SGD},
}
"""Of each arm, what `potstill.distill` is told."""


def short(steps: int = 300) -> Protocol:
    """`potstill` with one rate and one length for all."""
    return resolve("protocols", "potstill").override(steps=steps, least_epochs=0, batch=128, lr=0.03, validation=0.0)


PROTOCOLS: dict[str, Callable[[], Protocol]] = {
    "potstill-short": short,
    "potstill-long": partial(short, 1200),
    "potstill-longer": partial(short, 3600),
    **{name: partial(resolve, "protocols", name) for name in ("dsa", "frepo", "mtt", "datm", "rat-bptt")},
}
BASELINES: dict[str, dict[str, Any]] = {
    "random": {"method": "random"},
    "k-means": {"method": "k-means"},
    "random-2bits": {"method": "random", "store": "uint2"},
    "k-means-2bits": {"method": "k-means", "store": "uint2"},
    "random-tiles": {"method": "dm", "parametrization": "tiles", "steps": 0},
    "random-frequency": {"method": "dm", "parametrization": "frequency:kept=64", "steps": 0},
    "random-frequency160": {"method": "dm", "parametrization": "frequency:kept=160", "steps": 0},
    "random-frequency256": {"method": "dm", "parametrization": "frequency:kept=256", "steps": 0},
}
"""Real samples, as they are, or as the start of a run that makes no step. With ``--true`` they have 4 bits a value."""
PROBE_SEED = 1000
"""Of the short runs: none of the sets' seeds."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["make", "score"])
    parser.add_argument("--data", default="fashion-mnist")
    parser.add_argument("--ipc", type=int, default=1)
    parser.add_argument(
        "--true", type=int, default=0, metavar="BYTES", help="a budget of true bytes, in place of ipc's"
    )
    parser.add_argument("--seconds", type=float, default=60.0, help="of one core, for each set's steps")
    parser.add_argument("--only", nargs="+", metavar="ARM")
    parser.add_argument("--network", default="convnet-d3-w32", help="in which sets are made")
    parser.add_argument("--sets", type=int, default=2)
    parser.add_argument("--validation", type=float, default=0.05, help="part of the training data that is held out")
    parser.add_argument("--held", action="store_true", help="score on the held-out part, not on test data")
    parser.add_argument("--classes", action="store_true", help="train on the likeliest class of each learned label")
    parser.add_argument("--protocol", default="potstill-short", choices=list(PROTOCOLS))
    parser.add_argument("--networks", nargs="+", default=["convnet-d3-w128"])
    parser.add_argument("--students", type=int, default=3, help="for each set and network")
    parser.add_argument("--cache", type=Path, default=Path(".strong"))
    parser.add_argument("--out", type=Path, default=Path("results/strong"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    bench = Bench(args)
    names = args.only or [*BASELINES, *ARMS]
    if unknown := [n for n in names if n not in ARMS and n not in BASELINES]:
        raise SystemExit(f"no arm {unknown[0]!r}; there are {', '.join([*BASELINES, *ARMS])}")
    for name in names:
        try:
            bench.make(name) if args.what == "make" else bench.score(name)
        except PotstillError as error:
            print(f"{name}: {error}", flush=True)


class Bench:
    """What all arms share."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        data = potstill.load_data(args.data)
        assert isinstance(data.train, TensorSource)
        assert data.test is not None
        self.train, self.held = holdout(data.train, args.validation, 0)
        self.test: Source = self.held if args.held else data.test
        shape = self.train.input.shape
        numbers = torch.Size(shape).numel()
        self.bytes = args.true or args.ipc * len(self.train.classes) * (4 * numbers + 8)
        self.cell = f"{args.data}-{f'true{args.true}' if args.true else f'ipc{args.ipc}'}"

    def options(self, name: str) -> dict[str, Any]:
        """What `potstill.distill` is told of the arm."""
        return {"network": self.args.network, "store": "uint4" if self.args.true else "float32"} | ARMS[name]

    def untrained(self, name: str) -> dict[str, Any]:
        """The same of real samples, in as many bits."""
        return {"store": "uint4" if self.args.true else "float32"} | BASELINES[name]

    def path(self, name: str, seed: int) -> Path:
        seconds = 0 if name in BASELINES else round(self.args.seconds)
        width = "" if name in BASELINES else "-" + self.args.network.rpartition("-")[2]
        return Path(self.args.cache) / f"{self.cell}-{seconds}s{width}-{name}-{seed}.safetensors"

    def make(self, name: str) -> None:
        """The arm's sets, those that are not there yet, all of as many steps."""
        self.args.cache.mkdir(parents=True, exist_ok=True)
        steps: int | None = None
        for seed in range(self.args.sets):
            if self.path(name, seed).exists():
                steps = potstill.load(self.path(name, seed)).metadata["cost"]["steps"]
                continue
            if name not in BASELINES and steps is None:
                steps = self.planned(name)
            begun, checkpoint = time.process_time(), self.path(name, seed).with_suffix(".checkpoint")
            small = potstill.distill(
                Splits(train=self.train, test=None), bytes=self.bytes, seed=seed, device="cpu", progress=None,
                executor="serial", checkpoint=checkpoint, resume=checkpoint.exists(),
                **(self.untrained(name) if name in BASELINES else self.long(name, steps or 1)),
            )  # fmt: skip
            small.save(self.path(name, seed))
            drop_checkpoint(checkpoint)
            took = time.process_time() - begun
            print(f"{self.path(name, seed).name}: {len(small)} inputs, {steps} steps, {took:.0f} s", flush=True)

    def long(self, name: str, steps: int) -> dict[str, Any]:
        """The options of a run of so many steps: a schedule that ends with the run knows its end."""
        options = self.options(name)
        return options | {"iterations": steps}

    def planned(self, name: str) -> int:
        """How many steps, as the probe said once: a run that was stopped goes on to the same end."""
        kept = self.path(name, 0).with_suffix(".steps")
        if not kept.exists():
            kept.write_text(str(self.affordable(name)))
        return int(kept.read_text())

    def affordable(self, name: str) -> int:
        """How many steps the seconds buy, by a short run."""
        marks: list[float] = []
        potstill.distill(
            Splits(train=self.train, test=None), bytes=self.bytes, seed=PROBE_SEED, device="cpu", executor="serial",
            progress=lambda p: marks.append(time.process_time()), **self.long(name, 6),
        )  # fmt: skip
        return max(2, int(self.args.seconds * (len(marks) - 1) / (marks[-1] - marks[0])))

    def score(self, name: str) -> None:
        """Students of every set that is there and has no score yet, by network."""
        args = self.args
        where = "held" if args.held else "test"
        out = args.out / f"{self.cell}.json"
        args.out.mkdir(parents=True, exist_ok=True)
        for network in args.networks:
            made_in = "" if name in BASELINES else args.network
            seconds = 0 if name in BASELINES else round(args.seconds)
            key = f"{name}|{seconds}|{made_in}|{args.protocol}|{network}|{where}{'|classes' if args.classes else ''}"
            paths = [p for seed in range(args.sets) if (p := self.path(name, seed)).exists()]
            found = json.loads(out.read_text()) if out.exists() else {"machine": machine(), "cells": {}}
            had = found["cells"].get(key, {}).get("values_of_sets", [])
            if not paths or len(had) >= len(paths):
                continue
            begun, smalls = time.process_time(), [potstill.load(p) for p in paths]
            smalls = [of_classes(s) for s in smalls] if args.classes else smalls
            values = had + [self.students(s, network, seed) for seed, s in list(enumerate(smalls))[len(had) :]]
            card = smalls[0].metadata
            cell = {
                "arm": name, "seconds_asked": seconds, "made_in": made_in,
                "where": where + args.classes * " by classes",
                "protocol": args.protocol, "network": network,
                "values_of_sets": values, "accuracy": summary([sum(v) / len(v) for v in values], len(self.test)),
                "students": args.students, "inputs": len(smalls[0]), "bytes": card["bytes"], "budget": self.bytes,
                "steps": [s.metadata["cost"]["steps"] for s in smalls],
                "seconds": [s.metadata["cost"]["seconds"] for s in smalls],
                "preparation_seconds": card["cost"]["preparation_seconds"],
                "options": {k: str(v) for k, v in (ARMS.get(name) or BASELINES[name]).items()},
                "scored_in": round(time.process_time() - begun, 1),
            }  # fmt: skip
            found = json.loads(out.read_text()) if out.exists() else {"machine": machine(), "cells": {}}
            found["cells"][key] = cell
            part = out.with_suffix(".part")
            part.write_text(json.dumps(found, indent=1) + "\n")
            part.replace(out)
            mean = cell["accuracy"]["mean"]
            print(f"{key}: {100 * mean:.1f} {[[round(100 * v, 1) for v in vs] for vs in values]}", flush=True)

    def students(self, small: potstill.Distilled, network: str, seed: int) -> list[float]:
        """Accuracies of students on data that no set was made of."""
        score = evaluate(
            small, Splits(train=self.train, test=self.test), protocol=PROTOCOLS[self.args.protocol](),
            networks=[network], seeds=self.args.students, seed=seed, baselines=False, full=False, robust_scores=False,
            executor=Serial(),
        )  # fmt: skip
        values: list[float] = score.to_dict()["accuracy"]["values"]
        return values


def of_classes(small: potstill.Distilled) -> potstill.Distilled:
    """The same inputs with the likeliest class of each label: whether harm is in the inputs or in the labels."""
    card = small.metadata
    return build(
        Contents(inputs=small.inputs, labels=small.hard_labels),
        Schema(classes=small.classes, input=small.input, normalization=small.normalization),
        Provenance(**{n: card[n] for n in ("method", "config", "seed", "ipc", "source", "outcome", "cost")}),
    )


if __name__ == "__main__":
    main()
