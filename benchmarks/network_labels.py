"""A small network in the set that labels views of its pictures or rows, beside real ones in the same bytes.

    python benchmarks/network_labels.py [--data fashion-mnist] [--bytes 4000]
    python benchmarks/network_labels.py --updates 5000 --views 50000 --bytes 4000 40000
    python benchmarks/network_labels.py --updates 5000 --bytes 120000 --rows real
    python benchmarks/network_labels.py --data satellite.csv --label classes      # Satellite of R's mlbench
    python benchmarks/network_labels.py --data letters.csv --label lettr          # LetterRecognition of R's mlbench
    python benchmarks/network_labels.py --show

Rows at each budget, all bytes counted:

- ``labelled``: ``--labels network``: random real samples, and a network that takes two fifths of the bytes at most and
  labels ``--views`` views of them. The codec is chosen on training data.
- ``real``: the best coded real samples: of the way that the search of `benchmarks/frontier.py` chose with short
  students, and of `CODECS`, each with classes and with the three largest probabilities of a good teacher (`TEACHER`)
  as labels, the best one of a student on held-out data (of this length, 2,000 updates at most); each set is another
  draw. Rows of a table have no teacher, and are tried by random and by k-means; the way counts that has the best mean
  over all students.
- ``mixed``: the real samples of ``real`` under the views of a labelled set, with their classes mixed as the samples are
  (mixup, CutMix): no network. It needs the row ``real``.
- ``network``: the network of the labelled set alone, which needs no student.

A set is made of 95 % of the training data (`frontier.Bench`; of 80 % of small data). Students of both rows make
``--updates`` updates in batches of 128; the learning rate of each row, of two, is the better one of one student on the
rest. Real pictures have the protocol's augmentation, views none. Of tables a forest and a linear model learn, too. Test
data are read once, at the end. Results go to results/network_labels.json after every cell; what is there is not made
again. Several runs may write to it.
"""

import argparse
import fcntl
import json
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from frontier import Bench
from machine import machine
from torch import Tensor

import potstill
from potstill.augment.names import named_augmentation
from potstill.core import Source, Splits
from potstill.core.nested import num_samples
from potstill.dataset_file.labeller_io import usual_views
from potstill.evaluation.estimators import is_learner_name, make_learner
from potstill.evaluation.real_set_space import RealWay, has_label_bits
from potstill.evaluation.real_sets import Trial
from potstill.evaluation.statistics import paired_difference, summary
from potstill.evaluation.student import StudentJob, predict, train
from potstill.evaluation.training_sets import TeacherJob
from potstill.labels.teacher import soft_labels
from potstill.nn import factory_for
from potstill.rng import derive_seed

NETWORKS = {"image": ("convnet-d3-w32", "mlp-w128"), "table": ("mlp-w128", "forest", "linear-model")}
"""Students by the kind of data."""
BATCH, RATES = 128, (0.03, 0.1)
ROWS = ("labelled", "real", "mixed", "network")
CODECS = {
    1: ("uint1", "uint2", "half:bits=1", "half:bits=2"),
    3: ("half:bits=2", *(f"cosine:positions={n}" for n in (64, 144, 256))),
}
"""Of real pictures, beside that of the search, by the number of channels."""
ROW_CODECS = ("exact", "columns:bits=4", "columns:bits=3", "columns:bits=2")
"""Of real rows."""
TEACHER, TEACHER_UPDATES = "convnet-d3-w64", 2000
"""Network that writes soft labels of real pictures, and its updates on all of them."""
CHOOSING = 2000
"""Updates at most of a student that chooses among ways to keep real pictures."""
OUT = Path("results/network_labels.json")


