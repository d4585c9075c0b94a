"""Pairs distilled from logged episodes alone, beside logged steps in the same number and policies that clone the log.

    python benchmarks/uses/logged.py [--environments CartPole-v1:4,Acrobot-v1:6,MountainCarContinuous-v0:4] [--sets 3]

A log is 100 episodes of each simulator by policies of several skills: 40 by random actions, 30 by a linear map that was
evolved for a few generations, and 30 by one that was evolved for many, of whose actions one in five is random. It is
written as an ``.npz`` of observations, actions, rewards, terminals and timeouts, and read as anybody's. The best tenth
of its episodes counts. Nothing was tuned on these logs; settings are those of ``control.py``. Every row is a file under
``--folder``, from which an interrupted run goes on; the summary goes to ``results/uses/logged-NAME.json``.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from machine import machine

from potstill.reports.control import cells_of, head_of
from potstill.rng import generator
from potstill.uses.control import Cloning, Environment, Evolution, distil_log
from potstill.uses.control.environment import episode_seeds, open_environment
from potstill.uses.control.search import WeightSearch, evolve, make_trainer

ENVIRONMENTS = "CartPole-v1:4,Acrobot-v1:6,MountainCarContinuous-v0:4"
SKILLS = ((0, 40), (4, 30), (30, 30))
"""Generations of evolution, and episodes of that policy."""
NOISE = 0.2
WEIGHTS = {"sigma": 0.5, "lr": 0.1, "population": 16, "check_every": 2}


def episode(env: Environment, act: Any, seed: int, rng: torch.Generator) -> dict[str, list[Any]]:
    """Return the steps of an episode, of whose actions a part is random."""
    simulator = env.make()
    state, _ = simulator.reset(seed=seed)
    log: dict[str, list[Any]] = {n: [] for n in ("observations", "actions", "rewards", "terminals", "timeouts")}
    for step in range(env.most_steps):
        action = env.random_actions(1, rng)
        if act is not None and float(torch.rand(1, generator=rng)) >= NOISE:
            action = act(torch.as_tensor(np.asarray(state, np.float32))[None, None])[0]
        taken = env._to_simulator(action)[0]
        after, reward, ended, cut, _ = simulator.step(taken)
        for name, value in zip(log, (state, taken, reward, ended, cut or step + 1 == env.most_steps), strict=True):
            log[name].append(value)
        state = after
        if ended or cut:
            break
    return log


def write_log(env: Environment, path: Path) -> None:
    """Write the log of a simulator."""
    trainer, _ = make_trainer(env, "linear", Cloning(), 7, 20)
    search, parts = WeightSearch(trainer=trainer), []
    for generations, count in SKILLS:
        act = None
        if generations:
            found = evolve(search, Evolution(generations=generations, **WEIGHTS), 7, lambda *_: None)  # type: ignore[arg-type]
            act = trainer.act(search.weights(found.row[None]))
        rng = generator(7, "logged", generations)
        parts += [episode(env, act, seed, rng) for seed in episode_seeds(count, rng)]
    arrays = {name: np.concatenate([np.asarray(part[name]) for part in parts]) for name in parts[0]}
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, **arrays)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--environments", default=ENVIRONMENTS)
    parser.add_argument("--sets", type=int, default=3)
    parser.add_argument("--students", type=int, default=10)
    parser.add_argument("--episodes", type=int, default=5)
    parser.add_argument("--generations", type=int, default=Evolution().generations)
    parser.add_argument("--folder", type=Path, default=Path("runs/logged"))
    parser.add_argument("--out", type=Path, default=Path("results/uses"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    for one in args.environments.split(","):
        name, _, items = one.partition(":")
        path, env = args.folder / f"{name}.npz", open_environment(name)
        if not path.exists():
            write_log(env, path)
        result = distil_log(
            env, path, out=args.folder / name, items=int(items), sets=args.sets, students=args.students,
            episodes=args.episodes, evolution=Evolution(generations=args.generations),
        )  # fmt: skip
        for row in [head_of(result), *(cells_of(row, result) for row in result["rows"])]:
            print(" | ".join(row))
        print(*result["sentences"], sep="\n", flush=True)
        stored = {k: v for k, v in result.items() if k != "cells"} | {"machine": machine()}
        args.out.mkdir(parents=True, exist_ok=True)
        (args.out / f"logged-{name}.json").write_text(json.dumps(stored, indent=1) + "\n")


if __name__ == "__main__":
    main()
