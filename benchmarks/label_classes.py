"""What labels of a thousand classes cost, and what they are worth: rows in few bytes, and teachers in 8 and 4 bits.

    python benchmarks/label_classes.py            # a quarter of an hour of a core; stopped, it goes on
    python benchmarks/label_classes.py --only teacher mass
    python benchmarks/label_classes.py --sets 1 --epochs 10 --out build/label_classes.json    # a quick look

The data are a thousand characters in twelve typefaces (benchmarks/glyphs.py), 50,000 pictures to train on and 5,000 to
test on. One teacher learns the training part. A set is one random training picture of each class; its views are crops
with CutMix, labelled by the teacher; students learn them by KL with T². All cells have the same settings, and test
pictures are read for the final students alone.

**rate**: accuracy of one student at each of three rates on 5,000 training pictures that it did not see: what chose
``--lr``.

**mass**: of the teacher's rows of 4,000 such views the probability that the k likeliest classes have at a temperature,
and how much of what sets the row apart from an even one is lost when the others share the rest: Σ|p − p̂| / Σ|p − 1/K|;
and the same of a teacher in 8 and 4 bits.

**cells**: a cell is a way to store labels, measured on ``--sets`` sets with a student each, seeded alike in all cells;
its difference is to the teacher's own answers in 32 bits, set by set, with a 95 % interval of Student's t over sets.
Rows are written to a file and read from it; teachers too. Bytes are those of the tensors in the file, and are compared
with the forecast. ``--more`` sets are measured of the teachers in 8 and 4 bits, whose loss is to be told from none.
"""

import argparse
import json
import math
import tempfile
import time
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any, TypeAlias

import torch
import torch.nn.functional as F
from glyphs import glyphs
from machine import machine
from torch import Tensor, nn

from potstill.augment.view_schedule import ViewSchedule
from potstill.data import TensorSource
from potstill.data.real_data import RealData
from potstill.evaluation.statistics import summary
from potstill.execution.memory import keep_freed_memory
from potstill.labels.codec import LabelCodec
from potstill.labels.label_file import label_file_bytes
from potstill.labels.losses import kl
from potstill.labels.quantized_network import quantize_networks, restore_networks
from potstill.labels.teacher_file import Labels, open_labels, teacher_file_bytes, write_teacher
from potstill.labels.write import LabelTeacher, RowSettings, mean_logits, write_labels
from potstill.nn import factory
from potstill.rng import derive_seed, generator

MASS = [(t, k) for t in (1.0, 4.0, 20.0) for k in (1, 5, 10, 50, 100)]
RATES = (3e-3, 1e-2, 3e-2)
SECOND = [(4.0, None, "float16", 1.0), (4.0, 10, "uint4", 1.0), (4.0, 10, "uint8", 0.2), (20.0, 100, "uint8", 1.0),
          (1.0, 10, "uint8", 1.0)]  # fmt: skip
THIRD = [(4.0, 1, "uint8", 1.0), (4.0, 100, "uint4", 1.0), (4.0, 10, "float16", 1.0), (4.0, 100, "uint8", 0.2),
         (4.0, None, "uint4", 1.0), (4.0, 10, "uint8", 0.05), (1.0, 100, "uint8", 1.0)]  # fmt: skip
"""Temperature, classes kept, bits, part of the trained epochs that is stored."""


