"""Data larger than memory: peak memory, reads of each picture, throughput against a bare decode loop, a cost model.

    python benchmarks/streaming.py                                  # 1,000 classes of 300 pictures: hours
    python benchmarks/streaming.py --per-class 30                   # in some minutes
    python benchmarks/streaming.py --per-class 4 --classes 50 --out build/streaming.json      # a quick look

Makes a folder of JPEG files and the same pictures as WebDataset shards, their samples in random order. Everything is
then run over each of both, in a process of its own, so that peaks (VmHWM) do not mix:

**pass**: the samples in the order of the disk as normalised float batches, against a bare loop that reads the same
bytes and decodes them with Pillow into arrays (of shards with Python's ``tarfile``). The two take turns, ``--turn``
pictures at a time, in seconds of the core (``process_time``: other programs do not count); medians over the turns.

**rded** and **sre2l**: ``potstill.distill`` with a small teacher that is trained for one epoch over the stream first.
Reads of each picture are counted in every phase: the hash of the data (no decoding), the epoch of the teacher, the
method's start, its steps.

**photographs**: one core decodes larger pictures, 500 × 375 to 224 × 224; and which part of that is spent in calls that
let other threads run, which bounds what threads can gain.

**imagenet**: what ImageNet-1K would take on one GPU and on eight. An extrapolation: decoding by the rate measured here,
networks by their operations and by ``--gpu-flops``, which is assumed and not measured; on eight, classes and batches
are split and nothing is lost.
"""

import argparse
import io
import json
import os
import statistics
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from machine import machine
from PIL import Image, ImageOps

import potstill
from potstill.core import Splits
from potstill.data import StreamSource, load
from potstill.data.iterate import iterate_samples
from potstill.data.pictures import decode_image
from potstill.data.readers import Reader
from potstill.execution.memory import keep_freed_memory, peak_memory
from potstill.methods.decoupled.rded import RDED
from potstill.methods.decoupled.sre2l import SRe2L
from potstill.rng import generator
from potstill.runs.loop import Progress

LAYOUTS = ("folder", "shards")
JOBS = ("pass", "rded", "sre2l")
SHARD = 1000
"""Samples of a shard."""
IMAGENET = 1_281_167
"""Training pictures of ImageNet-1K."""
RESNET18 = 2 * 1.8e9
"""Operations of a forward pass at 224 × 224, two per product (arXiv:1512.03385, table 1); backward: twice that."""
NETWORK = "convnet-d3-w8-batch"
TRAINING: dict[str, Any] = {"teacher_epochs": 1, "teacher_batch": 128, "teacher_lr": 0.05, "teacher_augment": "none"}
SRE2L_ITERATIONS = 2


