"""Stored labels: what reading them costs, whether writing keeps up, their bytes, and accuracy against bytes.

    python benchmarks/labels.py                          # all parts, in about a quarter of an hour on one core
    python benchmarks/labels.py --only accuracy --sets 2 --epochs 40 --out build/labels.json    # a quick look
    python -m tools.docs.label_plot                      # docs/img/labels.svg again, from the results

**bytes**: forecasts for ImageNet-1K, 50 pictures per class, 300 epochs, of rows and of a ResNet-18 in few bits, beside
the published folder of FKD labels, N · E · (2 C + 27) bytes: sizes, whose accuracy nobody has measured here. Also the
bytes of the cells that are there, anew by their forecast.

**reading**: seconds of the core (``process_time``, so other programs do not count) for the labels of a batch, for its
views, and for the student's step (forward, loss, backward, AdamW), interleaved; medians, and the labels' share of all
three. The values lie in the system's memory, as they do after the first epoch.

**writing**: labels written per second of the core, the teacher's forward alone on the same views, and views and forward
without writing: what encoding and writing add.

**accuracy**: random real samples, ``--ipc`` per class, of the training data. One teacher, trained on the training data
by cross-entropy on crops, labels views with CutMix; students learn them by KL with T². Settings were looked for on the
training data of mnist-5k and are the same in all cells; the test data are read for the final students alone. A cell is
a way to store labels: classes kept, bits, and the pool of epochs. Every cell has ``--sets`` sets (and as many fresh
students, seeded alike in all cells), its interval is Student's t over sets, and so is that of its difference to all
labels in 16 bits, set by set. ``hard`` are true classes mixed by area, which need no store; ``static`` is one row of
the teacher for each picture as it is, mixed by area.
"""

import argparse
import json
import math
import statistics
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from machine import machine
from torch import Tensor, nn

import potstill
from potstill.augment.view_schedule import ViewSchedule
from potstill.core import InputSpec
from potstill.data import TensorSource
from potstill.data.real_data import RealData
from potstill.evaluation.statistics import summary
from potstill.execution.memory import keep_freed_memory
from potstill.labels.label_file import label_file_bytes
from potstill.labels.losses import kl
from potstill.labels.teacher_file import teacher_file_bytes
from potstill.labels.write import LabelTeacher, RowSettings, WriteSettings, mean_logits, write_labels
from potstill.nn import factory
from potstill.rng import derive_seed, generator

PARTS = ("bytes", "reading", "writing", "accuracy")
IMAGENET = ((None, "float16", 300), (100, "float16", 300), (100, "uint8", 30), (50, "float16", 30),
            (10, "float16", 300), (10, "uint8", 300), (10, "uint4", 300), (10, "float16", 30),
            (5, "uint8", 30))  # fmt: skip
"""Classes kept, bits, epochs stored."""
READING = (("convnet-d3-w32", 10, 10, 50), ("convnet-d3-w32", 100, 10, 50), ("convnet-d3-w32", 1000, 100, 50),
           ("convnet-d3-w128", 1000, 10, 50), ("convnet-d3-w128", 1000, 1000, 50))  # fmt: skip
