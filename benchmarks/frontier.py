"""How many times fewer bytes a distilled set has than the best coded real samples of the same accuracy.

    python benchmarks/frontier.py make  --data fashion-mnist --kb 1 4 16     # sets, chosen on held-out training data
    python benchmarks/frontier.py score --data fashion-mnist --kb 1 4 16     # students and models on test data
    python benchmarks/frontier.py table
    python benchmarks/frontier.py figure                                     # docs/img/benchmarks/frontier.svg

**Bytes** are those of bitstreams that were written and decoded: all tensors of a file.

- ``real``: the best coded real samples, searched on the training data (`potstill.evaluation.real_sets`): selection,
  codec, size, proportions, soft labels. Each set is a draw.
- ``made``: the best of `ARMS` on 5 % of the training data that no set is made of; each of ``--sets`` has ``--seconds``
  of one core for its steps. Pictures are stored as cosine coefficients at 16, 64 or 144 positions that all share, with
  and without a price for bits in the loss; tables as they are.
- ``model``: the network of the baseline `model`, trained on all training data with few bits for each weight.

Students (`STUDENTS`) are the same for real and made sets: batch 128, 20 passes over a set and at least 300 updates, no
choice by test data. An accuracy
is the mean over students of the mean over sets; intervals are Student's t over sets. **k** at a budget is the bytes at
which the line through the real sets (accuracy over the logarithm of bytes) reaches the accuracy of the made sets,
divided by the bytes of these; its interval is from 2,000 resamplings of sets on both sides.

Rows, k and the figure are made by `tools.docs.frontier`, also when ``python -m tools.docs`` makes the pages.
Tables have learners beside a network: scikit-learn's forest and linear model. ``satellite`` and ``letters`` are
tables of R's package mlbench (``Satellite``, ``LetterRecognition``), written as CSV.

``--steps`` makes every set in so many steps, whatever they take, and ``--device cuda`` on a GPU: with ``--sides made
--out results/frontier/long`` these are sets beside those of a minute of one core.

Cells are added to ``results/frontier/DATA.json``; what is there is not made again.
"""

import argparse
import json
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from machine import machine

import potstill
from potstill.core import NetworkFactory, Source, Splits
from potstill.core.registry import resolve
from potstill.data import TensorSource, holdout
from potstill.errors import PotstillError
from potstill.evaluation.byte_matched_baselines import BaselineContext
from potstill.evaluation.candidate_trials import Length, Probe, make_probe
from potstill.evaluation.estimators import is_learner_name, make_learner
from potstill.evaluation.measurement import EvaluationContext
from potstill.evaluation.model_baseline import make_model_baseline
from potstill.evaluation.real_sets import RealSetSearch, space_of
from potstill.execution import Serial
from potstill.nn import factory_for
from potstill.runs.fill import can_fill, find_planned_bytes
from potstill.runs.resolve import resolve_run
from potstill.runs.spec import RunIO, RunLimits, RunSpec

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tools.docs import frontier  # noqa: E402

FIGURE = ROOT / "docs/img/benchmarks/frontier.svg"

