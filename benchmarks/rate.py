"""The price of bits in the loss: accuracy of distilled sets in 4 kB that were written and decoded.

    python benchmarks/rate.py make  [--only ARM …] [--seconds 200]   # sets, kept under --cache
    python benchmarks/rate.py choose [--only ARM …]                  # on held-out training data: students of width 32
    python benchmarks/rate.py score --only ARM …                     # on test data: students of width 128
    python benchmarks/rate.py table

**Arms** (`ARMS`) are what is stored by `frepo` over one shared list of cosine positions: inputs, coefficients of each,
and the codec. ``free`` rounds only when the set is written, ``rounded`` also while it is made, ``rate…`` pays for bits.
Each set has ``--seconds`` of one core for its steps, by a short run that says how long a step takes; networks of width
64, four moves for each pass of real pictures. At the end `potstill.distill` raises the step of the codec until the set
has at most ``--bytes``: by sizes alone.

**Bytes** are those of all tensors of the file (``bytes.total``), as a reader decodes them. 5 % of the training data are
held out: no set is made of them, and every choice between arms is made on them. Test data are read by ``score`` alone.

Students: 300 updates, batch 128, no augmentation, labels as the set has them; intervals Student's t over sets.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch
from machine import machine

import potstill
from potstill.core import Splits
from potstill.core.registry import resolve
from potstill.data import TensorSource, holdout
from potstill.evaluation import evaluate
from potstill.evaluation.statistics import summary
from potstill.execution import Serial

FREPO: dict[str, Any] = {
    "method": "frepo", "init_from": "real", "optimizer": "adamw", "lr": 0.01, "lr_labels": 0.003, "batch_real": 512,
    "lr_net": 1e-3, "ridge": 1e-3, "steps_per_network": 4, "network": "convnet-d3-w64",
}  # fmt: skip
ARMS: dict[str, tuple[int, float, str]] = {
    "free": (64, 2.45, "step:width=1.0,aware=False"),
    "rounded": (64, 2.45, "step:width=1.5"),
    "rate10": (64, 2.45, "step:width=1.2,rate=0.01"),
    "rate100": (64, 2.45, "step:width=1.0,rate=0.1"),
    "rate10-many": (64, 0.92, "step:width=1.5,rate=0.01"),
    "rate100-many": (64, 0.92, "step:width=1.5,rate=0.1"),
    "rate10-36": (36, 4.36, "step:width=1.2,rate=0.01"),
    "rate10-100": (100, 1.56, "step:width=1.2,rate=0.01"),
}
"""Coefficients of each input, bits of a value that the budget is shared out by, codec."""
PROBE_SEED = 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["make", "choose", "score", "table"])
    parser.add_argument("--data", default="fashion-mnist")
    parser.add_argument("--bytes", type=int, default=4096)
    parser.add_argument("--seconds", type=float, default=200.0)
    parser.add_argument("--sets", type=int, default=1)
    parser.add_argument("--students", type=int, default=3)
    parser.add_argument("--width", type=int, default=0, help="of students; 0: 32 to choose, 128 to score")
    parser.add_argument("--only", nargs="+", default=list(ARMS), choices=list(ARMS))
    parser.add_argument("--cache", type=Path, default=Path(".rate"))
    parser.add_argument("--out", type=Path, default=Path("results/rate.json"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    args.cache.mkdir(parents=True, exist_ok=True)
    if args.what == "table":
        return table(args)
    bench = Bench(args)
    for name in args.only:
        for seed in range(args.sets):
            bench.make(name, seed) if args.what == "make" else bench.score(name, seed)
    return None


class Bench:
    """Data and settings that all arms share."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        data = potstill.load_data(args.data)
        assert isinstance(data.train, TensorSource)
        assert data.test is not None
        self.train, self.held = holdout(data.train, 0.05, 0)
        self.test = data.test

    def path(self, name: str, seed: int) -> Path:
        args = self.args
        return Path(args.cache) / f"{args.data}-{args.bytes}-{round(args.seconds)}s-{name}-{seed}.safetensors"

    def distill(self, name: str, seed: int, steps: int, **more: Any) -> potstill.Distilled:
        positions, bits, codec = ARMS[name]
        return potstill.distill(
            Splits(train=self.train, test=None), bytes=self.args.bytes, seed=seed, device="cpu", executor="serial",
            codec=f"{codec},bits={bits}", parametrization=f"shared-frequency:positions={positions}", iterations=steps,
            **{"progress": None, **FREPO, **more},
        )  # fmt: skip

    def make(self, name: str, seed: int) -> None:
        """Make a set that is not there: a run of as many steps as the seconds buy."""
        path = self.path(name, seed)
        if path.exists():
            return
        steps_file = self.path(name, 0).with_suffix(".steps")
        if not steps_file.exists():
            marks: list[float] = []
            self.distill(name, PROBE_SEED, 12, progress=lambda _: marks.append(time.process_time()))
            per_step = (marks[-1] - marks[3]) / (len(marks) - 4)
            steps_file.write_text(str(max(20, int(self.args.seconds / per_step))))
        steps, checkpoint = int(steps_file.read_text()), path.with_suffix(".checkpoint")
        begun = time.process_time()
        small = self.distill(name, seed, steps, checkpoint=checkpoint, resume=checkpoint.exists())
        small.save(path)
        size = small.metadata["bytes"]
        print(f"{path.name}: {steps} steps, {time.process_time() - begun:.0f} s, {size}", flush=True)

    def score(self, name: str, seed: int) -> None:
        """Train students on the decoded set, and add their accuracy to the results."""
        args, path = self.args, self.path(name, seed)
        if not path.exists():
            return
        where = "held" if args.what == "choose" else "test"
        width = args.width or (32 if where == "held" else 128)
        key = f"{path.stem}|{where}|w{width}"
        found = json.loads(args.out.read_text()) if args.out.exists() else {"machine": machine(), "cells": {}}
        if key in found["cells"]:
            return
        small, begun = potstill.load(path), time.process_time()
        protocol = resolve("protocols", "potstill").override(
            steps=300, least_epochs=0, batch=128, lr=0.03, validation=0.0
        )
        score = evaluate(
            small, Splits(train=self.train, test=self.held if where == "held" else self.test), protocol=protocol,
            networks=[f"convnet-d3-w{width}"], seeds=args.students, seed=seed, baselines=False, full=False,
            robust_scores=False, executor=Serial(),
        )  # fmt: skip
        card, values = small.metadata, score.to_dict()["accuracy"]["values"]
        cell = {
            "arm": name, "seed": seed, "where": where, "width": width, "values": values, "seconds_asked": args.seconds,
            "seconds": card["cost"]["seconds"], "steps": card["cost"]["steps"], "codec": card["codec"]["name"],
            "bytes": parts(small), "inputs": len(small), "scored_in": round(time.process_time() - begun, 1),
        }  # fmt: skip
        found = json.loads(args.out.read_text()) if args.out.exists() else {"machine": machine(), "cells": {}}
        found["cells"][key] = cell
        args.out.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")
        print(f"{key}: {100 * sum(values) / len(values):.1f} {[round(100 * v, 1) for v in values]} {cell['bytes']}")