"""Network, classes, classes kept, batch; pictures are 3×32×32."""
CODINGS = ((None, "float16"), (None, "uint8"), (5, "float16"), (3, "float16"), (2, "float16"), (1, "float16"))
POOLED = {(None, "float16"), (2, "float16")}
"""The ways to store of which smaller pools are measured too."""
POOLS = (1.0, 0.2, 0.05, 0.01)
"""Parts of the epochs that are trained."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=list(PARTS), choices=PARTS)
    parser.add_argument("--data", default="fashion-mnist")
    parser.add_argument("--ipc", type=int, default=10)
    parser.add_argument("--sets", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=80)
    parser.add_argument("--batch", type=int, default=50)
    parser.add_argument("--network", default="convnet-d3-w32")
    parser.add_argument("--temperature", type=float, default=4.0)
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--teacher-epochs", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--out", type=Path, default=Path("results/labels.json"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    report: dict[str, Any] = json.loads(args.out.read_text()) if args.out.exists() else {}

    def keep(**found: Any) -> None:
        report.update(found)
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(report, indent=1) + "\n")

    with tempfile.TemporaryDirectory() as folder:
        if "bytes" in args.only:
            keep(imagenet=imagenet())
            sized(report)
            keep()
        if "reading" in args.only:
            found = [reading(Path(folder), *asked, repeats=args.repeats) for asked in READING]
            keep(reading=found, reading_machine=machine())
        if "writing" in args.only:
            made = [writing(Path(folder), name) for name in ("convnet-d3-w32", "convnet-d3-w128")]
            keep(writing=made, writing_machine=machine())
        if "accuracy" in args.only:
            accuracy(args, Path(folder), keep)


def imagenet() -> dict[str, Any]:
    """Forecasts beside the published bytes."""
    full = 50_000 * 300 * (2 * 1000 + 27)
    rows: list[dict[str, Any]] = []
    for dtype in ("uint8", "uint4"):
        size = teacher_file_bytes(["resnet18-batch"], InputSpec(kind="image", shape=(3, 224, 224)), 1000, dtype)
        rows.append({"teacher": "resnet18-batch", "dtype": dtype, "bytes": size, "smaller": full / size})
        print(f"ImageNet-1K, ResNet-18 in {dtype}: {size / 2**30:.4f} GiB, {full / size:,.0f} times less", flush=True)
    for k, dtype, pool in IMAGENET:
        size = label_file_bytes(50_000, 1000, pool, k, dtype)
        rows.append({"top_k": k or 1000, "dtype": dtype, "pool": pool, "bytes": size, "smaller": full / size})
        print(f"ImageNet-1K, 50 per class, top {k or 1000:4} {dtype:7} pool {pool:3}: {size / 2**30:7.3f} GiB, "
              f"{full / size:6.1f} times less than {full / 2**30:.1f} GiB", flush=True)  # fmt: skip
    return {"published_bytes": full, "rows": rows}


def sized(report: dict[str, Any]) -> None:
    """Bytes of the cells of the accuracy part: they follow from their settings."""
    if "accuracy" not in report:
        return
    s = report["accuracy"]["settings"]
    classes = potstill.load_data(s["data"]).train.classes
    for cell in (c for c in report["accuracy"]["cells"] if c["labels"] == "hard"):
        cell["bytes"] = len(classes)
    for cell in (c for c in report["accuracy"]["cells"] if c["labels"] == "stored"):
        cell["bytes"] = cell["forecast"] = label_file_bytes(
            s["ipc"] * len(classes), classes, cell["pool"], cell["top_k"], cell["dtype"]
        )


def _random(n: int, classes: int, name: str) -> tuple[Tensor, LabelTeacher]:
    x = torch.randn(n, 3, 32, 32, generator=generator(0, "x"))
    network = factory(name, InputSpec(kind="image", shape=(3, 32, 32)), classes)(0)
    return x, LabelTeacher(name=name, network=network, classes=tuple(map(str, range(classes))))


def reading(folder: Path, name: str, classes: int, k: int, batch: int, repeats: int) -> dict[str, Any]:
    """The labels' share of a training step."""
    x, expert = _random(500, classes, name)
    store = write_labels(
        folder / f"read-{name}-{classes}-{k}", [expert], x, ViewSchedule(), classes=expert.classes, epochs=2,
        rows=RowSettings(top_k=k),
    )  # fmt: skip
    student = factory(name, InputSpec(kind="image", shape=(3, 32, 32)), classes)(1)
    optimiser = torch.optim.AdamW(student.parameters(), lr=1e-3, fused=True)
    taken: dict[str, list[float]] = {"labels": [], "views": [], "step": []}
    for turn in range(repeats + 1):
        index = torch.randint(500, (batch,), generator=generator(turn, "batch"))
        marks = [time.process_time()]
        rows = store.decode(store.stored_epoch(turn), index, 4.0)
        marks.append(time.process_time())
        views = store.view(x, store.stored_epoch(turn), index)
        marks.append(time.process_time())
        optimiser.zero_grad()
        kl(student(views), rows, temperature=4.0, t_squared=True).backward()
        optimiser.step()
        marks.append(time.process_time())
        if turn:  # the first warms up
            for what, (begun, ended) in zip(taken, pairwise(marks), strict=True):
                taken[what].append(ended - begun)
    ms = {what: 1e3 * statistics.median(times) for what, times in taken.items()}
    share = ms["labels"] / sum(ms.values())
    print(f"reading {name} {classes} classes, top {k}, batch {batch}: labels {ms['labels']:.2f} ms, views "
          f"{ms['views']:.2f}, step {ms['step']:.1f}; labels are {100 * share:.2f}%", flush=True)  # fmt: skip
    return {"network": name, "classes": classes, "top_k": k, "batch": batch, "ms": ms, "share": share, "n": repeats,
            "forecast": label_file_bytes(500, expert.classes, 2, k),
            "bytes": store.nbytes}  # fmt: skip