def pictures(classes: int, per_class: int, side: int) -> Iterator[tuple[int, int, bytes]]:
    """Label, number and JPEG bytes: smooth textures with a class's tint and some noise."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (64, side // 8 + 2, side // 8 + 2, 3), dtype=np.uint8)
    textures = [np.asarray(Image.fromarray(c).resize((2 * side, 2 * side), Image.Resampling.BICUBIC)) for c in coarse]
    for label in range(classes):
        tint = rng.integers(0, 90, 3)
        for number in range(per_class):
            y, x = rng.integers(0, side, 2)
            part = textures[int(rng.integers(len(textures)))][y : y + side, x : x + side].astype(np.int16)
            noise = rng.integers(-6, 7, part.shape, dtype=np.int16)
            file = io.BytesIO()
            Image.fromarray((part * 2 // 3 + tint + noise).clip(0, 255).astype(np.uint8)).save(file, "JPEG", quality=85)
            yield label, number, file.getvalue()


def make(root: Path, classes: int, per_class: int, side: int) -> int:
    """The folder and the shards; the bytes of the pictures."""
    total = 0
    for label, number, content in pictures(classes, per_class, side):
        folder = root / "folder" / f"c{label:04}"
        if number == 0:
            folder.mkdir(parents=True)
        (folder / f"{number:05}.jpg").write_bytes(content)
        total += len(content)
    order = torch.randperm(classes * per_class, generator=generator(0, "shards")).tolist()
    (root / "shards").mkdir()
    for first in range(0, len(order), SHARD):
        with tarfile.open(root / "shards" / f"s-{first // SHARD:04}.tar", "w") as tar:
            for i in order[first : first + SHARD]:
                label, number = divmod(i, per_class)
                content = (root / "folder" / f"c{label:04}" / f"{number:05}.jpg").read_bytes()
                for name, data in ((f"{i:07}.jpg", content), (f"{i:07}.cls", str(label).encode())):
                    about = tarfile.TarInfo(name)
                    about.size = len(data)
                    tar.addfile(about, io.BytesIO(data))
    return total


def source_of(root: Path, layout: str) -> str:
    if layout == "folder":
        return str(root / "folder")
    last = len(list((root / "shards").iterdir())) - 1
    return str(root / "shards" / f"s-{{0000..{last:04}}}.tar")


def bare(root: Path, layout: str) -> Iterator[np.ndarray]:
    """What a loop needs at least: the bytes of a file or member, decoded to an array."""
    if layout == "folder":
        for folder in sorted((root / "folder").iterdir()):
            for name in sorted(os.listdir(folder)):
                with open(folder / name, "rb") as file:
                    yield np.asarray(Image.open(io.BytesIO(file.read())).convert("RGB"))
        return
    for shard in sorted((root / "shards").iterdir()):
        with tarfile.open(shard) as tar:
            for member in tar:
                if member.name.endswith(".jpg"):
                    file = tar.extractfile(member)
                    assert file is not None
                    yield np.asarray(Image.open(io.BytesIO(file.read())).convert("RGB"))


class Counting:
    """A reader that counts how often each picture is read, phase by phase."""

    def __init__(self, reader: Reader) -> None:
        self.reader, self.together, self.window = reader, reader.together, reader.window
        self.opened, self.where = reader.opened, reader.where
        self.phases: dict[str, np.ndarray] = {}
        self.lock = threading.Lock()
        self.phase("load")

    def phase(self, name: str) -> None:
        self.now = self.phases.setdefault(name, np.zeros(len(self.reader), dtype=np.uint16))

    def __len__(self) -> int:
        return len(self.reader)

    def read(self, places: Any) -> list[bytes]:
        with self.lock:
            np.add.at(self.now, list(places), 1)
        return self.reader.read(places)

    def summary(self) -> dict[str, Any]:
        return {
            name: {"pictures": int((c > 0).sum()), "reads": int(c.sum()), "most": int(c.max(initial=0))}
            for name, c in self.phases.items()
        }


def loaded(root: Path, layout: str, side: int) -> tuple[Splits, Counting, dict[str, float]]:
    begun = time.process_time()
    splits = load(source_of(root, layout), stream=True, test_fraction=0, size=side)
    assert isinstance(splits.train, StreamSource)
    seconds = {"load": time.process_time() - begun}
    reader = Counting(splits.train.reader)
    train = replace(splits.train, reader=reader)
    reader.phase("hash")
    begun = time.process_time()
    assert train.content_hash
    seconds["hash"] = time.process_time() - begun
    return Splits(train=train, test=None, notes=splits.notes), reader, seconds


def run_pass(root: Path, layout: str, args: argparse.Namespace) -> dict[str, Any]:
    splits, reader, seconds = loaded(root, layout, args.side)
    reader.phase("pass")
    keep_freed_memory()  # as every distillation does
    theirs, ours = [], []
    loop = bare(root, layout)
    batches = iterate_samples(splits.train, torch.arange(len(splits.train)), args.batch)
    left = len(splits.train)
    while left > 0:
        turn = min(args.turn, left)
        begun = time.process_time()
        for _ in range(turn):
            next(loop)
        theirs.append((time.process_time() - begun) / turn)
        begun, done = time.process_time(), 0
        while done < turn and (item := next(batches, None)) is not None:
            done += len(item[0])
        ours.append((time.process_time() - begun) / done)
        left -= turn
    ratios = [a / b for a, b in zip(theirs, ours, strict=True)]
    return {
        "bare_seconds": statistics.median(theirs), "pass_seconds": statistics.median(ours),
        "throughput": statistics.median(ratios), "least": min(ratios), "most": max(ratios), "n": len(ratios),
        "seconds": seconds, "reads": reader.summary(),
    }  # fmt: skip


def run_method(root: Path, layout: str, job: str, args: argparse.Namespace) -> dict[str, Any]:
    splits, reader, seconds = loaded(root, layout, args.side)
    before = peak_memory()
    cls: Any = RDED if job == "rded" else SRe2L
    plain = cls.init

    def init(self: Any, *rest: Any) -> Any:
        seconds["teacher"] = time.process_time() - begun
        reader.phase("start")
        state = plain(self, *rest)
        seconds["start"] = time.process_time() - begun - seconds["teacher"]
        reader.phase("steps")
        return state

    cls.init = init
    options: dict[str, Any] = {"iterations": SRE2L_ITERATIONS} if job == "sre2l" else {"samples": args.per_class}
    method = cls(network=NETWORK, **TRAINING, **options)
    reader.phase("teacher")
    begun = time.process_time()

    def show(p: Progress) -> None:
        if not args.quiet and p.step % 100 == 0:
            print(f"  {layout} {job}: step {p.step} of {p.total}", file=sys.stderr, flush=True)

    made = potstill.distill(splits, method, ipc=args.ipc, device="cpu", progress=show)
    seconds["steps"] = time.process_time() - begun - seconds["teacher"] - seconds["start"]
    made.save(root / "set.safetensors")
    return {
        "items": len(made), "outcome": made.metadata["outcome"]["kind"], "seconds": seconds, "reads": reader.summary(),
        "before": before, "method": made.metadata["config"],
    }  # fmt: skip


def photographs(n: int = 60) -> dict[str, Any]:
    """Seconds of a core for a photograph of ImageNet's usual size, and the part in calls that let other threads run."""
    rng = np.random.default_rng(1)
    coarse = Image.fromarray(rng.integers(0, 256, (47, 63, 3), dtype=np.uint8))
    x = np.asarray(coarse.resize((500, 375), Image.Resampling.BICUBIC)).astype(np.int16)
    contents = []
    for _ in range(10):
        file = io.BytesIO()
        noisy = (x + rng.integers(-12, 13, x.shape)).clip(0, 255).astype(np.uint8)
        Image.fromarray(noisy).save(file, "JPEG", quality=90)
        contents.append(file.getvalue())
    whole, inside = [], []
    for i in range(n):
        content = contents[i % len(contents)]
        begun = time.process_time()
        decode_image(content, (224, 224))
        whole.append(time.process_time() - begun)
        with Image.open(io.BytesIO(content)) as image:
            begun = time.process_time()
            image.load()
            image.convert("RGB")
            ImageOps.fit(image, (224, 224), Image.Resampling.BICUBIC)
            inside.append(time.process_time() - begun)
    seconds = statistics.median(whole)
    return {
        "bytes": statistics.mean(map(len, contents)), "seconds": seconds, "n": n,
        "outside_python": min(1.0, statistics.median(inside) / seconds),
    }  # fmt: skip


