"""Which networks read the pictures of decoupled methods: labeller × student, for every preset.

    python benchmarks/labellers.py [--data photo-patches fashion-5k] [--ipc 1 10] [--only sre2l edc …] [--sets 4]

A set is made with one BatchNorm ConvNet (its own teacher; a preset whose recipe names a committee has a second one).
Then its pictures are labelled by that teacher, by another BatchNorm ConvNet (the same training from other weights) or
by an InstanceNorm ConvNet of the same training, and students with either norm learn them: every augmented batch is
labelled as it is made (KL). Real samples are labelled by the same networks: `random`, `k-means`, and `random-tiles`,
where each stored picture holds four random real ones at half their size, in the same bytes. All students make as many
updates at one rate; nothing is chosen.

``--committee`` makes some presets again with a committee of a BatchNorm and an InstanceNorm ConvNet.

Presets have the options of their recipes (recipes/), with ``--iterations`` steps of a batch at most. Sets are kept
under ``--work``; results/labellers-DATA-IPC.json is written after every cell, and what is there is not made again.
The data are those of `photo_patches.py`; of Fashion-MNIST's test pictures the first 200 of each class are used.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch
import yaml
from machine import machine
from photo_patches import fashion, photo_patches

import potstill
from potstill.augment.names import named_augmentation
from potstill.core import DecodeContext, NetworkFactory, Splits
from potstill.core.registry import names, resolve
from potstill.data.real_data import RealData
from potstill.dataset_file import Distilled, load
from potstill.evaluation import Protocol
from potstill.evaluation.augmentation import student_augmentation
from potstill.evaluation.distilled_training import Teachers
from potstill.evaluation.statistics import summary
from potstill.evaluation.student import StudentJob
from potstill.evaluation.vmap_students import predict_all
from potstill.execution import Serial
from potstill.nn import factory
from potstill.parametrize.tiles import Tiles
from potstill.pretraining import TrainedNetworks, build_assets
from potstill.rng import derive_seed, generator

REAL = ("random", "random-tiles", "k-means")
BN, IN, SECOND = "convnet-d3-w16-batch", "convnet-d3-w16", "convnet-d2-w16-batch"
TRAINED = {"epochs": 15, "batch": 128, "lr": 0.1, "momentum": 0.9, "weight_decay": 5e-4, "schedule": "cosine"}
"""As the presets train their teachers, but for the epochs."""
STUDENTS = {"batch": BN, "instance": IN}
LABELLERS: dict[str, tuple[tuple[str, int], ...]] = {
    "own": ((BN, 0),), "other batch": ((BN, 1),), "instance": ((IN, 0),), "other instance": ((IN, 1),),
    "two of batch": ((BN, 0), (SECOND, 0)), "batch and instance": ((BN, 0), (IN, 0)),
}  # fmt: skip
"""Networks by architecture and number; several give the mean of their logits."""
CELLS = (
    ("own", "batch"), ("own", "instance"), ("instance", "instance"), ("other batch", "batch"), ("instance", "batch"),
    ("other batch", "instance"),
)  # fmt: skip
"""Labeller and student, in the order in which they are measured."""
MIXED = {f"{name} of batch and instance": name for name in ("sre2l", "g-vbsm")}
"""Presets that are made again for a committee."""
DATA = {"photo-patches": photo_patches, "fashion-5k": lambda: fashion(200)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", default=list(DATA), choices=list(DATA))
    parser.add_argument("--ipc", nargs="+", type=int, default=[1, 10])
    parser.add_argument("--only", nargs="+", default=[*REAL, *decoupled()], metavar="METHOD[:KEY=NUMBER]")
    parser.add_argument("--committee", action="store_true", help="committees of two norms, and real samples")
    parser.add_argument("--cells", type=int, default=len(CELLS), help="the first so many cells of the matrix")
    parser.add_argument("--iterations", type=int, default=200, help="most steps of a batch")
    parser.add_argument("--sets", type=int, default=4)
    parser.add_argument("--students", type=int, default=1, help="for each set")
    parser.add_argument("--steps", type=int, default=200, help="of a student")
    parser.add_argument("--lr", type=float, default=0.03)
    parser.add_argument("--temperature", type=float, default=4.0)
    parser.add_argument("--work", type=Path, default=Path("build/labellers"))
    parser.add_argument("--out", type=Path, default=Path("results"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    for ipc in args.ipc:
        for data in args.data:
            Bench(args, data, ipc).run(["random", "random-tiles", *MIXED] if args.committee else args.only)


def decoupled() -> list[str]:
    """Names of the registered methods of the family."""
    return [n for n in names("methods") if resolve("methods", n).info.family == "decoupled"]


class Bench:
    """One data set at one number of pictures per class, and the file of its results."""

    def __init__(self, args: argparse.Namespace, data: str, ipc: int) -> None:
        self.args, self.data, self.ipc, self.splits = args, data, ipc, DATA[data]()
        self.path = args.out / f"labellers-{data}-{ipc}.json"
        held = self.splits.test
        assert held is not None
        self.protocol: Protocol = resolve("protocols", "potstill").override(
            labels="teacher", loss="kl", temperature=args.temperature, steps=args.steps, least_epochs=0, batch=100,
            lr=args.lr,
        )  # fmt: skip
        settings = {n: getattr(args, n) for n in ("iterations", "sets", "students", "steps", "lr", "temperature")}
        settings |= {"trained": TRAINED, "networks": [BN, IN, SECOND]}
        self.made: dict[str, Any] = {
            "data": data, "ipc": ipc, "test": len(held), "settings": settings, "machine": machine(), "labellers": {},
            "rows": {},
        }  # fmt: skip
        if self.path.exists():
            self.made = json.loads(self.path.read_text(encoding="utf-8"))
            if self.made["settings"] != settings:
                raise SystemExit(f"{self.path} was made with other settings; give another --out, or move it away")
        self.known: dict[str, Teachers] = {}

    def run(self, wanted: list[str]) -> None:
        for cell in CELLS[: self.args.cells]:
            for name in wanted:
                for labeller, student in self.cells(name, cell):
                    self.cell(name, labeller, student)

    def cells(self, name: str, cell: tuple[str, str]) -> list[tuple[str, str]]:
        """The cells of a row at one place of the matrix: what the own teachers of the preset are differs."""
        labeller, student = cell
        if labeller == "own":
            own = self.every_own() if name in REAL else [self.own(name)]
            return [(one, student) for one in own]
        # The instance network of a committee is its own: another one says whether the pictures carry.
        further = [("other instance", student)] if labeller == "instance" and self.args.committee else []
        return [cell, *further]

    def every_own(self) -> list[str]:
        """The labellers of all presets, which label real samples too."""
        return ["own", "two of batch", *(["batch and instance"] if self.args.committee else [])]

    def own(self, name: str) -> str:
        """The labeller that is the teacher, or the teachers, of a preset here."""
        if name in MIXED:
            return "batch and instance"
        return "two of batch" if "committee" in options_of(name, self.args) else "own"

    def cell(self, name: str, labeller: str, student: str) -> None:
        """Measure one labeller and one student on the sets of a row, unless that was done."""
        row = self.made["rows"].setdefault(name, {"cells": {}, "agreement": {}})
        key = f"{labeller} → {student}"
        if key in row["cells"]:
            return
        begun, values = time.monotonic(), []
        teachers = self.labeller(labeller)
        agreement = []
        for seed in range(self.args.sets):
            x, y = self.set(name, seed, row)
            agreement.append(float((teachers.logits_function()(x).argmax(1) == y).double().mean()))
            values.append(self.accuracies(x, y, seed, student, teachers))
        row["cells"][key] = {"values_of_sets": values, "seconds": round(time.monotonic() - begun, 1)}
        row["agreement"][labeller] = agreement
        self.write()
        means = summary([sum(v) / len(v) for v in values])
        half = "" if means["ci95"] is None else f" ± {50 * (means['ci95'][1] - means['ci95'][0]):.1f}"
        agreed = 100 * sum(agreement) / len(agreement)
        print(
            f"{self.data} {self.ipc}: {name}, {key}: {100 * means['mean']:.1f}{half}, labeller agrees {agreed:.0f} %, "
            f"{time.monotonic() - begun:.0f} s", flush=True,
        )  # fmt: skip

    def write(self) -> None:
        part = self.path.with_suffix(".part")
        part.write_text(json.dumps(self.made, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        part.replace(self.path)

    def labeller(self, name: str) -> Teachers:
        """Trained networks, and what they are worth, written down once."""
        if name not in self.known:
            train, test = self.splits.train, self.splits.test
            assert test is not None
            parts = []
            for network, number in LABELLERS[name]:
                spec = TrainedNetworks(name="n", count=number + 1, recipe={**TRAINED, "augment": "dsa"})
                make = self.network(network)
                made, _ = build_assets([spec], train, make, lambda n: named_augmentation(n, train), executor=Serial())
                parts.append(Teachers(make=make, trained=(made["n"][number],)))
            one = Teachers(make=parts[0].make, trained=parts[0].trained, others=tuple(parts[1:]))
            self.known[name] = one
            label, rows = one.logits_function(), torch.arange(len(test))
            right = [label(test.fetch(i).x).argmax(1) == test.labels[i] for i in torch.split(rows, 500)]
            self.made["labellers"][name] = {
                "networks": [f"{n} #{number}" for n, number in LABELLERS[name]],
                "accuracy": float(torch.cat(right).double().mean()),
            }  # fmt: skip
            self.write()
            print(f"{self.data}: labeller {name}: {100 * self.made['labellers'][name]['accuracy']:.1f}", flush=True)
        return self.known[name]

    def network(self, name: str) -> NetworkFactory:
        return factory(name, self.splits.train.input, len(self.splits.train.classes))

    def accuracies(self, x: torch.Tensor, y: torch.Tensor, seed: int, student: str, teachers: Teachers) -> list[float]:
        """Test accuracies of the students of one set."""
        train, test = self.splits.train, self.splits.test
        assert test is not None
        make = self.network(STUDENTS[student])
        p = self.protocol.resolve(train.name, make.name, train.input)
        jobs = [
            StudentJob(
                make=make, x=x, y=y, protocol=p, lr=p.recipe.lr[0], steps=p.recipe.steps[0], teachers=teachers,
                augment=student_augmentation(p.recipe.augment, train), seed=derive_seed(seed, "student", n),
            )
            for n in range(self.args.students)
        ]  # fmt: skip
        found = predict_all(test, jobs, Serial(), 1)
        chance = 1 / len(train.classes)
        return [chance if q is None else float((q == test.labels).double().mean()) for q in found]

    def set(self, name: str, seed: int, row: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
        """Inputs in model space and classes of a set."""
        if name == "random-tiles":
            return self.tiles(seed, row)
        path = self.args.work / f"{self.data}-{self.ipc}-{name.replace(' ', '-')}-{seed}.safetensors"
        if path.exists():
            made = load(path)
        else:
            made = self.distil(name, seed)
            path.parent.mkdir(parents=True, exist_ok=True)
            made.save(path)
        cost = made.metadata["cost"]
        row |= {"options": made.metadata["config"], "steps": cost["steps"], "inputs": len(made)}
        row.setdefault("seconds", []).append(cost["seconds"])
        return made.model_space(), made.hard_labels

    def distil(self, name: str, seed: int) -> Distilled:
        options = options_of(MIXED.get(name, name), self.args)
        if name in MIXED:
            options["committee"] = IN
        real = Splits(train=self.splits.train, test=None)
        ipc = max(2, self.ipc) if name == "ufc" else self.ipc  # one place of a class is two pictures at least
        method = MIXED.get(name, name).partition(":")[0]
        return potstill.distill(real, method, ipc=ipc, seed=seed, device="cpu", **options)

    def tiles(self, seed: int, row: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
        """Four random real pictures in each stored one."""
        train, count = self.splits.train, 4 * self.ipc
        counts = [count] * len(train.classes)
        drawn = torch.cat(RealData.of_source(train).draw_exactly(counts, generator(seed, "random-tiles")))
        raw = train.raw(drawn)
        assert isinstance(raw, torch.Tensor)
        tiles = Tiles(factor=2, shrink="area")
        stored = torch.stack([tiles._mosaics(part, self.ipc) for part in torch.split(raw, count)])
        x = tiles.decode({"inputs/0": stored}, DecodeContext(input=train.input))
        row |= {"options": {"factor": 2, "shrink": "area"}, "steps": 0, "inputs": len(x), "seconds": [0.0]}
        return train.normalization.apply(x), torch.arange(len(index)).repeat_interleave(count)


def options_of(name: str, args: argparse.Namespace) -> dict[str, Any]:
    """The recipe's settings, without what says how much and how long, and what the name sets otherwise."""
    if name in REAL:
        return {}
    name, _, setting = name.partition(":")
    found: dict[str, Any] = yaml.safe_load(Path(f"recipes/{name}.yaml").read_text(encoding="utf-8"))
    options = {k.replace("-", "_"): v for k, v in found.items() if k not in ("method", "ipc", "time_limit", "steps")}
    fields = resolve("methods", name).__dataclass_fields__
    if "committee" in options:
        options["committee"] = SECOND
    if "iterations" in options:
        options["iterations"] = min(options["iterations"], args.iterations)
    if name == "edc":
        options.pop("iterations")  # 75 by the data's size, as published
    if setting:
        key, _, value = setting.partition("=")
        options[key] = type(options[key])(value)
    return {**options, "network": BN, **({} if "labels" in fields else {"labels": "hard"})}


if __name__ == "__main__":
    main()