def writing(folder: Path, name: str, n: int = 1000, classes: int = 1000) -> dict[str, Any]:
    """Labels per second of the core, beside the teacher alone."""
    x, expert = _random(n, classes, name)
    views, parts = ViewSchedule(), torch.arange(n).split(250)
    rates: dict[str, list[float]] = {"teacher": [], "teacher and views": [], "written": []}

    def timed(what: str, run: Callable[[], object]) -> None:
        begun = time.process_time()
        run()
        rates[what].append(n / (time.process_time() - begun))

    ready = [views.view(x, 0, part) for part in parts]
    for turn in range(4):
        path = folder / f"write-{name}-{turn}"
        timed("teacher", lambda: [mean_logits([expert], v) for v in ready])
        timed("teacher and views", lambda: [mean_logits([expert], views.view(x, 0, part)) for part in parts])
        timed("written", lambda p=path: write_labels(  # type: ignore[misc]
            p, [expert], x, views, classes=expert.classes, epochs=1, rows=RowSettings(top_k=100),
            settings=WriteSettings(batch=250, inputs_hash="0" * 64),
        ))  # fmt: skip
    found = {what: statistics.median(r[1:]) for what, r in rates.items()}
    print(f"writing {name}: {found['written']:.0f} labels/s, teacher alone {found['teacher']:.0f}, with views "
          f"{found['teacher and views']:.0f}", flush=True)  # fmt: skip
    return {"network": name, "classes": classes, "top_k": 100, "per_second": found, "n": 3}