class Bench:
    """What all cells share."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.train, self.test = glyphs()
        self.classes = self.train.classes
        self.make = factory(args.network, self.train.input, len(self.classes))
        self.all = _fetched(self.train)
        self.expert = LabelTeacher(name=self.make.name, network=self.teacher(), classes=self.classes)
        self.teacher_accuracy = self.score(self.expert.network)
        print(f"teacher: {100 * self.teacher_accuracy:.1f} %", flush=True)

    def teacher(self) -> nn.Module:
        """Trained on views of the training data, by cross-entropy; kept beside the results."""
        args, n = self.args, len(self.train)
        kept = args.out.with_name(f".glyphs-{args.network}-{args.teacher_epochs}.safetensors")
        network = self.make(derive_seed(0, "teacher")).train()
        if kept.exists():
            from safetensors.torch import load_file

            network.load_state_dict(load_file(kept))
            return network
        views = ViewSchedule(seed=derive_seed(0, "teacher views"), scale=(0.5, 1.0), flip=0.0, mix="none")
        optimiser = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4, nesterov=True)
        rng, steps = generator(0, "teacher order"), args.teacher_epochs * math.ceil(n / 128)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 0.2, total_steps=steps)
        for epoch in range(args.teacher_epochs):
            for index in torch.randperm(n, generator=rng).split(128):
                optimiser.zero_grad()
                x = views.view(self.all, epoch, index, n)
                F.cross_entropy(network(x), self.train.labels[index]).backward()
                optimiser.step()
                schedule.step()
            print(f"teacher: epoch {epoch + 1} of {args.teacher_epochs}", flush=True)
        from safetensors.torch import save_file

        kept.parent.mkdir(parents=True, exist_ok=True)
        save_file(network.state_dict(), kept)
        return network

    def score(self, network: nn.Module) -> float:
        """Accuracy on the test data."""
        network.eval()
        with torch.no_grad():
            logits = torch.cat([network(x) for x in _fetched(self.test).split(500)])
        return float((logits.argmax(1) == self.test.labels).float().mean())

    def sample(self, seed: int) -> tuple[Tensor, Tensor, ViewSchedule]:
        """A set: inputs, classes, and the views of its students."""
        counts = [self.args.ipc] * len(self.classes)
        index = torch.cat(RealData.of_source(self.train).draw_exactly(counts, generator(seed, "set")))
        return self.all[index], self.train.labels[index], ViewSchedule(seed=seed, scale=(0.5, 1.0), flip=0.0)

    def student(self, seed: int, n: int, batch_of: Callable[[int, Tensor], tuple[Tensor, Tensor]], t: float) -> float:
        """Accuracy of a fresh student."""
        return self.score(self.fitted(seed, n, batch_of, t))

    def fitted(
        self, seed: int, n: int, batch_of: Callable[[int, Tensor], tuple[Tensor, Tensor]], t: float
    ) -> nn.Module:
        """A student: AdamW, cosine to 0, KL with T²."""
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
        return network.eval()

    def stored(self, seed: int, folder: Path, t: float, top_k: int | None, dtype: str, pool: int) -> dict[str, Any]:
        """One set whose labels are rows in a file."""
        x, _, views = self.sample(seed)
        path = folder / "labels"
        written = write_labels(
            path, [self.expert], x, views, classes=self.classes, epochs=self.args.epochs, pool=pool,
            rows=RowSettings(top_k=top_k, dtype=dtype, temperature=t),
        )  # fmt: skip
        said = label_file_bytes(len(x), self.classes, pool, top_k, dtype)
        return self._read(open_labels(path), x, seed, t, said) | {"kept_mass": written.kept_mass()}

    def as_teacher(self, seed: int, folder: Path, t: float, dtype: str) -> dict[str, Any]:
        """One set whose labels are the teacher in a file."""
        x, _, views = self.sample(seed)
        spec = self.train.input
        path = folder / "labels"
        write_teacher(path, [self.expert], x, views, classes=self.classes, input=spec, dtype=dtype)
        store = open_labels(path)
        said = teacher_file_bytes([self.expert.name], spec, len(self.classes), dtype)
        return self._read(store, x, seed, t, said)

    def _read(self, store: Labels, x: Tensor, seed: int, t: float, said: int) -> dict[str, Any]:
        found = self.student(seed, len(x), lambda e, i: store.batch_of(x, e, i, t), t)
        store.path.unlink()
        return {"accuracy": found, "bytes": store.nbytes, "forecast": said}

    def asking(self, seed: int, t: float) -> tuple[int, Callable[[int, Tensor], tuple[Tensor, Tensor]]]:
        """The items of a set, and its batches, which the teacher labels in 32 bits as they are needed."""
        x, _, views = self.sample(seed)

        def batch_of(epoch: int, index: Tensor) -> tuple[Tensor, Tensor]:
            view = views.view(x, epoch, index)
            return view, (mean_logits([self.expert], view) / t).softmax(1)

        return len(x), batch_of

    def asked(self, seed: int, t: float) -> dict[str, Any]:
        """One set whose labels the teacher gives in 32 bits as they are needed."""
        size = sum(v.numel() * 4 for v in self.expert.network.state_dict().values() if v.is_floating_point())
        return {"accuracy": self.student(seed, *self.asking(seed, t), t), "bytes": size}

    def unstored(self, seed: int, t: float, soft: bool) -> dict[str, Any]:
        """One set with one row for each picture, the teacher's or the class's, mixed by area."""
        x, y, views = self.sample(seed)
        n, k = len(x), len(self.classes)
        own = (mean_logits([self.expert], x) / t).softmax(1) if soft else F.one_hot(y, k).float()

        def batch_of(epoch: int, index: Tensor) -> tuple[Tensor, Tensor]:
            mixes = views.mixes(epoch, index, n, tuple(x.shape[1:]))
            assert mixes is not None
            share = mixes.share[:, None]
            return views.view(x, epoch, index), share * own[index] + (1 - share) * own[mixes.partner]

        # Rows as 32-bit floats, which they are here; classes as what a sorted set needs, a count of 8 bits for each.
        return {"accuracy": self.student(seed, n, batch_of, t), "bytes": 4 * k * n if soft else k}

    def rates(self) -> dict[str, float]:
        """Accuracy at each rate on training pictures that the student did not see."""
        held, found = torch.arange(3, len(self.train), 10), {}
        for rate in RATES:
            self.args.lr = rate
            network = self.fitted(10**6, *self.asking(10**6, 4.0), 4.0)
            with torch.no_grad():
                logits = torch.cat([network(self.all[i]) for i in held.split(500)])
            found[str(rate)] = float((logits.argmax(1) == self.train.labels[held]).float().mean())
            print(f"rate {rate:g}: {100 * found[str(rate)]:.1f} % on training pictures", flush=True)
        return found

    def mass(self) -> list[dict[str, Any]]:
        """What the likeliest classes keep of the teacher's rows, on views of four sets."""
        k, rows = len(self.classes), []
        made = [self.sample(seed) for seed in range(4)]
        seen = torch.cat([v.view(x, 0, torch.arange(len(x))) for x, _, v in made])
        logits = mean_logits([self.expert], seen)
        for bits in (8, 4):
            rounded = self.make(0).eval()
            restore_networks([rounded], quantize_networks([self.expert.network], bits), bits)
            found = mean_logits([LabelTeacher(name=self.expert.name, network=rounded, classes=self.classes)], seen)
            agree = float((found.argmax(1) == logits.argmax(1)).float().mean())
            for t in dict.fromkeys(t for t, _ in MASS):
                true, kept = (logits / t).softmax(1), (found / t).softmax(1)
                lost = (true - kept).abs().sum(1) / (true - 1 / k).abs().sum(1)
                rows.append({"temperature": t, "teacher_bits": bits, "mass": 1.0, "lost": float(lost.mean()),
                             "same_class": agree, "labels": len(logits)})  # fmt: skip
        for t, top in MASS:
            coding = LabelCodec(classes=k, top_k=top, temperature=t)
            stored = coding.encode(logits)
            true, kept = (logits / t).softmax(1), coding.rows(stored, t)
            lost = (true - kept).abs().sum(1) / (true - 1 / k).abs().sum(1)
            rows.append({"temperature": t, "top_k": top, "mass": float(coding.kept_mass(stored, t).mean()),
                         "lost": float(lost.mean()), "labels": len(logits)})  # fmt: skip
        return rows


