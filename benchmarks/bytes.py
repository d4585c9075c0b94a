"""Accuracy against true bytes: real samples at their best codec, distilled sets at theirs, the same students.

    python benchmarks/bytes.py --data fashion-mnist [--budgets 1 4 16 64 256] [--sides random distilled …]
    python benchmarks/bytes.py --data letters --letters LetterRecognition.rda     # of Debian's r-cran-mlbench
    python benchmarks/bytes.py --store-loss [--only pixels small …]               # store_loss.py: what `auto` loses

**Bytes** are those of the tensors as they would lie in a file: codes, ranges and levels, labels, decoders, positions
(`potstill.codecs`). A budget of 4 kB is 4,096 bytes. Every class has equally many items, as many as fit; none has more
than its class has.

**Both sides are treated alike.** A side is ``random``, ``herding``, ``k-means`` (the real samples nearest to the
centres), ``centroids`` (the centres themselves, in the space of pixels or columns: no real samples, and the strongest
simple rival), or ``distilled``. Each has candidates: for real samples every codec (`CODECS`: lossless, or so many bits
with fitted ranges, at full and at half size); for distilled sets a method, what is stored of it, and the bits. Which
candidate is measured is chosen on ``--validation`` of the training data, of which no set is made: one set each with one
student, then the ``--again`` best with two more (of two more sets of real samples; of the same distilled set). Random
samples try every codec, the other real ones the ``--codecs`` that were best of those. Which
rival is `the best real` is chosen on validation too. Test data are read once, by the students of the chosen candidates:
of ``--draws`` sets of real samples and of ``--sets`` distilled ones, ``--students`` each.

**Students** have one recipe per data set (`DATA`), and per budget one number of updates. Labels are the classes. Each
distilled set has ``--seconds`` of one core for its steps; how many that is, is measured once for each candidate.

Data are 20,000 of Fashion-MNIST's training pictures, the first 2,000 of each class, and all its test pictures;
photo-patches as `photo_patches.py` makes them (``pip install scikit-image``), but 1,000 of each photograph to train
with and 300 to test; letters, 20,000 rows of 16 whole numbers, the last 4,000 of them to test (``pip install rdata``);
and the bundled mnist-5k, which is the demonstration's.

Intervals are Student's t over means of sets, those of differences Welch's. Trials and sets are kept under ``--cache``,
results in ``results/bytes-DATA.json``, written after every cell; a cell that is there is not made again, and only gets
more sets where ``--draws`` or ``--sets`` ask for more than it has.
"""

import argparse
import json
import math
import statistics
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import store_loss
import torch
from machine import machine
from photo_patches import photo_patches
from safetensors.torch import load_file, save_file
from torch import Tensor

import potstill
from potstill.augment.names import named_augmentation
from potstill.codecs import decode, encode_classes, encode_ints, encoded_bytes, parse_codec
from potstill.core import DecodeContext, Parametrization, Source, Splits, Synthetic, registry
from potstill.core.registry import resolve
from potstill.data import TensorSource, holdout
from potstill.dataset_file import write_atomic
from potstill.evaluation import Protocol
from potstill.evaluation.statistics import summary
from potstill.evaluation.student import StudentJob, predict, train
from potstill.nn import factory
from potstill.parametrize.quantization_aware import QuantizationAware
from potstill.rng import derive_seed, generator
from potstill.runs.resolve import resolve_run
from potstill.runs.spec import RunSpec

