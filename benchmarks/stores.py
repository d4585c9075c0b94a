"""What each store loses in accuracy against float32, on sets that are the same but for their bits.

    python benchmarks/stores.py [--sets 3] [--students 2] [--steps 300]

DM over pixels makes 10 digits of each class of mnist-5k (4,000 to train with, 1,000 to test) with ConvNet-W32, AdamW at
0.02, from real samples. Every store *after the fact* rounds the same float32 set of a seed. Every store *while it is
made* (``aware``, ``learned``) makes a set of its own with the same seed and steps, by
`potstill.parametrize.quantization_aware`.
Students of one recipe learn from what a reader of the file has; those of one seed start from the same weights, and a
difference is paired by set. ``refined`` is `Patches.refined`, with embeddings in an untrained network of the problem.

Results go to results/stores.json after every cell; a cell that is there is not made again. Nothing is chosen here, so
test data are all that is read.
"""

import argparse
import json
import statistics
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from machine import machine
from torch import Tensor

import potstill
from potstill.augment.names import named_augmentation
from potstill.codecs import compress_encoded, decode, encoded_bytes, parse_codec
from potstill.codecs.patches import Patches
from potstill.core import Encoded, Splits, Synthetic
from potstill.core.registry import resolve
from potstill.data import TensorSource
from potstill.dataset_file import write_atomic
from potstill.evaluation.statistics import summary
from potstill.evaluation.student import StudentJob, predict, train
from potstill.nn import factory
from potstill.parametrize.quantization_aware import QuantizationAware
from potstill.rng import derive_seed, generator
from potstill.runs.resolve import resolve_run
from potstill.runs.spec import RunSpec

AFTER = (
    "float32", "uint8", "uint4", "uint3", "uint2", "uint1", "apot:bits=4", "apot:bits=3", "apot:bits=2",
    "patches", "patches refined", "palette:colours=16", "palette:colours=4", "palette:colours=4,shared=true",
    "half:bits=4", "half:bits=2",
)  # fmt: skip
AWARE = (
    "uint2:aware=true", "uint2:aware=true,learned=true", "uint1:aware=true", "uint1:aware=true,learned=true",
    "apot:bits=2,aware=true,learned=true", "palette:colours=4,aware=true,learned=true", "half:bits=4,aware=true",
    "half:bits=2,aware=true",
)  # fmt: skip
NETWORK = "convnet-w32"
METHOD: dict[str, Any] = {
    "network": NETWORK,
    "batch_real": 64,
    "steps_per_network": 4,
    "optimizer": "adamw",
    "lr": 0.02,
}
STUDENT: dict[str, Any] = {"lr": 0.03, "batch": 32, "updates": 200, "augment": "dsa"}