class Cells(Bench):
    """The sets of one data set and their scores."""

    @property
    def networks(self) -> tuple[str, ...]:
        """Students."""
        return tuple(self.args.networks or NETWORKS[self.kind])

    def labelled(self, size: int, seed: int) -> potstill.Distilled:
        path = Path(self.args.cache) / f"{self.name}-{size}-labelled-{seed}.safetensors"
        if not path.exists():
            potstill.distill(
                Splits(train=self.train, test=None), "random", labels="network", bytes=size, seed=seed,
                progress=None, device="cpu", executor="serial",
            ).save(path)  # fmt: skip
        return potstill.load(path)

    def teacher(self) -> Any:
        """The function that a good teacher is: probabilities of pictures. It is trained once, and kept."""
        path = Path(self.args.cache) / f"{self.name}-{TEACHER}-{TEACHER_UPDATES}.pt"
        job = TeacherJob(train=self.train, make=factory_for(TEACHER, self.train), seed=0, steps=TEACHER_UPDATES)
        if not path.exists():
            torch.save(job(), path)
        return partial(soft_labels, job.network(), torch.load(path, weights_only=False))

    def ways(self, size: int) -> dict[str, RealWay]:
        """The ways to keep real pictures in so many bytes that are tried, by name."""
        path = Path(f"results/frontier/{self.name}.json")
        cells = json.loads(path.read_text())["cells"] if path.exists() else {}
        found = {}
        if (cell := cells.get(f"{size}|real")) is not None:
            found["of the search"] = RealWay(
                codec=cell["codec"], selection=cell["selection"], natural=cell["balance"] == "natural",
                labels=cell["labels"],
            )  # fmt: skip
        plain = RealWay(codec="uint1", selection="random", natural=False, labels="hard")
        if self.kind == "table":
            return found | {
                f"{codec} {selection}": replace(plain, codec=codec, selection=selection, natural=True)
                for codec in ROW_CODECS for selection in ("random", "k-means")
            }  # fmt: skip
        for codec in CODECS[self.train.input.shape[0]]:
            for labels in ("hard", "top3") if has_label_bits(codec) else ("hard",):
                found[f"{codec} {labels}"] = replace(plain, codec=codec, labels=labels)
        return found

    def real(self, size: int, way: RealWay, draws: int) -> Any:
        """Draws of real pictures in so many bytes, whose soft labels are those of the good teacher."""
        search = replace(self.search(size), rows=self.teacher() if way.labels != "hard" else None)
        return search.make(Trial(way=way, per_class=max(1, size // 400)), draws)

    def student(
        self, network: str, part: Source, pair: tuple[Any, Tensor], rate: float, seed: int, views: bool,
        updates: int | None = None,
    ) -> float:  # fmt: skip
        """Return the accuracy of one student on a part of the data."""
        if is_learner_name(network):
            answers = make_learner(network, self.train).fit_predict(part, *pair, None, seed)
            return float((answers == part.labels).double().mean())
        probe, (x, y) = self.probe(network, part, 0), pair
        job = StudentJob(
            make=probe.make, x=x, y=y, protocol=probe.protocol, lr=rate,
            steps=updates or self.args.updates, seed=derive_seed(seed, "student"),
            augment=named_augmentation("none", self.train) if views else probe.augment,
        )  # fmt: skip
        return float((predict(train(job), part) == part.labels).double().mean())


def measure(cells: Cells, found: dict[str, Any], write: Any) -> None:
    args = cells.args

    def once(key: str, make: Any) -> Any:
        if key not in found:
            found[key] = make()
            write()
            print(key, json.dumps(found[key])[:200], flush=True)
        return found[key]

    def scored(key: str, pair: tuple[Any, Tensor], seed: int, views: bool) -> dict[str, float]:
        """Mean accuracy of the students of each network, at the rate that held-out samples choose."""
        scores = {}
        for network in cells.networks:
            rate = 0.0 if is_learner_name(network) else once(f"{key} rate {network}", lambda n=network: max(
                RATES, key=lambda r: cells.student(n, cells.held, pair, r, 77, views)
            ))  # fmt: skip
            of = [cells.student(network, cells.test, pair, rate, 10 * seed + n, views) for n in range(args.students)]
            scores[network] = sum(of) / len(of)
        return scores

    for size in args.bytes:
        for seed in range(args.sets if {"labelled", "network"} & set(args.rows) else 0):
            small = cells.labelled(size, seed)
            assert small.labeller is not None
            network = small.labeller.network(small.input.shape, len(small.classes))
            bytes_ = small.metadata["bytes"]
            once(f"{size} network {seed}", lambda n=network, b=bytes_: {
                "bytes": b["labeller"],
                "scores": {"": float((predict(n, cells.test) == cells.test.labels).double().mean())},
            })  # fmt: skip
            if "labelled" in args.rows:
                once(f"{size} labelled {seed}", lambda small=small, b=bytes_, seed=seed, size=size: {
                    "bytes": b["total"], "items": len(small), "codec": small.metadata["codec"]["name"],
                    "scores": scored(f"{size} labelled", small.training_samples(args.views), seed, True),
                })  # fmt: skip
        if "real" in args.rows and any(f"{size} real {seed}" not in found for seed in range(args.sets)):
            way = cells.ways(size)[once(f"{size} real way", lambda size=size: best_way(cells, size))["chosen"]]
            made = cells.real(size, way, args.sets)
            for seed in range(args.sets):
                pair = made.pairs[seed % len(made.pairs)]
                once(f"{size} real {seed}", lambda p=pair, seed=seed, size=size, made=made: {
                    "bytes": made.bytes, "items": num_samples(p[0]), "scores": scored(f"{size} real", p, seed, False),
                })  # fmt: skip
        if "mixed" in args.rows:
            way = cells.ways(size)[found[f"{size} real way"]["chosen"]]
            made = cells.real(size, way, args.sets)
            for seed in range(args.sets):
                pair = made.pairs[seed % len(made.pairs)]
                once(f"{size} mixed {seed}", lambda p=pair, seed=seed, size=size, made=made: {
                    "bytes": made.bytes, "items": num_samples(p[0]),
                    "scores": scored(f"{size} mixed", mixed(p, cells, args.views, seed), seed, True),
                })  # fmt: skip


def mixed(pair: tuple[Any, Tensor], cells: Cells, views: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return views of real samples as a labelled set has them, and their classes, mixed as the samples are."""
    x, y = pair
    hot = torch.nn.functional.one_hot(y, len(cells.train.classes)).float() if y.ndim == 1 else y
    schedule, index = usual_views(cells.train.input, seed=seed), torch.arange(len(x))
    inputs, labels = [], []
    for epoch in range(-(-views // len(x))):
        inputs.append(schedule.view(x, epoch, index))
        plan = schedule.mixes(epoch, index, len(x), tuple(x.shape[1:]))
        assert plan is not None
        share = plan.share[:, None]
        labels.append(share * hot + (1 - share) * hot[plan.partner])
    return torch.cat(inputs)[:views], torch.cat(labels)[:views]


def best_way(cells: Cells, size: int) -> dict[str, Any]:
    """Return the way to keep real pictures whose student has the best accuracy on held-out samples, and all of them."""
    updates = min(cells.args.updates, CHOOSING)
    held = {}
    for name, way in cells.ways(size).items():
        pair = cells.real(size, way, 1).pairs[0]
        of = [
            cells.student(n, cells.held, pair, max(RATES), 77, False, updates)
            for n in (cells.networks if cells.kind == "table" else cells.networks[:1])
        ]
        held[name] = sum(of) / len(of)
    return {"chosen": max(held, key=lambda name: held[name]), "held": held}


def rows_of(found: Mapping[str, Any], size: int, test: int) -> dict[str, Any]:
    """Return each row's means, and the difference of labelled and real sets."""
    rows: dict[str, Any] = {}
    for row in ROWS:
        of = [found[key] for seed in range(100) if (key := f"{size} {row} {seed}") in found]
        if of:
            rows[row] = {
                "bytes": max(c["bytes"] for c in of), "items": of[0].get("items"), "n": len(of),
                "codecs": sorted({c.get("codec", "uint2") for c in of}) if row == "labelled" else [],
                "way": found.get(f"{size} real way", {}).get("chosen") if row == "real" else None,
                "scores": {n: summary([c["scores"][n] for c in of], test) for n in of[0]["scores"]},
            }  # fmt: skip
    for row, other in (("labelled", "real"), ("mixed", "real"), ("labelled", "mixed")):
        if row in rows and other in rows:
            seeds = range(min(rows[row]["n"], rows[other]["n"]))
            own, against = ([found[f"{size} {name} {seed}"]["scores"] for seed in seeds] for name in (row, other))
            rows[row][f"over {other}"] = {
                n: paired_difference([s[n] for s in own], [s[n] for s in against])
                for n in rows[row]["scores"] if n in rows[other]["scores"]
            }  # fmt: skip
    return rows


def show(found: Mapping[str, Any]) -> None:
    for data in found["data"].values():
        for size, rows in data["rows"].items():
            print(f"{data['name']}, {int(size):,} bytes, students of {data['updates']} updates")
            for row, of in rows.items():
                scores = "  ".join(
                    f"{n} {100 * s['mean']:.1f} [{100 * s['ci95'][0]:.1f}, {100 * s['ci95'][1]:.1f}]"
                    for n, s in of["scores"].items()
                )
                over = of.get("over real", {})
                more = "  ".join(
                    f"{n} {100 * d['mean']:+.1f} [{100 * d['ci95'][0]:+.1f}, {100 * d['ci95'][1]:+.1f}]"
                    for n, d in over.items()
                )
                print(f"  {row:<10}{of['bytes']:>8,} bytes {of['items'] or '':>6}  n {of['n']}  {scores}"
                      + (f"   minus real: {more}" if more else ""))  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="fashion-mnist")
    parser.add_argument("--label", help="column of the classes, of a table")
    parser.add_argument("--bytes", type=int, nargs="+", default=[2000, 4000])
    parser.add_argument("--updates", type=int, default=2000, help="of a student")
    parser.add_argument("--views", type=int, default=20_000, help="of a labelled set")
    parser.add_argument("--rows", nargs="+", default=ROWS, choices=ROWS)
    parser.add_argument("--networks", nargs="+", help="that learn the sets; default: those of the kind of data")
    parser.add_argument("--sets", type=int, default=3)
    parser.add_argument("--students", type=int, default=2)
    parser.add_argument("--cache", type=Path, default=Path(".network-labels"))
    parser.add_argument("--show", action="store_true", help="print the stored result")
    args = parser.parse_args()
    torch.set_num_threads(1)
    found: dict[str, Any] = json.loads(OUT.read_text()) if OUT.exists() else {"data": {}}
    if args.show:
        show(found)
        return
    args.cache.mkdir(parents=True, exist_ok=True)
    for name, value in (("device", "cpu"), ("out", Path("results/frontier")), ("arms", None)):
        setattr(args, name, value)
    cells = Cells(args)
    key, about = f"{cells.name}-{args.updates}", {
        "name": cells.name, "updates": args.updates, "views": args.views, "students": args.students,
    }  # fmt: skip
    own: dict[str, Any] = found["data"].get(key, {}).get("cells", {})

    def write() -> None:
        with (args.cache / "results.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # until it is closed
            now = json.loads(OUT.read_text()) if OUT.exists() else {"data": {}}
            data = now["data"].setdefault(key, {**about, "cells": {}, "rows": {}})
            data["cells"] |= own
            sizes = sorted({int(name.split()[0]) for name in data["cells"]})
            data["rows"] = {str(size): rows_of(data["cells"], size, len(cells.test)) for size in sizes}
            now["machine"] = machine()
            OUT.write_text(json.dumps(now, indent=1) + "\n")

    measure(cells, own, write)
    write()
    show(json.loads(OUT.read_text()))


if __name__ == "__main__":
    main()