REAL = ("random", "herding", "k-means", "centroids")
MAKERS: dict[str, dict[str, Any]] = {
    "random": {"method": "random"}, "herding": {"method": "herding"}, "k-means": {"method": "k-means"},
    "centroids": {"method": "k-means", "keep": "centroid", "iterations": 20},
}  # fmt: skip
CODECS = ("exact", "uint4", "uint2", "uint1", "half:bits=4", "half:bits=2", "half:bits=1")
"""How real pictures are stored: lossless, or so many bits, full or half size."""
TINY_CODECS = ("half:bits=4,factor=4", "half:bits=2,factor=4")
TINY = {"fashion-mnist": 4, "mnist-5k": 4, "photo-patches": 16}
"""Up to so many kB a quarter of the height and width is tried too."""
TABLE_CODECS = ("exact", "uint8", "uint4", "uint3", "uint2", "uint1")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How students learn on one data set."""

    network: str
    augment: str
    lr: float
    batch: int
    updates: dict[float, int]
    """By the budget in kB; ``inf``: the full data."""


INF = math.inf
PICTURES: dict[float, int] = {1: 150, 2: 150, 4: 200, 16: 250, 64: 400, 256: 500, INF: 2000}
DATA: dict[str, Recipe] = {
    "fashion-mnist": Recipe(network="convnet-w32", augment="dsa", lr=0.03, batch=32, updates=PICTURES),
    "photo-patches": Recipe(network="convnet-w32", augment="dsa", lr=0.03, batch=32, updates=PICTURES),
    "mnist-5k": Recipe(network="convnet-w32", augment="dsa", lr=0.03, batch=32, updates=PICTURES),
    "letters": Recipe(
        network="mlp", augment="none", lr=0.05, batch=64,
        updates={0.25: 1000, 0.5: 1000, 1: 1000, 2: 1200, 4: 1500, 16: 2000, 64: 3000, INF: 8000},
    ),
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A way to fill the bytes: who makes the set, as what it is optimised, and how it is stored."""

    maker: str
    codec: str
    over: str = "pixels"
    options: Mapping[str, Any] = field(default_factory=dict)
    """Of the method."""

    @property
    def real(self) -> bool:
        return self.maker in REAL

    @property
    def made(self) -> str:
        """What the float values are, by name: candidates that differ in their bits alone share them."""
        more = "".join(f" {n}={v}" for n, v in sorted(self.options.items()))
        more += f" {self.codec}" if self.aware else ""
        return self.maker if self.real else f"{self.maker} {self.over}{more}"

    @property
    def aware(self) -> bool:
        """Made for its bits: rounded while it is distilled."""
        return "aware" in self.codec

    @property
    def spelled(self) -> str:
        return self.made if self.aware else f"{self.made} {self.codec}"


def distilled(data: str, kb: float) -> list[Candidate]:
    """Methods, what is stored of them, and the bits that are tried."""
    common: dict[str, Any] = {
        "network": DATA[data].network,
        "batch_real": 64,
        "steps_per_network": 4,
        "init_from": "k-means",
    }
    if data == "letters":
        return [Candidate(maker="dm", options=common, codec=b) for b in ("uint8", "uint4", "uint3")]
    m3d = {**common, "optimizer": "adamw", "lr": 0.02}
    tried = [("small", "uint4"), ("small", "uint2"), ("pixels", "uint4")]
    if data == "photo-patches" and kb <= TINY[data]:
        tried = [("small", "uint4"), ("small:factor=4", "uint4"), ("small", "uint1:aware=true")]
    elif kb <= TINY[data]:
        aware = [("small", f"uint{bits}:aware=true") for bits in (1, 2)]
        tried = [("small", "uint4"), ("small", "uint2"), *aware] + [("small", "uint3")] * (kb == 1)
    return [Candidate(maker="m3d", over=over, options=m3d, codec=b) for over, b in tried]