Cell: TypeAlias = tuple[dict[str, Any], Callable[[int], dict[str, Any]]]
"""What it is, and what measures a set of it."""


def cells_of(bench: Bench, folder: Path) -> list[list[Cell]]:
    """What others are compared with comes first; a list is begun when the one before it is done."""
    epochs = bench.args.epochs

    def asked(t: float) -> Cell:
        return {"labels": "asked", "temperature": t}, lambda s: bench.asked(s, t)

    def stored(t: float, k: int | None, d: str, part: float) -> Cell:
        pool = max(1, round(part * epochs))
        what = {"labels": "stored", "temperature": t, "top_k": k or len(bench.classes), "dtype": d, "pool": pool}
        return what, lambda s: bench.stored(s, folder, t, k, d, pool)

    def teacher(t: float, d: str) -> Cell:
        what = {"labels": "teacher", "temperature": t, "dtype": d}
        return what, lambda s: bench.as_teacher(s, folder, t, d)

    hard: Cell = ({"labels": "hard", "temperature": 1.0}, lambda s: bench.unstored(s, 1.0, False))
    static: Cell = ({"labels": "static", "temperature": 4.0}, lambda s: bench.unstored(s, 4.0, True))
    first = [asked(4.0), teacher(4.0, "uint8"), teacher(4.0, "uint4"), stored(4.0, 10, "uint8", 1.0)]
    first += [stored(4.0, 100, "uint8", 1.0), asked(20.0), stored(20.0, 10, "uint8", 1.0), hard]
    second = [*(stored(*row) for row in SECOND), asked(1.0), static]
    return [first, second, [stored(*row) for row in THIRD]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=["rate", "mass", "teacher", "stored", "asked", "hard", "static"])
    parser.add_argument("--ipc", type=int, default=1)
    parser.add_argument("--sets", type=int, default=3)
    parser.add_argument("--more", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--batch", type=int, default=50)
    parser.add_argument("--network", default="convnet-d3-w32-batch")
    parser.add_argument("--lr", type=float, default=3e-2)
    parser.add_argument("--teacher-epochs", type=int, default=4)
    parser.add_argument("--out", type=Path, default=Path("results/label_classes.json"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    settings = {n: getattr(args, n) for n in ("ipc", "epochs", "batch", "network", "lr", "teacher_epochs")}
    report: dict[str, Any] = json.loads(args.out.read_text()) if args.out.exists() else {}
    if report and report["settings"] != settings:
        raise SystemExit(f"{args.out} is of {report['settings']}; give another --out, or remove it")
    bench = Bench(args)
    report |= {"settings": settings, "classes": len(bench.classes), "samples": len(bench.train),
               "tested": len(bench.test), "teacher": bench.teacher_accuracy, "machine": machine()}  # fmt: skip
    report.setdefault("cells", {})

    def keep() -> None:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(report, indent=1) + "\n")

    if "mass" in args.only and "mass" not in report:
        report["mass"] = bench.mass()
        keep()
    if "rate" in args.only and "rates" not in report:
        report["rates"] = bench.rates()
        args.lr = settings["lr"]
        keep()
    with tempfile.TemporaryDirectory() as folder:
        for cells, seed in product(cells_of(bench, Path(folder)), range(max(args.sets, args.more))):
            for what, measure in (c for c in cells if c[0]["labels"] in args.only):
                few = args.more if what["labels"] in ("teacher", "asked") and what["temperature"] == 4.0 else args.sets
                name = "-".join(str(v) for v in what.values())
                cell = report["cells"].setdefault(name, {**what, "sets": []})
                if seed >= few or len(cell["sets"]) > seed:
                    continue
                begun = time.process_time()
                cell["sets"].append(measure(seed))
                found = cell["sets"][-1]
                print(f"set {seed}, {name}: {100 * found['accuracy']:.2f} %, {found['bytes']:,} bytes, "
                      f"{time.process_time() - begun:.0f} s", flush=True)  # fmt: skip
                _judged(report)
                keep()


def _judged(report: dict[str, Any]) -> None:
    """Each cell's accuracy, and its difference to the teacher's own answers at the same temperature and at 4."""
    cells = report["cells"]
    for cell in cells.values():
        values = [s["accuracy"] for s in cell["sets"]]
        cell["accuracy"] = summary(values)
        cell["bytes"] = max((s["bytes"] for s in cell["sets"]), default=0)
        cell["as_forecast"] = all(s["bytes"] == s.get("forecast", s["bytes"]) for s in cell["sets"])
        for key, t in (("minus_asked", cell["temperature"]), ("minus_asked_at_4", 4.0)):
            base = [s["accuracy"] for s in cells.get(f"asked-{t}", {"sets": []})["sets"]]
            n = min(len(base), len(values))
            cell[key] = summary([v - b for v, b in zip(values[:n], base[:n], strict=True)]) if n else None


def _fetched(source: TensorSource) -> Tensor:
    x = source.fetch(torch.arange(len(source))).x
    assert isinstance(x, Tensor)
    return x


if __name__ == "__main__":
    main()