def imagenet(seconds: float, gpu_flops: float, cores: int) -> dict[str, Any]:
    """Hours on one GPU and on eight, each with so many cores; decoding and networks overlap, so the slower counts."""
    jobs = {
        "teacher, one epoch": (IMAGENET, 3 * IMAGENET * RESNET18),
        "rded, 300 pictures of each class, 5 crops": (300_000, 5 * 300_000 * RESNET18),
        "sre2l, ipc 50, 4,000 iterations": (0, 3 * 50_000 * 4000 * RESNET18),
    }
    return {
        name: {
            str(gpus): {
                "decode_hours": decoded * seconds / cores / gpus / 3600,
                "network_hours": work / gpu_flops / gpus / 3600,
                "hours": max(decoded * seconds / cores, work / gpu_flops) / gpus / 3600,
            }
            for gpus in (1, 8)
        }
        for name, (decoded, work) in jobs.items()
    }


def child(args: argparse.Namespace) -> None:
    layout, job = args.child.split(":")
    run = run_pass(args.data, layout, args) if job == "pass" else run_method(args.data, layout, job, args)
    print(json.dumps({**run, "peak": peak_memory()}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--per-class", type=int, default=300)
    parser.add_argument("--side", type=int, default=64)
    parser.add_argument("--ipc", type=int, default=1)
    parser.add_argument("--batch", type=int, default=1024)
    parser.add_argument("--turn", type=int, default=2048)
    parser.add_argument("--gpu-flops", type=float, default=50e12, help="operations a second, assumed")
    parser.add_argument("--gpu-cores", type=int, default=16, help="cores that decode for each GPU, assumed")
    parser.add_argument("--data", type=Path, help="where the pictures are made, and kept")
    parser.add_argument("--only", nargs="+", default=[f"{a}:{b}" for a in LAYOUTS for b in JOBS])
    parser.add_argument("--quiet", action="store_true")
    parser.add_argument("--out", type=Path, default=Path("results/streaming.json"))
    parser.add_argument("--child", help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.child:
        child(args)
        return
    with tempfile.TemporaryDirectory() as temporary:
        root = args.data or Path(temporary)
        if not (root / "shards").exists():
            root.mkdir(parents=True, exist_ok=True)
            make(root, args.classes, args.per_class, args.side)
        measure(args, root)


def measure(args: argparse.Namespace, root: Path) -> None:
    n = args.classes * args.per_class
    size = sum(f.stat().st_size for f in (root / "folder").rglob("*.jpg"))
    report: dict[str, Any] = json.loads(args.out.read_text()) if args.out.exists() else {"runs": {}}
    report |= {
        "machine": machine(), "classes": args.classes, "side": args.side, "ipc": args.ipc, "network": NETWORK,
        "encoded_bytes": size, "decoded_bytes": n * 3 * args.side**2,
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as cache:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "POTSTILL_CACHE": cache}
        for name in args.only:
            words = [sys.executable, __file__, *sys.argv[1:], "--child", name, "--data", str(root)]
            done = subprocess.run(words, stdout=subprocess.PIPE, env=environment, check=True)
            run = {**json.loads(done.stdout), "pictures": n}
            report["runs"][f"{name}:{n}"] = run
            reads = ", ".join(f"{p} {c['pictures']:,} × {c['most']}" for p, c in run["reads"].items() if c["reads"])
            extra = ""
            if "throughput" in run:
                extra = (
                    f"; {1e6 * run['bare_seconds']:.0f} µs bare, {1e6 * run['pass_seconds']:.0f} µs in a pass, "
                    f"{100 * run['throughput']:.0f} % "
                    f"({100 * run['least']:.0f} to {100 * run['most']:.0f}, n {run['n']})"
                )
            seconds = ", ".join(f"{p} {s:.1f} s" for p, s in run["seconds"].items())
            print(f"{name}: peak {run['peak'] / 2**20:,.0f} MiB{extra}; {seconds}; read at most: {reads}", flush=True)
            write(args.out, report)
    report["photographs"] = photo = photographs()
    report["imagenet"] = {
        "gpu_flops_assumed": args.gpu_flops, "cores_assumed": args.gpu_cores,
        "hours": imagenet(photo["seconds"], args.gpu_flops, args.gpu_cores),
    }  # fmt: skip
    write(args.out, report)
    print(
        f"photographs of {photo['bytes'] / 1000:.0f} kB: {1000 * photo['seconds']:.1f} ms of a core, "
        f"{100 * photo['outside_python']:.0f} % of it in calls that let other threads run"
    )
    print(
        f"ImageNet-1K, an extrapolation ({args.gpu_flops / 1e12:.0f} TFLOP/s and {args.gpu_cores} cores a GPU assumed):"
    )
    for job, by in report["imagenet"]["hours"].items():
        print(f"  {job}: {by['1']['hours']:.2f} h on one GPU, {by['8']['hours']:.2f} h on eight")


def write(path: Path, report: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