def candidates(data: str, side: str, kb: float) -> list[Candidate]:
    """All that a side may choose from."""
    if side not in REAL:
        return distilled(data, kb)
    codecs = TABLE_CODECS if data == "letters" else CODECS + TINY_CODECS * (kb <= TINY[data])
    return [Candidate(maker=side, codec=c) for c in codecs if side != "centroids" or c != "exact"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    if "--store-loss" in sys.argv:
        sys.argv.remove("--store-loss")
        store_loss.main()
        return
    parser.add_argument("--data", choices=list(DATA), default="fashion-mnist")
    parser.add_argument("--letters", type=Path, help="LetterRecognition.rda")
    parser.add_argument("--budgets", nargs="+", type=float, help="kB; by default all of the data set's recipe")
    parser.add_argument("--sides", nargs="+", default=[*REAL, "distilled"])
    parser.add_argument("--no-full", dest="full", action="store_false", help="leave the full data out")
    parser.add_argument("--seconds", type=float, default=30.0, help="of one core, for each distilled set")
    parser.add_argument("--validation", type=float, default=0.1)
    parser.add_argument("--again", type=int, default=2, help="candidates that are tried on two sets more")
    parser.add_argument("--codecs", type=int, default=3, help="that other real samples try: random's best")
    parser.add_argument("--draws", type=int, default=3, help="of real samples")
    parser.add_argument("--sets", type=int, default=3, help="distilled")
    parser.add_argument("--students", type=int, default=2, help="for each set")
    parser.add_argument("--tried", action="store_true", help="try candidates on validation data, and stop there")
    parser.add_argument("--cache", type=Path, default=Path("demo/bytes"))
    parser.add_argument("--out", type=Path, default=Path("results"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    bench = Bench(args)
    budgets = args.budgets or [b for b in bench.recipe.updates if b != INF]
    if args.full:
        bench.full()
    for kb in budgets:
        for side in args.sides:
            bench.cell(kb, side)
    if bench.path.exists():
        table(bench.path)


class Bench:
    """One data set, its students, and what was found so far."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args, self.recipe = args, DATA[args.data]
        splits = data_of(args.data, args.letters)
        assert splits.test is not None
        assert isinstance(splits.train, TensorSource)
        self.test: Source = splits.test
        self.train, self.held = holdout(splits.train, args.validation, 0)
        self.shape, self.k = self.train.input.shape, len(self.train.classes)
        self.most = int(torch.bincount(self.train.labels).min())
        self.make = factory(self.recipe.network, self.train.input, self.k)
        protocol: Protocol = resolve("protocols", "potstill").override(batch=self.recipe.batch, least_epochs=0)
        self.protocol = protocol
        self.cache = args.cache / args.data
        self.cache.mkdir(parents=True, exist_ok=True)
        self.sizes: dict[tuple[str, str, int], int] = {}
        self.path = args.out / f"bytes-{args.data}.json"

    # --- sets ---------------------------------------------------------------------------------------------------

    def count(self, c: Candidate, kb: float) -> int:
        """Items of each class whose bytes fit, 0 if not one does."""
        low, high = 0, self.most
        while low < high:
            n = (low + high + 1) // 2
            low, high = (n, high) if self.bytes_of(c, n) <= kb * 1024 else (low, n - 1)
        return low

    def bytes_of(self, c: Candidate, n: int) -> int:
        """What ``n`` items of each class take: exactly, but for lossless real ones, which some real ones stand for."""
        key = (c.codec, c.over, n)
        if key not in self.sizes:
            labels = encoded_bytes(encode_classes(torch.arange(self.k).repeat_interleave(n), self.k))
            shape = self.small(c)
            x = self.train.raw(torch.arange(n * self.k) % len(self.train)) if c.codec == "exact" else None
            if not isinstance(x, Tensor):
                x = torch.zeros(n * self.k, *shape)
            self.sizes[key] = encoded_bytes(parse_codec(c.codec).pack(x)) + labels
        return self.sizes[key]

    def small(self, c: Candidate) -> tuple[int, ...]:
        """The shape of what is stored of one input."""
        if not c.over.startswith("small"):
            return self.shape
        factor: int = registry.part("parametrizations", c.over).factor
        return (self.shape[0], *(-(-side // factor) for side in self.shape[1:]))

    def payload(self, c: Candidate, n: int, seed: int) -> dict[str, Tensor]:
        """The float values of a set of ``n`` items a class, and its labels."""
        kept = self.cache / f"{slug(c.made)}-n{n}-s{seed}.safetensors"
        if kept.exists():
            return load_file(kept)
        begun, steps = time.process_time(), self.steps(c, n)
        if c.real:
            made = potstill.distill(
                Splits(train=self.train, test=None), ipc=n, seed=seed, device="cpu", progress=None, **MAKERS[c.maker]
            )
            found = {"inputs": made.inputs, "labels": made.labels}
        else:
            result = self.distil(c, n, seed, steps)
            found = {**result.payload, "labels": result.labels, "model": torch.tensor(int(result.space == "model"))}
        found = {name: t.detach().contiguous() for name, t in found.items()}
        save_file(found, kept)
        spent = {"core_seconds": round(time.process_time() - begun, 1), "steps": steps}
        self.note("seconds", kept.stem, spent)
        return found

    def distil(self, c: Candidate, n: int, seed: int, steps: int, marks: list[float] | None = None) -> Synthetic:
        """A set, by the verbs of its method; the seconds of this process after each step go into ``marks``."""
        one, all_of_it = math.prod(self.small(c)), math.prod(self.shape)
        options = {"device": "cpu", "preset": "published", "parametrization": c.over, **c.options}
        options["ipc"] = max(1, n * one // all_of_it)
        settled = resolve_run(RunSpec.from_options(Splits(train=self.train, test=None), c.maker, options))
        decoder, method = settled.problem.parametrization, settled.method
        if c.aware:
            decoder = QuantizationAware(inner=decoder, codec=parse_codec(c.codec))
        problem = replace(settled.problem, parametrization=decoder, numbers=(n * one,) * self.k)
        rng = generator(seed, "distill", c.maker)
        state = method.init(problem, rng)
        for _ in range(steps):
            state, _ = method.step(problem, state, rng)
            if marks is not None:
                marks.append(time.process_time())
        made: Synthetic = method.result(problem, state)
        assert len(made.labels) == n * self.k
        return made

    def steps(self, c: Candidate, n: int) -> int:
        """What the seconds buy, measured in a few steps, and the same for all seeds; 0 for real samples."""
        key = f"{c.made}-n{n}"
        known = self.notes("steps")
        if key not in known and not c.real:
            marks: list[float] = []
            self.distil(c, n, 1000, 9, marks)
            known[key] = max(1, int(self.args.seconds / ((marks[-1] - marks[0]) / (len(marks) - 1))))
            self.note("steps", key, known[key])
        return int(known.get(key, 0))

    def stored(self, c: Candidate, kb: float, seed: int) -> tuple[Tensor, Tensor, dict[str, int]]:
        """A set as a reader has it: inputs in model space, labels, and what its parts take."""
        n = self.count(c, kb)
        while True:
            found = self.payload(c, n, seed)
            labels = found.pop("labels")
            x, parts = self.written(c, found)
            parts["labels"] = encoded_bytes(encode_classes(labels, self.k))
            if sum(parts.values()) <= kb * 1024:
                return x, labels, {**parts, "total": sum(parts.values()), "items": len(x)}
            n -= 1

    def written(self, c: Candidate, found: dict[str, Tensor]) -> tuple[Tensor, dict[str, int]]:
        """What a file of the values reads back as, in model space, and what its parts take."""
        model = bool(found.pop("model", torch.tensor(0)))
        sizes = {"codes": 0, "ranges": 0}
        out = {}
        for name, t in found.items():
            packed = parse_codec(c.codec).pack(t) if t.is_floating_point() else encode_ints(t)
            for suffix, part in packed.tensors.items():
                sizes["ranges" if suffix else "codes"] += part.numel() * part.element_size()
            out[name] = decode(packed)
        decoder: Parametrization = registry.part("parametrizations", c.over)
        x = decoder.decode(out, DecodeContext(input=self.train.input))
        return (x if model else self.train.normalization.apply(x)), sizes

    # --- students -----------------------------------------------------------------------------------------------

    def student(self, x: Tensor, y: Tensor, updates: int, seed: int, unseen: Source) -> float:
        """Accuracy of one student."""
        job = StudentJob(
            make=self.make, x=x, y=y, protocol=self.protocol, lr=self.recipe.lr, steps=updates, seed=seed,
            augment=named_augmentation(self.recipe.augment, self.train),
        )  # fmt: skip
        said = predict(train(job), unseen)
        return float((said == unseen.labels).double().mean())

    def tried(self, c: Candidate, kb: float, seed: int, student: int = 0) -> float:
        """What the validation part says of a set, by one student."""
        key = f"{kb:g} {c.spelled} {seed} {student}"
        known = self.notes("tried")
        if key not in known:
            x, y, _ = self.stored(c, kb, seed)
            known[key] = self.student(x, y, self.recipe.updates[kb], derive_seed(seed, f"tried {student}"), self.held)
            self.note("tried", key, known[key])
            print(f"  {self.args.data} {kb:g} kB {c.spelled}: {len(x)} inputs, {100 * known[key]:.1f} %", flush=True)
        return float(known[key])

    def chosen(self, kb: float, side: str) -> tuple[Candidate, list[dict[str, Any]]]:
        """The best on validation data, and what was tried."""
        fitting = [c for c in candidates(self.args.data, side, kb) if self.count(c, kb)]
        if side in REAL[1:]:
            _, random = self.chosen(kb, "random")
            ranked = sorted(random, key=lambda t: -t["validation"][0])
            names = [t["candidate"].removeprefix("random ") for t in ranked]
            fitting = sorted(fitting, key=lambda c: names.index(c.codec))[: self.args.codecs]
        values = {c.spelled: [self.tried(c, kb, 0)] for c in fitting}
        best = sorted(fitting, key=lambda c: -values[c.spelled][0])[: self.args.again]
        for c in best:
            more = ((1, 0), (2, 0)) if c.real else ((0, 1), (0, 2))
            values[c.spelled] += [self.tried(c, kb, seed, student) for seed, student in more]
        winner = max(best, key=lambda c: statistics.mean(values[c.spelled]))
        return winner, [{"candidate": n, "validation": v} for n, v in values.items()]

    # --- cells --------------------------------------------------------------------------------------------------

    def cell(self, kb: float, side: str) -> None:
        """One side at one budget."""
        key = f"{kb:g} {side}"
        old = self.result()["cells"].get(key)
        if old is None and not any(self.count(c, kb) for c in candidates(self.args.data, side, kb)):
            return
        wanted = self.args.draws if side in REAL else self.args.sets
        if old is not None and len(old["values_of_sets"]) >= wanted:
            return
        if old is None:
            c, tried = self.chosen(kb, side)
        else:  # more sets of the same candidate
            c, tried = Candidate(**{n: old[n] for n in ("maker", "codec", "over", "options")}), old["tried"]
        if self.args.tried:
            return
        updates = self.recipe.updates[kb]
        values: list[list[float]] = list(old["values_of_sets"]) if old else []
        parts: list[dict[str, int]] = []
        seconds: list[Any] = list(old["made"]) if old else []
        for seed in range(len(values), wanted):
            x, y, size = self.stored(c, kb, seed)
            seeds = (derive_seed(seed, f"student {s}") for s in range(self.args.students))
            values.append([self.student(x, y, updates, s, self.test) for s in seeds])
            parts.append(size)
            seconds.append(self.notes("seconds").get(f"{slug(c.made)}-n{self.count(c, kb)}-s{seed}", {}))
        sizes = [*(old["bytes_of_sets"] if old else []), *(p["total"] for p in parts)]
        row = {
            "budget": int(kb * 1024), "side": side, "candidate": c.spelled, "maker": c.maker, "codec": c.codec,
            "over": c.over, "options": dict(c.options), "bytes": parts[0], "bytes_of_sets": sizes,
            "validation": max(statistics.mean(t["validation"]) for t in tried if t["candidate"] == c.spelled),
            "accuracy": summary([statistics.mean(v) for v in values]), "values_of_sets": values, "updates": updates,
            "tried": tried, "made": seconds,
        }  # fmt: skip
        found = self.result()
        found["cells"][key] = row
        self.write(found)
        a = row["accuracy"]
        print(f"{self.args.data} {key}: {100 * a['mean']:.1f} {c.spelled}, {parts[0]}", flush=True)

    def full(self) -> None:
        """All training data, as they are."""
        if "full" in self.result():
            return
        rows = torch.arange(len(self.train))
        batch = self.train.fetch(rows)
        raw = self.train.raw(rows)
        assert isinstance(batch.x, Tensor)
        assert isinstance(raw, Tensor)
        updates = self.recipe.updates[INF]
        values = [
            self.student(batch.x, self.train.labels, updates, derive_seed(s, "full"), self.test)
            for s in range(self.args.students)
        ]
        size = encoded_bytes(parse_codec("exact").pack(raw)) + encoded_bytes(encode_ints(self.train.labels))
        self.write(self.result() | {"full": {"accuracy": summary(values), "bytes": size, "items": len(rows)}})
        print(f"{self.args.data} full: {100 * statistics.mean(values):.1f} in {size:,} bytes", flush=True)

    # --- files --------------------------------------------------------------------------------------------------

    def notes(self, what: str) -> dict[str, Any]:
        path = self.cache / f"{what}.json"
        found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
        return found

    def note(self, what: str, key: str, value: Any) -> None:
        path = self.cache / f"{what}.json"
        write_atomic(path, (json.dumps(self.notes(what) | {key: value}, indent=1) + "\n").encode())

    def result(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.path.read_text()) if self.path.exists() else {}
        settings = {
            n: getattr(self.args, n) for n in ("seconds", "validation", "again", "codecs", "draws", "sets", "students")
        }
        recipe = {n: getattr(self.recipe, n) for n in ("network", "augment", "lr", "batch")}
        return {
            "data": self.args.data, "machine": machine(), "settings": settings, "recipe": recipe,
            "train": len(self.train), "validation": len(self.held), "test": len(self.test), "cells": {},
        } | found  # fmt: skip

    def write(self, found: dict[str, Any]) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(self.path, (json.dumps(found, indent=1) + "\n").encode())


def slug(name: str) -> str:
    return "".join(c if c.isalnum() or c in "-=." else "_" for c in name)


def data_of(name: str, letters_at: Path | None) -> Splits:
    """Training and test data of that name.

    Raises:
        SystemExit: letters without their file.
    """
    if name == "fashion-mnist":
        whole = potstill.load_data(name)
        source = whole.train
        assert isinstance(source, TensorSource)
        rows = torch.cat([(source.labels == c).nonzero().flatten()[:2000] for c in range(len(source.classes))])
        return Splits(train=source.subset(rows), test=whole.test)
    if name == "mnist-5k":
        return potstill.load_data(name)
    if name == "photo-patches":
        return photo_patches(1000, 300)
    if letters_at is None:
        raise SystemExit("letters need --letters LetterRecognition.rda, which Debian's package r-cran-mlbench holds")
    import rdata

    frame = rdata.read_rda(letters_at)["LetterRecognition"]
    x, y = frame.iloc[:, 1:].to_numpy(np.float32), frame.iloc[:, 0].to_numpy(str)
    classes = sorted(set(y.tolist()))
    fitted = TensorSource.make(x[:16000], y[:16000], classes, name=name)
    unseen = TensorSource.make(x[16000:], y[16000:], classes, name=name, normalization=fitted.normalization)
    return Splits(train=fitted, test=unseen)


def table(path: Path) -> None:
    """What there is, as text."""
    found = json.loads(path.read_text())
    for key, row in found["cells"].items():
        a, b = row["accuracy"], row["bytes"]
        ci = "" if a["ci95"] is None else f"[{100 * a['ci95'][0]:.1f}, {100 * a['ci95'][1]:.1f}]"
        print(f"{key:<18} {100 * a['mean']:>5.1f} {ci:<14} {b['total']:>8,} bytes, {b['items']:>6} {row['candidate']}")


if __name__ == "__main__":
    main()