def parts(small: potstill.Distilled) -> dict[str, int]:
    """Return the bytes of a set by part."""
    size = small.metadata["bytes"]
    return {"coefficients": size["inputs"], "positions": size["decoder"], "labels": size["labels"],
            "total": size["total"]}  # fmt: skip


def table(args: argparse.Namespace) -> None:
    """Print one row for each arm and kind of student."""
    rows: dict[tuple[str, str, int, float], list[dict[str, Any]]] = {}
    for cell in json.loads(args.out.read_text())["cells"].values():
        rows.setdefault((cell["where"], cell["arm"], cell["width"], cell["seconds_asked"]), []).append(cell)
    print("| where | arm | codec as written | students | seconds | coefficients | positions | labels | total | % |")
    print("| --- " * 10 + "|")
    for (where, arm, width, asked), cells in sorted(rows.items()):
        size, means = cells[0]["bytes"], [sum(c["values"]) / len(c["values"]) for c in cells]
        spread = f" ± {100 * summary(means, 10_000)['half_width']:.1f}" if len(means) > 1 else ""
        students = f"w{width} × {len(cells[0]['values'])} × {len(cells)}"
        print(
            f"| {where} | {arm} | {cells[0]['codec']} | {students} | {asked:g} | "
            f"{size['coefficients']} | {size['positions']} | {size['labels']} | {size['total']} | "
            f"{100 * sum(means) / len(means):.1f}{spread} |"
        )


if __name__ == "__main__":
    main()
