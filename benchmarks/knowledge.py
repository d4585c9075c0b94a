"""What soft labels buy in data: the data–knowledge law of small students, for docs/benchmarks/scaling.md.

    python benchmarks/knowledge.py                         # about a quarter of an hour of one core
    python benchmarks/knowledge.py --data mnist-5k --sets 2 --steps 50 --out build/knowledge --images build

For each of the data `potstill.scaling` is run into ``--out``/NAME, where an interrupted run goes on, and its plot is
copied to ``--images``/scaling-NAME.svg. Test data are not read. One thread; ``machine.json`` says on what.
"""

import argparse
import json
import shutil
import time
from pathlib import Path

import torch
from machine import machine

import potstill
from potstill.cli.commands.scaling import scaling_text

STOPS = {"mnist-5k": (1, 3, 10), "fashion-mnist": (1, 2, 6)}
"""Epochs of the teacher: of 3,200 samples and of 56,000."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", default=list(STOPS))
    parser.add_argument("--network", default="convnet-d3-w32")
    parser.add_argument("--ipc", nargs="+", type=int, default=[1, 2, 5, 10, 20])
    parser.add_argument("--stops", nargs="+", type=int)
    parser.add_argument("--sets", type=int, default=5)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--out", type=Path, default=Path("results/knowledge"))
    parser.add_argument("--images", type=Path, default=Path("docs/img"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    args.images.mkdir(parents=True, exist_ok=True)
    for name in args.data:
        begun = time.process_time()
        found = potstill.scaling(
            name, ipc=args.ipc, teacher_epochs=args.stops or STOPS.get(name, (1, 3, 10)), out=args.out / name,
            network=args.network, repeats=args.sets, steps=args.steps, device="cpu",
        )  # fmt: skip
        print(f"{scaling_text(found)}\n{time.process_time() - begun:.0f} s of one core\n", flush=True)
        shutil.copyfile(args.out / name / "scaling.svg", args.images / f"scaling-{name}.svg")
        (args.out / "machine.json").write_text(json.dumps(machine(), indent=1) + "\n")


if __name__ == "__main__":
    main()