class Bench:
    """What all cells of the accuracy part share."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        data = potstill.load_data(args.data)
        assert isinstance(data.train, TensorSource)
        assert data.test is not None
        self.train, self.test, self.classes = data.train, data.test, data.train.classes
        self.flip = 0.0 if not self.train.input.horizontal_flip else 0.5
        self.make = factory(args.network, self.train.input, len(self.classes))
        self.expert = LabelTeacher(name=args.network, network=self.teacher(), classes=self.classes)

    def teacher(self) -> nn.Module:
        """Trained on views of the training data, by cross-entropy."""
        args, n = self.args, len(self.train)
        network = self.make(derive_seed(0, "teacher")).train()
        views = ViewSchedule(seed=derive_seed(0, "teacher views"), scale=(0.5, 1.0), flip=self.flip, mix="none")
        optimiser = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
        rng, steps = generator(0, "teacher order"), args.teacher_epochs * math.ceil(n / 128)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
        for epoch in range(args.teacher_epochs):
            for index in torch.randperm(n, generator=rng).split(128):
                x = views.view(lambda i: self.train.fetch(i).x, epoch, index, n)  # type: ignore[arg-type, return-value]
                optimiser.zero_grad()
                F.cross_entropy(network(x), self.train.labels[index]).backward()
                optimiser.step()
                schedule.step()
        self.teacher_accuracy = self.score(network)
        print(f"teacher: {100 * self.teacher_accuracy:.1f}%", flush=True)
        return network

    def score(self, network: nn.Module) -> float:
        """Accuracy on the test data."""
        network.eval()
        with torch.no_grad():
            right = [
                (network(self.test.fetch(i).x).argmax(1) == self.test.labels[i]).sum()
                for i in torch.arange(len(self.test)).split(500)
            ]
        return int(torch.stack(right).sum()) / len(self.test)

    def sample(self, seed: int) -> tuple[Tensor, Tensor, ViewSchedule]:
        """A set: inputs, classes, and the views of its students."""
        k = len(self.classes)
        counts = [self.args.ipc] * k
        index = torch.cat(RealData.of_source(self.train).draw_exactly(counts, generator(seed, "set")))
        batch = self.train.fetch(index)
        assert isinstance(batch.x, Tensor)
        return batch.x, self.train.labels[index], ViewSchedule(seed=seed, scale=(0.5, 1.0), flip=self.flip)

    def student(self, seed: int, n: int, batch_of: Callable[[int, Tensor], tuple[Tensor, Tensor]], t: float) -> float:
        """Accuracy of a fresh student: AdamW, cosine to 0, KL with T²."""
        args, rng = self.args, generator(seed, "order")
        network = self.make(derive_seed(seed, "student")).train()
        optimiser = torch.optim.AdamW(network.parameters(), lr=args.lr, weight_decay=0.01, fused=True)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, args.epochs * math.ceil(n / args.batch))
        for epoch in range(args.epochs):
            for index in torch.randperm(n, generator=rng).split(args.batch):
                x, rows = batch_of(epoch, index)
                optimiser.zero_grad()
                kl(network(x), rows, temperature=t, t_squared=True).backward()
                optimiser.step()
                schedule.step()
        return self.score(network)

    def stored(self, folder: Path, seed: int, k: int | None, dtype: str, pool: int) -> tuple[float, int, int]:
        """Accuracy, bytes and forecast of one set with its labels stored."""
        x, _, views = self.sample(seed)
        path = folder / f"{seed}-{k}-{dtype}-{pool}"
        store = write_labels(
            path, [self.expert], x, views, classes=self.classes, epochs=self.args.epochs, pool=pool,
            rows=RowSettings(top_k=k, dtype=dtype, temperature=self.args.temperature),
        )  # fmt: skip
        said = label_file_bytes(len(x), self.classes, pool, k, dtype)
        t = self.args.temperature
        found = self.student(seed, len(x), lambda e, i: store.batch_of(x, e, i, t), t)
        path.unlink()
        return found, store.nbytes, said

    def unstored(self, seed: int, soft: bool) -> float:
        """Accuracy with one row for each picture, the classes' or the teacher's, mixed by area."""
        x, y, views = self.sample(seed)
        n, t = len(x), self.args.temperature if soft else 1.0
        own = (mean_logits([self.expert], x) / t).softmax(1) if soft else F.one_hot(y, len(self.classes)).float()

        def batch_of(epoch: int, index: Tensor) -> tuple[Tensor, Tensor]:
            mixes = views.mixes(epoch, index, n, tuple(x.shape[1:]))
            assert mixes is not None
            share = mixes.share[:, None]
            return views.view(x, epoch, index), share * own[index] + (1 - share) * own[mixes.partner]

        return self.student(seed, n, batch_of, t)


def accuracy(args: argparse.Namespace, folder: Path, keep: Callable[..., None]) -> None:
    """Accuracy against label bytes, cell by cell."""
    bench = Bench(args)
    k, n, seeds = len(bench.classes), args.ipc * len(bench.classes), range(args.sets)
    names = ("data", "ipc", "sets", "epochs", "batch", "network", "temperature", "lr", "teacher_epochs")
    settings = {name: getattr(args, name) for name in names}
    cells: list[dict[str, Any]] = []
    base: list[float] = []

    def add(values: list[float], size: int, **said: Any) -> None:
        paired = summary([v - b for v, b in zip(values, base, strict=True)]) if base else None
        cells.append(said | {"bytes": size, "accuracy": summary(values, len(self.test)), "less_than_all": paired})
        a = cells[-1]["accuracy"]
        gap = "" if paired is None else f", {100 * paired['mean']:+.1f} {_interval(paired)} to all"
        print(f"{said}: {size:,} bytes, {100 * a['mean']:.1f} {_interval(a)}{gap}", flush=True)
        keep(machine=machine(), accuracy={
            "settings": settings, "teacher": bench.teacher_accuracy, "published_bytes": n * args.epochs * (2 * k + 27),
            "interval": "Student's t over sets, two-sided 95%", "cells": cells,
        })  # fmt: skip

    for top, dtype in CODINGS:
        parts = POOLS if (top, dtype) in POOLED else (1.0,)
        for pool in dict.fromkeys(max(1, round(part * args.epochs)) for part in parts):
            found = [bench.stored(folder, seed, top, dtype, pool) for seed in seeds]
            values, sizes, said = ([f[i] for f in found] for i in range(3))
            base = base or values
            add(values, int(max(sizes)), labels="stored", top_k=top or k, dtype=dtype, pool=pool,
                forecast=int(max(said)), as_forecast=sizes == said)  # fmt: skip
    add([bench.unstored(seed, True) for seed in seeds], 4 * k * n, labels="static")
    add([bench.unstored(seed, False) for seed in seeds], k, labels="hard")  # of a sorted set a count of 8 bits each


def _interval(found: dict[str, Any]) -> str:
    return "(one set)" if found["ci95"] is None else "[{:.1f}, {:.1f}]".format(*(100 * v for v in found["ci95"]))


if __name__ == "__main__":
    main()