FREPO: dict[str, Any] = {
    "method": "frepo", "init_from": "real", "optimizer": "adamw", "lr": 0.01, "lr_labels": 0.003, "batch_real": 512,
    "lr_net": 1e-3, "ridge": 1e-3, "steps_per_network": 4,
}  # fmt: skip
COSINE: dict[str, Any] = {**FREPO, "parametrization": "shared-frequency:positions=64", "network": "convnet-d3-w64"}
RATE = "step:width=1.2,rate=0.01"
GENERATOR: dict[str, Any] = {
    "method": "dm", "parametrization": "generator", "network": "convnet-d3-w32", "optimizer": "adamw", "lr": 0.005,
    "codec": "uint4:aware=true",
}  # fmt: skip
DRAWN = 500
"""Pictures of each class that students draw from a set that is a generator."""
PLANNED = {2000: 1.3, 4000: 1.3}
"""Bytes that a generator is planned by, over those it may have, where its sets were made before budgets were filled."""
TABLE: dict[str, Any] = {"codec": "uint4", "batch_real": 64, "optimizer": "adamw", "lr": 0.02}
ARMS: dict[str, dict[str, dict[str, Any]]] = {
    "image": {
        "free": {**COSINE, "codec": "step:width=1.0,aware=False"},
        "rate": {**COSINE, "codec": RATE},
        "rate-16": {**COSINE, "codec": RATE, "parametrization": "shared-frequency:positions=16"},
        "rate-144": {**COSINE, "codec": RATE, "parametrization": "shared-frequency:positions=144"},
        "generator": GENERATOR,
    },
    "table": {
        "dm": {"method": "dm", **TABLE},
        "frepo": {**FREPO, "codec": "uint8"},
        "frepo-4-bits": {**FREPO, "codec": "uint4"},
    },
}
"""Ways to make a set, by the kind of input."""
STUDENTS: dict[str, tuple[str, ...]] = {"image": ("convnet-d3-w32",), "table": ("mlp-w128", "forest", "linear-model")}
ENDLESS = 1_000_000
"""Iterations of a run that is only planned."""
UPDATES, PASSES, BATCH, LR = 300, 20, 128, 0.03
MAX_UPDATES = 10_000
PROBE_SEED = 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["make", "score", "table", "figure"])
    parser.add_argument("--data", default="fashion-mnist", help="a name, or a path that Potstill reads")
    parser.add_argument("--label", help="column of the classes, of a table")
    parser.add_argument("--kb", type=float, nargs="+", default=[1, 2, 4, 8, 16, 40], help="of 1,000 bytes")
    parser.add_argument("--sides", nargs="+", default=["real", "made", "model"], choices=["real", "made", "model"])
    parser.add_argument("--seconds", type=float, default=60.0, help="of one core, for the steps of a set")
    parser.add_argument("--steps", type=int, help="of a set, in place of seconds")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--arms", nargs="+", help="of these the best is chosen; default: all")
    parser.add_argument("--sets", type=int, default=3)
    parser.add_argument("--students", type=int, default=2)
    parser.add_argument("--cache", type=Path, default=Path(".frontier"))
    parser.add_argument("--out", type=Path, default=Path("results/frontier"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.what == "table":
        print(frontier.frontier(ROOT))
        return
    if args.what == "figure":
        print(FIGURE.write_text(frontier.figure(ROOT), encoding="utf-8"), "characters:", FIGURE.relative_to(ROOT))
        return
    args.cache.mkdir(parents=True, exist_ok=True)
    args.out.mkdir(parents=True, exist_ok=True)
    bench = Bench(args)
    for kb in args.kb:
        for side in args.sides:
            if side != "model" or args.what == "score":
                getattr(bench, f"{args.what}_{side}")(int(1000 * kb))


class Bench:
    """One data set: its parts, and the results so far."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args, self.name, self.arms = args, Path(args.data).stem, ARMS
        given = {"label": args.label} if args.label else {}
        data = potstill.load_data(args.data, device=args.device, **given)
        assert isinstance(data.train, TensorSource)
        assert data.test is not None
        self.train, self.held = holdout(data.train, 0.05 if len(data.train) > 20_000 else 0.2, 0)
        self.test, self.kind = data.test, data.train.input.kind
        self.path: Path = args.out / f"{self.name}.json"
        self.found: dict[str, Any] = (
            json.loads(self.path.read_text()) if self.path.exists() else {"data": self.name, "cells": {}}
        )

    def probe(self, network: str, part: Source, seed: int) -> Probe:
        make = factory_for(network, self.train)
        length = Length(steps=UPDATES, passes=PASSES, most=MAX_UPDATES)
        made = make_probe(make, self.train, part, students=self.args.students, seed=seed, steps=length, lr=LR)
        protocol = resolve("protocols", "potstill").override(steps=UPDATES, batch=BATCH, lr=LR, least_epochs=0)
        return replace(made, make=make, protocol=protocol.resolve(self.train.name, make.name, self.train.input))

    def accuracy(self, network: str, part: Source, pairs: list[Any]) -> list[float]:
        """Of each set the mean accuracy of its students: networks, or learners that have no updates."""
        if is_learner_name(network):
            learner, right = make_learner(network, self.train), part.labels
            return [float(np.mean([
                (learner.fit_predict(part, x, y, None, seed) == right).double().mean()
                for seed in range(self.args.students)
            ])) for x, y in pairs]  # fmt: skip
        return [float(self.probe(network, part, n).student_scores([pair], range(self.args.students)).mean())
                for n, pair in enumerate(pairs)]  # fmt: skip

    def once(self, key: str, make: Any) -> Any:
        if key not in self.found["cells"]:
            clock = time.process_time if self.args.device == "cpu" else time.monotonic
            begun = clock()
            cell = make()
            cell.setdefault("seconds", round(clock() - begun, 1))
            now = json.loads(self.path.read_text()) if self.path.exists() else self.found
            now["cells"][key], now["machine"] = cell, machine()
            self.path.write_text(json.dumps(now, indent=1, sort_keys=True) + "\n")
            self.found = now
            print(f"{self.name} {key}: {json.dumps(cell)[:300]}", flush=True)
        return self.found["cells"][key]

    # Real samples

    def search(self, size: int) -> RealSetSearch:
        """The search for the best real samples of so many bytes, before its run."""
        make = factory_for(STUDENTS[self.kind][0], self.train)
        where = BaselineContext(train=self.train, byte_budget=size, make=make, seed=0, quick=False, proportional=True)
        return RealSetSearch(where=where, space=space_of(where, labels=("hard", "top3")))

    def make_real(self, size: int) -> None:
        """Search, and store the draws beside the results: they are needed for the score."""
        path: Path = self.args.cache / f"{self.name}-{size}-real.pt"
        if path.exists():
            return

        def searched() -> dict[str, Any]:
            search = self.search(size).run()
            trial = search.chosen()
            made = search.make(trial, self.args.sets)
            torch.save({"pairs": list(made.pairs)}, path)
            return {**trial.way.to_dict(), "items": made.items, "bytes": made.bytes, "tried": len(search.trials)}

        self.found["cells"].pop(f"{size}|real", None)
        self.once(f"{size}|real", searched)

    def score_real(self, size: int) -> None:
        path: Path = self.args.cache / f"{self.name}-{size}-real.pt"
        for network in STUDENTS[self.kind]:
            if path.exists():
                pairs = torch.load(path, weights_only=True)["pairs"]
                self.once(f"{size}|real|{network}", lambda n=network, p=pairs: {
                    "accuracy": self.accuracy(n, self.test, p)
                })  # fmt: skip

    # Distilled sets

    def set_path(self, size: int, arm: str, seed: int) -> Path:
        return Path(self.args.cache) / f"{self.name}-{size}-{self.length}-{arm}-{seed}.safetensors"

    @property
    def length(self) -> str:
        """How long a set is made, as part of a name."""
        return f"{self.args.steps}steps" if self.args.steps else f"{round(self.args.seconds)}s"

    def distilled(self, size: int, arm: str, seed: int) -> potstill.Distilled:
        """The set of that arm and seed: made once, with as many steps as the seconds buy, of as many inputs as fill the
        bytes: a short run says how well values are coded, and what is too large at the end is written coarser."""
        path, plan_path = self.set_path(size, arm, seed), self.set_path(size, arm, 0).with_suffix(".plan")
        if not path.exists():
            if not plan_path.exists():
                self.plan(size, arm, plan_path)
            plan = json.loads(plan_path.read_text())
            self.run(size, arm, seed, plan["steps"], planned_bytes=plan["planned_bytes"]).save(path)
        return potstill.load(path)

    def plan(self, size: int, arm: str, path: Path) -> None:
        marks: list[float] = []
        planned = self.planned_bytes(size, arm)
        if self.args.steps:
            path.write_text(json.dumps({"steps": self.args.steps, "planned_bytes": planned}))
            return
        self.run(size, arm, PROBE_SEED, 12, progress=lambda _: marks.append(time.process_time()), planned_bytes=planned)
        per_step = (marks[-1] - marks[2]) / (len(marks) - 3)
        path.write_text(json.dumps({"steps": max(20, int(self.args.seconds / per_step)), "planned_bytes": planned}))

    def planned_bytes(self, size: int, arm: str) -> int | None:
        """Return the bytes to plan by, as `potstill.distill` finds them for a long run; ``None``: it plans itself."""
        if arm == "generator":
            return int(PLANNED[size] * size) if size in PLANNED else None
        options = {**self.arms[self.kind][arm], "iterations": ENDLESS, "bytes": size, "device": self.args.device}
        spec = RunSpec.from_options(Splits(train=self.train, test=None), options.pop("method"), options)
        run = resolve_run(spec)
        if not can_fill(run, RunLimits()):
            return size
        return find_planned_bytes(
            run, lambda planned: resolve_run(replace(spec, planned_bytes=planned)),
            RunIO(progress=None, executor="serial"), RunLimits(),
        )  # fmt: skip

    def run(self, size: int, arm: str, seed: int, steps: int, **more: Any) -> potstill.Distilled:
        options = {"progress": None, **self.arms[self.kind][arm], "iterations": steps, **more}
        if arm == "generator":
            options["parametrization"] = f"generator:seed={seed},dim=16"
        small = potstill.distill(
            Splits(train=self.train, test=None), bytes=size, seed=seed, device=self.args.device, executor="serial",
            **options,
        )  # fmt: skip
        return potstill.resample(small, DRAWN, seed=seed) if arm == "generator" else small

    def pair(self, small: potstill.Distilled) -> tuple[torch.Tensor, torch.Tensor]:
        """Inputs and labels where students train."""
        return small.model_space().to(self.args.device), small.labels.to(self.args.device)

    def make_made(self, size: int) -> None:
        for arm in self.args.arms or ARMS[self.kind]:

            def held(arm: str = arm) -> dict[str, Any]:
                small = self.distilled(size, arm, 0)
                pair, card = self.pair(small), small.metadata
                return {
                    "held": self.accuracy(STUDENTS[self.kind][0], self.held, [pair])[0], "items": len(small),
                    "bytes": card["bytes"]["total"], "codec": card["codec"]["name"], "steps": card["cost"]["steps"],
                }  # fmt: skip

            try:
                self.once(f"{size}|made|{arm}", held)
            except PotstillError as error:  # the bytes do not hold one input of each class
                self.once(f"{size}|made|{arm}", lambda error=error: {"none": str(error)})
        for seed in range(1, self.args.sets):
            self.distilled(size, self.best_arm(size), seed)

    def best_arm(self, size: int) -> str:
        cells = self.found["cells"]
        made = self.args.arms or ARMS[self.kind]
        return max(made, key=lambda arm: float(cells[f"{size}|made|{arm}"].get("held", -1)))

    def score_made(self, size: int) -> None:
        if any(f"{size}|made|{arm}" not in self.found["cells"] for arm in self.args.arms or ARMS[self.kind]):
            return
        arm = self.best_arm(size)
        paths = [self.set_path(size, arm, seed) for seed in range(self.args.sets)]
        smalls = [potstill.load(path) for path in paths if path.exists()]
        for network in STUDENTS[self.kind]:
            pairs = [self.pair(small) for small in smalls]
            self.once(f"{size}|made|{network}", lambda n=network, p=pairs: {
                "accuracy": self.accuracy(n, self.test, p), "arm": arm, "asked": self.length,
                "steps": [small.metadata["cost"]["steps"] for small in smalls],
                "bytes": [small.metadata["bytes"]["total"] for small in smalls],
                "cost": [small.metadata["cost"]["seconds"] for small in smalls],
            })  # fmt: skip

    # A model

    def score_model(self, size: int) -> None:
        def measured() -> dict[str, Any]:
            make: NetworkFactory = factory_for(STUDENTS[self.kind][0], self.train)
            context = EvaluationContext(
                protocol=resolve("protocols", "potstill").resolve(self.train.name, make.name, self.train.input),
                make=make, train=self.train, test=self.test, students=self.args.sets, seed=0, executor=Serial(),
                report=lambda *_: None, side_by_side=1,
            )  # fmt: skip
            where = BaselineContext(train=self.train, byte_budget=size, make=make, seed=0)
            row = make_model_baseline(context, where).to_dict(context)
            return {"accuracy": row["values"], **{name: row[name] for name in ("bytes", "network", "seconds")}}

        self.once(f"{size}|model", measured)


if __name__ == "__main__":
    main()
