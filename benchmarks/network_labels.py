"""A small network in the set that labels views of its pictures, beside real pictures in the same bytes.

    python benchmarks/network_labels.py [--data fashion-mnist] [--bytes 2000 4000]
    python benchmarks/network_labels.py --updates 800 --views 5000
    python benchmarks/network_labels.py --bytes 40000 --rows real
    python benchmarks/network_labels.py --show

Rows at each budget, all bytes counted:

- ``labelled``: ``--method random --labels network``: random real pictures in two bits a pixel, and a
  network that takes two fifths of the bytes at most and labels ``--views`` views of them.
- ``real``: the best coded real pictures, in the way that the search of `benchmarks/frontier.py` chose for these bytes
  on the training data (its results are read); each set is another draw.
- ``network``: the network of the labelled set alone, which needs no student.

A set is made of 95 % of the training data (`frontier.Bench`). Students of both rows make ``--updates`` updates in
batches of 128; the learning rate of each row, of two, is the better one of one student on the other 5 %. Real pictures
have the protocol's augmentation, views none. Test data are read once, at the end. Results go to
results/network_labels.json after every cell; what is there is not made again.
"""

import argparse
import json
from collections.abc import Mapping
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
from potstill.evaluation.real_set_space import RealWay
from potstill.evaluation.real_sets import Trial
from potstill.evaluation.statistics import paired_difference, summary
from potstill.evaluation.student import StudentJob, predict, train
from potstill.rng import derive_seed

NETWORKS = ("convnet-d3-w32", "mlp-w128")
BATCH, RATES = 128, (0.03, 0.1)
ROWS = ("labelled", "real", "network")
CODEC = "uint2"
OUT = Path("results/network_labels.json")


class Cells(Bench):
    """The sets of one data set and their scores."""

    def labelled(self, size: int, seed: int) -> potstill.Distilled:
        path = Path(self.args.cache) / f"{self.name}-{size}-labelled-{seed}.safetensors"
        if not path.exists():
            potstill.distill(
                Splits(train=self.train, test=None), "random", labels="network", codec=CODEC, bytes=size, seed=seed,
                progress=None, device="cpu", executor="serial",
            ).save(path)  # fmt: skip
        return potstill.load(path)

    def real(self, size: int, draws: int) -> tuple[list[tuple[Any, Tensor]], int]:
        cell = json.loads(Path(f"results/frontier/{self.name}.json").read_text())["cells"][f"{size}|real"]
        way = RealWay(
            codec=cell["codec"], selection=cell["selection"], natural=cell["balance"] == "natural",
            labels=cell["labels"],
        )  # fmt: skip
        made = self.search(size).make(Trial(way=way, per_class=cell["items"] // len(self.train.classes)), draws)
        return list(made.pairs), made.bytes

    def student(
        self, network: str, part: Source, pair: tuple[Any, Tensor], rate: float, seed: int, views: bool
    ) -> float:
        """Return the accuracy of one student on a part of the data."""
        probe, (x, y) = self.probe(network, part, 0), pair
        job = StudentJob(
            make=probe.make, x=x, y=y, protocol=probe.protocol, lr=rate,
            steps=self.args.updates, seed=derive_seed(seed, "student"),
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

    for size in args.bytes:
        needed = {"labelled", "network"} & set(args.rows)
        sets = [cells.labelled(size, seed) for seed in range(args.sets if needed else 0)]
        real: list[tuple[Any, Tensor]] = []
        for seed, small in enumerate(sets):
            assert small.labeller is not None
            network = small.labeller.network(small.input.shape, len(small.classes))
            bytes_ = {key: small.metadata["bytes"][key] for key in ("total", "labeller")}
            once(f"{size} network {seed}", lambda n=network, b=bytes_: {
                "bytes": b["labeller"],
                "scores": {"": float((predict(n, cells.test) == cells.test.labels).double().mean())},
            })  # fmt: skip
        if any(f"{size} real {seed}" not in found for seed in range(args.sets)):
            real, real_bytes = cells.real(size, args.sets)
        for row in [row for row in ("labelled", "real") if row in args.rows]:
            for seed in range(args.sets):
                if f"{size} {row} {seed}" in found:
                    continue
                views = row == "labelled"
                pair = sets[seed].training_samples(args.views) if views else real[seed % len(real)]
                total = sets[seed].metadata["bytes"]["total"] if views else real_bytes
                items = len(sets[seed]) if views else num_samples(pair[0])

                def scored(
                    pair: Any = pair, row: str = row, views: bool = views, seed: int = seed, size: int = size
                ) -> dict[str, float]:
                    scores = {}
                    for network in NETWORKS:
                        rate = once(f"{size} {row} rate {network}", lambda n=network: max(
                            RATES, key=lambda r: cells.student(n, cells.held, pair, r, 77, views)
                        ))  # fmt: skip
                        of = [
                            cells.student(network, cells.test, pair, rate, 10 * seed + n, views)
                            for n in range(args.students)
                        ]
                        scores[network] = sum(of) / len(of)
                    return scores

                once(f"{size} {row} {seed}", lambda t=total, i=items, s=scored: {
                    "bytes": t, "items": i, "scores": s(),
                })  # fmt: skip


def rows_of(found: Mapping[str, Any], size: int, test: int) -> dict[str, Any]:
    """Return each row's means, and the difference of labelled and real sets."""
    rows: dict[str, Any] = {}
    for row in ROWS:
        of = [found[key] for seed in range(100) if (key := f"{size} {row} {seed}") in found]
        if of:
            rows[row] = {
                "bytes": max(c["bytes"] for c in of), "items": of[0].get("items"), "n": len(of),
                "scores": {n: summary([c["scores"][n] for c in of], test) for n in of[0]["scores"]},
            }  # fmt: skip
    if "labelled" in rows and "real" in rows:
        seeds = range(min(rows["labelled"]["n"], rows["real"]["n"]))

        def scores(row: str, network: str) -> list[float]:
            return [float(found[f"{size} {row} {seed}"]["scores"][network]) for seed in seeds]

        rows["labelled"]["over real"] = {
            n: paired_difference(scores("labelled", n), scores("real", n)) for n in NETWORKS
        }
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
    parser.add_argument("--bytes", type=int, nargs="+", default=[2000, 4000])
    parser.add_argument("--updates", type=int, default=2000, help="of a student")
    parser.add_argument("--views", type=int, default=20_000, help="of a labelled set")
    parser.add_argument("--rows", nargs="+", default=ROWS, choices=ROWS)
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
    for name, value in (("label", None), ("device", "cpu"), ("out", Path("results/frontier")), ("arms", None)):
        setattr(args, name, value)
    cells = Cells(args)
    about = {
        "name": cells.name, "updates": args.updates, "views": args.views, "students": args.students,
        "cells": {}, "rows": {},
    }  # fmt: skip
    data = found["data"].setdefault(f"{cells.name}-{args.updates}", about)

    def write() -> None:
        data["rows"] |= {str(s): rows_of(data["cells"], s, len(cells.test)) for s in sorted(args.bytes)}
        found["machine"] = machine()
        OUT.write_text(json.dumps(found, indent=1) + "\n")

    measure(cells, data["cells"], write)
    write()
    show(found)


if __name__ == "__main__":
    main()
