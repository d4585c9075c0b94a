"""Continual memories at equal bytes: coded real samples, raw ones and distilled sets, 5 × 2 classes.

    python benchmarks/uses/continual.py [--data fashion-mnist] [--bytes 2kB,8kB] [--orders 3] [--samples 10000]

After each step a network is trained from scratch on the memory alone. Every cell is a file under ``--folder``, from
which an interrupted run goes on, and several processes with the same command share its work; the summary goes to
``results/uses/continual-DATA.json``. ``photo-patches`` are those of ``benchmarks/photo_patches.py``.
"""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from load import load
from machine import machine

from potstill.core import Splits
from potstill.dataset_file import write_atomic
from potstill.rng import generator
from potstill.uses.continual import Learner, Made, continual

MEMORIES = ("coded", "raw", "herding@half:bits=1", "k-means@half:bits=1", "balanced")
_DM: dict[str, Any] = {
    "method": "dm", "codec": "uint4", "network": "convnet-w32", "steps": 120, "options": {"batch_real": 64},
}  # fmt: skip
MADE = (
    Made(name="dm", parametrization="frequency:kept=64", **_DM),
    Made(name="shared bases", parametrization="shared-frequency", **_DM),
    Made(
        name="frepo",
        method="frepo",
        parametrization="frequency:kept=64",
        codec="uint4",
        network="convnet-w32",
        steps=60,
    ),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="fashion-mnist")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--bytes", default="2kB,8kB")
    parser.add_argument("--orders", type=int, default=3)
    parser.add_argument("--samples", type=int, default=10_000, help="training samples, drawn with seed 0")
    parser.add_argument("--tested", type=int, default=2_000, help="test samples, drawn with seed 0")
    parser.add_argument("--seed", type=int, default=0, help="of the first order")
    parser.add_argument("--network", default="convnet-w16")
    parser.add_argument("--updates", type=int, default=200)
    parser.add_argument("--made", default=",".join(m.name for m in MADE))
    parser.add_argument("--folder", type=Path, default=Path("runs/continual"))
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    splits = load(args.data, args.device)
    assert splits.test is not None
    parts = []
    for name, part, most in (("train", splits.train, args.samples), ("test", splits.test, args.tested)):
        order = torch.randperm(len(part), generator=generator(0, "continual", name))
        parts.append(part.subset(order[:most].sort().values))  # type: ignore[attr-defined]
    started = time.monotonic()
    result = continual(
        Splits(train=parts[0], test=parts[1]), out=args.folder, bytes=args.bytes.split(","), orders=args.orders,
        memories=(*MEMORIES, *(m for m in MADE if m.name in args.made.split(","))),
        learner=Learner(network=args.network, steps=args.updates), seed=args.seed, executor="serial",
        device=args.device, progress=lambda name, done, total: print(f"{name} {done} of {total}", flush=True),
    )  # fmt: skip
    kept = {name: value for name, value in result.items() if name != "cells"}
    kept["choices"] = [
        {"codec": c["steps"][-1]["codec"], "bytes": c["bytes"], "order": c["order"]}
        for c in result["cells"] if c["memory"] == "coded" and "steps" in c
    ]  # fmt: skip
    out = args.out or Path(f"results/uses/continual-{args.data}.json")
    out.parent.mkdir(parents=True, exist_ok=True)
    stamp = {"machine": {**machine(), "device": args.device}, "seconds": round(time.monotonic() - started, 1)}
    write_atomic(out, (json.dumps({**kept, **stamp}, indent=1) + "\n").encode())
    for row in result["rows"]:
        if "final" in row:
            gap = row.get("difference")
            said = "" if gap is None or gap["ci95"] is None else (
                f"  minus best real {100 * gap['mean']:+.1f} [{100 * gap['ci95'][0]:+.1f}, {100 * gap['ci95'][1]:+.1f}]"
            )  # fmt: skip
            print(f"{row['bytes']:>6} {row['memory']:<22} final {100 * row['final']['mean']:.1f} n={row['n']}{said}")
        else:
            print(f"{row['bytes']:>6} {row['memory']:<22} {row['reason']}")
    print(*result["sentences"], sep="\n")


if __name__ == "__main__":
    main()
