"""Behaviour distillation: a few pairs beside pairs and policies of the same cost, in four simulators of Gymnasium.

    python benchmarks/uses/control.py [--environments CartPole-v1:2,Acrobot-v1:3] [--sets 3]

Each environment stands with its number of pairs. Defaults of the search were chosen on CartPole; the others were never
tuned on. Every row is a file under ``--folder``, from which an interrupted run goes on; the summary of an environment
goes to ``results/uses/control-NAME.json``.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from machine import machine

from potstill.reports.control import cells_of, head_of
from potstill.uses.control import Evolution, control

ENVIRONMENTS = "CartPole-v1:2,MountainCarContinuous-v0:2,Acrobot-v1:3,Pendulum-v1:8"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--environments", default=ENVIRONMENTS)
    parser.add_argument("--generations", type=int, default=Evolution().generations)
    parser.add_argument("--sets", type=int, default=3)
    parser.add_argument("--students", type=int, default=10)
    parser.add_argument("--episodes", type=int, default=5)
    parser.add_argument("--folder", type=Path, default=Path("runs/control"))
    parser.add_argument("--out", type=Path, default=Path("results/uses"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    for one in args.environments.split(","):
        name, _, items = one.partition(":")
        started = time.monotonic()
        result = control(
            name, out=args.folder / name, items=int(items), sets=args.sets, students=args.students,
            episodes=args.episodes, evolution=Evolution(generations=args.generations),
        )  # fmt: skip
        print(f"{name}, {items} pairs, {time.monotonic() - started:.0f} s")
        for row in [head_of(result), *(cells_of(row, result) for row in result["rows"])]:
            print(" | ".join(row))
        print(*result["sentences"], sep="\n", flush=True)
        stored = {k: v for k, v in result.items() if k != "cells"} | {"machine": machine()}
        args.out.mkdir(parents=True, exist_ok=True)
        (args.out / f"control-{name}.json").write_text(json.dumps(stored, indent=1) + "\n")


if __name__ == "__main__":
    main()
