"""What `--codec auto` loses against float32: every parametrization and soft labels, the same sets in both.

    python benchmarks/bytes.py --store-loss [--only pixels small …] [--sets 5] [--out results/store_loss.json]

Each row makes ``--sets`` sets by `m3d` of the bundled MNIST-5k at 14×14 pixels (``--side``), in ``--steps`` steps each:
once kept in float32, and once more with ``--codec auto``, which gives the same values, as equal seeds do. Students of
both have the same starts, orders and augmentations, so a loss is a mean over pairs; its interval is Student's t over
the differences of sets. What ``auto`` chose was chosen on training data; test data are read for this table alone.
``learned labels`` are rows that are optimised with the pictures, ``random-soft`` real pictures with a teacher's rows.

A row is written when it is done; one that is there is not made again.
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from machine import machine

import potstill
from potstill.core import Splits
from potstill.core.registry import resolve
from potstill.dataset_file import write_atomic
from potstill.evaluation import Protocol, evaluate
from potstill.evaluation.statistics import summary
from potstill.execution import Serial

M3D: dict[str, Any] = {"method": "m3d", "batch_real": 64, "steps_per_network": 4, "optimizer": "adamw", "lr": 0.02}
ROWS: dict[str, dict[str, Any]] = {
    "pixels": {**M3D, "parametrization": "pixels"},
    "small": {**M3D, "parametrization": "small"},
    "tiles": {**M3D, "parametrization": "tiles"},
    "memory": {**M3D, "parametrization": "memory", "lr": 0.003},
    "frequency": {**M3D, "parametrization": "frequency"},
    "hallucinator": {**M3D, "parametrization": "hallucinator"},
    "field": {**M3D, "parametrization": "field:width=10,warmup=100", "lr": 0.003},
    "compensators": {"method": "ufc", "ipc": 10},
    "learned labels": {**M3D, "parametrization": "pixels", "labels": "learned"},
    "random-soft": {"method": "random-soft"},
}  # fmt: skip
NOT_OPTIMISED = ("random-soft",)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=list(ROWS))
    parser.add_argument("--side", type=int, default=14)
    parser.add_argument("--ipc", type=int, default=5)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--network", default="convnet-d2-w16")
    parser.add_argument("--sets", type=int, default=5)
    parser.add_argument("--students", type=int, default=2)
    parser.add_argument("--updates", type=int, default=120)
    parser.add_argument("--out", type=Path, default=Path("results/store_loss.json"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    splits = potstill.load_data("mnist-5k", size=args.side)
    for name in args.only:
        if name in there(args.out)["rows"]:
            continue
        made = row(name, args, splits)
        found = there(args.out)  # another process may have written meanwhile
        settings = {n: getattr(args, n) for n in ("side", "ipc", "steps", "network", "updates", "students")}
        found |= {"data": "mnist-5k", "machine": machine(), "settings": settings}
        found["rows"][name] = made
        args.out.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(args.out, (json.dumps(found, indent=1) + "\n").encode())


def there(path: Path) -> dict[str, Any]:
    """What is written already."""
    found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {"rows": {}}
    return found


def row(name: str, args: argparse.Namespace, splits: Splits) -> dict[str, Any]:
    """One kind of set in float32 and as ``auto`` stores it."""
    begun = time.process_time()
    options = {"ipc": args.ipc, "network": args.network, "device": "cpu", "progress": None, **ROWS[name]}
    options |= {} if name in NOT_OPTIMISED else {"steps": args.steps}
    values: dict[str, list[list[float]]] = {"float32": [], "auto": []}
    sizes: dict[str, list[int]] = {"float32": [], "auto": []}
    chosen: list[str] = []
    for seed in range(args.sets):
        for store in values:
            small = potstill.distill(splits, seed=seed, codec=store, **options)
            with tempfile.TemporaryDirectory() as folder:  # the scores are those of the set that a reader loads
                small.save(path := Path(folder) / "set.safetensors")
                small = potstill.load(path)
            sizes[store].append(small.metadata["bytes"]["total"])
            values[store].append(students(small, args, splits, seed))
        chosen.append(small.record["codec"]["auto"]["chosen"])
    losses = [statistics.mean(a) - statistics.mean(b) for a, b in zip(*values.values(), strict=True)]
    whole, stored = (statistics.mean(s) for s in sizes.values())
    made = {
        "n": args.sets, "loss": summary(losses), "stores": sorted(set(chosen)), "chosen": chosen,
        "float32": summary([statistics.mean(v) for v in values["float32"]]),
        "stored": summary([statistics.mean(v) for v in values["auto"]]), "values": values,
        "bytes": round(stored), "bytes_float32": round(whole), "ratio": stored / whole,
        "core_seconds": round(time.process_time() - begun, 1), "options": ROWS[name],
    }  # fmt: skip
    print(f"{name}: loss {100 * made['loss']['mean']:+.2f}, {chosen}, 1/{whole / stored:.1f}", flush=True)
    return made


def students(small: Any, args: argparse.Namespace, splits: Splits, seed: int) -> list[float]:
    """Accuracies on test data."""
    protocol: Protocol = resolve("protocols", "potstill").override(
        steps=args.updates, least_epochs=0, batch=32, lr=0.03, augment="dsa-noflip"
    )
    score = evaluate(
        small, splits, protocol=protocol, networks=[args.network], seeds=args.students, seed=seed, baselines=False,
        full=False, robust_scores=False, executor=Serial(),
    )  # fmt: skip
    values: list[float] = score.to_dict()["accuracy"]["values"]
    return values


if __name__ == "__main__":
    main()