class Bench:
    """One data set, one method, one recipe of students."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        splits = potstill.load_data("mnist-5k")
        assert isinstance(splits.train, TensorSource)
        assert splits.test is not None
        self.train, self.test = splits.train, splits.test
        options = {"ipc": 10, "parametrization": "pixels", "device": "cpu", "preset": "published", **METHOD}
        settled = resolve_run(RunSpec.from_options(Splits(train=self.train, test=None), "dm", options))
        self.method, self.problem = settled.method, settled.problem
        self.make = factory(NETWORK, self.train.input, len(self.train.classes))
        self.protocol = resolve("protocols", "potstill").override(batch=STUDENT["batch"], least_epochs=0)
        self.sets: dict[int, Tensor] = {}

    def made(self, seed: int, aware: str | None = None) -> Tensor | Encoded:
        """A set's pictures in data units, or as they are written where they are rounded while they are made."""
        problem, kept = self.problem, parse_codec(aware) if aware else None
        if kept is not None:
            wrapped = QuantizationAware(
                inner=problem.parametrization, codec=kept, learned=bool(getattr(kept, "learned", False))
            )
            problem = replace(problem, parametrization=wrapped)
        rng = generator(seed, "distill")
        state = self.method.init(problem, rng)
        for _ in range(self.args.steps):
            state, _ = self.method.step(problem, state, rng)
        result = self.method.result(problem, state)
        assert isinstance(result, Synthetic)
        assert result.space == "model"
        if kept is not None:
            return wrapped.encode_payload(result.payload)["inputs"]
        return self.train.normalization.invert(problem.decode(result.payload)).float()

    def stored(self, name: str, seed: int) -> tuple[Tensor, Encoded, float | None]:
        """What a reader has, in model space; how it is written; and its squared error, of a pixel."""
        if name in AWARE:
            kept = self.made(seed, name)
            assert isinstance(kept, Encoded)
            return decode(kept), kept, None
        if seed not in self.sets:
            whole = self.made(seed)
            assert isinstance(whole, Tensor)
            self.sets[seed] = whole
        x = self.sets[seed]
        kept = self.refined(x, seed) if name == "patches refined" else parse_codec(name).pack(x)
        back = decode(kept)
        return self.train.normalization.apply(back), kept, float((back - x).square().mean())

    def refined(self, x: Tensor, seed: int) -> Encoded:
        net = self.problem.network(derive_seed(seed, "refine")).eval().requires_grad_(False)

        def features(pictures: Tensor) -> Tensor:
            return net.embed(self.train.normalization.apply(pictures))

        return Patches().pack_refined(x, features, generator(seed, "refine"), steps=self.args.refine)

    def student(self, x: Tensor, seed: int) -> float:
        labels = torch.arange(len(self.train.classes)).repeat_interleave(len(x) // len(self.train.classes))
        job = StudentJob(
            make=self.make, x=x, y=labels, protocol=self.protocol, lr=STUDENT["lr"], steps=STUDENT["updates"],
            seed=seed, augment=named_augmentation(STUDENT["augment"], self.train),
        )  # fmt: skip
        return float((predict(train(job), self.test) == self.test.labels).double().mean())

    def cell(self, name: str, seed: int) -> dict[str, Any]:
        begun = time.process_time()
        x, kept, error = self.stored(name, seed)
        size, coded = encoded_bytes(kept), encoded_bytes(compress_encoded(kept))
        making = time.process_time() - begun
        values = [self.student(x, derive_seed(seed, f"student {s}")) for s in range(self.args.students)]
        return {
            "bytes": size, "coded": coded, "error": error, "accuracy": values,
            "seconds": {"making": round(making, 1), "all": round(time.process_time() - begun, 1)},
        }  # fmt: skip


def rows(cells: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """By store: accuracy over sets, and its loss against float32, paired by set."""
    made: dict[str, Any] = {}
    for name in (*AFTER, *AWARE):
        found = {key.rpartition(" ")[2]: c for key, c in cells.items() if key.rpartition(" ")[0] == name}
        means = {s: statistics.mean(c["accuracy"]) for s, c in found.items() if f"float32 {s}" in cells}
        if not means:
            continue
        one = next(iter(found.values()))
        errors = [c["error"] for c in found.values() if c["error"] is not None]
        made[name] = {
            "aware": name in AWARE, "bytes": one["bytes"],
            "coded": round(statistics.mean(c["coded"] for c in found.values())),
            "error": statistics.mean(errors) if errors else None, "accuracy": summary(list(means.values())),
            "loss": summary([statistics.mean(cells[f"float32 {s}"]["accuracy"]) - m for s, m in means.items()]),
        }  # fmt: skip
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", type=int, default=3)
    parser.add_argument("--students", type=int, default=2, help="for each set")
    parser.add_argument("--steps", type=int, default=300, help="of DM")
    parser.add_argument("--refine", type=int, default=500, help="steps of refinement")
    parser.add_argument("--out", type=Path, default=Path("results/stores.json"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    bench = Bench(args)
    settings = {n: getattr(args, n) for n in ("students", "steps", "refine")}
    found = json.loads(args.out.read_text()) if args.out.exists() else {}
    if found and found["settings"] != settings:
        raise SystemExit(f"{args.out} was made with {found['settings']}, not {settings}; move it away")
    cells: dict[str, Any] = found.get("cells", {})
    for seed in range(args.sets):
        for name in (*AFTER, *AWARE):
            key = f"{name} {seed}"
            if key in cells:
                continue
            cells[key] = bench.cell(name, seed)
            print(key, cells[key], flush=True)
            said = {
                "data": "mnist-5k",
                "method": {"name": "dm", "ipc": 10, **METHOD},
                "student": {"network": NETWORK, **STUDENT},
                "settings": settings,
                "machine": machine(),
                "cells": cells,
                "rows": rows(cells),
            }
            args.out.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(args.out, (json.dumps(said, indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
