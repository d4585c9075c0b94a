"""`distil_log`: pairs of states and actions from logged episodes alone, beside what else the log can teach.

The simulator serves for measuring; no choice sees it.
"""

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Generator, Tensor

from potstill._util.outputs import check_not_input, describe_foreign_page
from potstill._util.progress import Callback
from potstill.dataset_file import Distilled, write_atomic
from potstill.errors import PotstillError
from potstill.execution.executor import torch_threads
from potstill.reports.control import render_control
from potstill.rng import generator
from potstill.uses.cell_files import read_json, write_json
from potstill.uses.control.environment import Environment, episode_seeds, open_environment, state_statistics
from potstill.uses.control.logs import Log, read_log
from potstill.uses.control.pair_files import build_pairs, read_pairs
from potstill.uses.control.policies import Cloning, parse_policy
from potstill.uses.control.run import (
    MORE_PAIRS,
    MOST_ITEMS,
    MOST_SETS,
    POLICIES,
    check_counts,
    check_evolution,
    measure_returns,
)
from potstill.uses.control.search import Evolution, Found, Pairs, PairSearch, Trainer, evolve
from potstill.uses.control.summary import LOGGED, conclude_log

__all__ = ["LogSearch", "distil_log"]

VERSION = 1
"""Version of the files. It is raised when what is measured changes."""
BATCH, MOST_CLONED = 256, 2048
"""Logged steps by which a candidate is scored; steps that a policy clones at most, drawn evenly."""
_FINALISTS = 8


@dataclass(frozen=True, kw_only=True, eq=False)
class LogSearch:
    """Search for k pairs by how well policies that imitate them predict the actions of good logged episodes."""

    pairs: PairSearch
    states: Float[Tensor, "n d"]
    """Normalised states of good episodes."""
    actions: Tensor

    def start(self, rng: Generator) -> Float[Tensor, " d"]:
        """Return logged states, and the actions taken there."""
        k, env = self.pairs.items, self.pairs.trainer.environment
        at = self.draw(k, rng)
        if env.discrete:
            return self.states[at].flatten()
        return torch.cat([self.states[at].flatten(), self.actions[at].flatten()])

    def draw(self, count: int, rng: Generator) -> Int[Tensor, " k"]:
        """Return random steps, with discrete actions in turn as `PairSearch` has them; one that no step has is free."""
        if not self.pairs.trainer.environment.discrete:
            return torch.randint(len(self.states), (count,), generator=rng)
        wanted = torch.arange(count) % self.pairs.trainer.environment.action_size
        found = []
        for action in wanted.tolist():
            pool = (self.actions == action).nonzero().flatten()
            pool = pool if len(pool) else torch.arange(len(self.actions))
            found.append(int(pool[torch.randint(len(pool), (1,), generator=rng)]))
        return torch.tensor(found)

    def scores(self, rows: Float[Tensor, "p d"], episodes: int, rng: Generator) -> tuple[Float[Tensor, " p"], int]:
        """Return minus the loss of each row's policies on logged steps, and no steps of a simulator.

        Args:
            rows: candidates.
            episodes: policies of each.
            rng: draws policies and steps, the same for all rows.
        """
        trainer, count = self.pairs.trainer, len(rows)
        drawn = trainer.draw(episodes, rng)
        weights = {name: w.repeat(count, *[1] * (w.ndim - 1)) for name, w in drawn.items()}
        states, actions = (part.repeat_interleave(episodes, 0) for part in self.pairs.pairs(rows))
        weights = trainer.cloned(states, actions, weights)
        at = torch.randint(len(self.states), (BATCH,), generator=rng)
        out = trainer.shape(weights, self.states[at].expand(count * episodes, -1, -1).contiguous())
        if trainer.environment.discrete:
            goals = self.actions[at].repeat(count * episodes)
            loss = F.cross_entropy(out.flatten(0, 1), goals, reduction="none").reshape(count, -1).mean(1)
        else:
            loss = (out - self.actions[at]).square().mean((1, 2)).reshape(count, -1).mean(1)
        return -loss, 0


def distil_log(
    environment: str | Environment, log: str | Path | Mapping[str, Any] | Log, *, out: str | Path, items: int = 8,
    best: float = 0.1, policies: Sequence[str] = POLICIES, sets: int = 1, students: int = 10, episodes: int = 5,
    evolution: Evolution | None = None, cloning: Cloning | None = None, seed: int = 0, progress: Callback | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Distil logged episodes with returns into a few pairs, without a step of the simulator, and measure them there.

    Pairs are sought by an evolution strategy: new policies imitate a candidate, and their loss on logged steps of the
    best episodes decides. Beside them stand real steps in the same number (random, random of the best episodes, nearest
    to centres of k-means, the best of as many random candidates), more of them, and policies that clone the best
    episodes, or all.

    ``out`` gets ``pairs-SEED.safetensors``, a file for each row, from which the same call continues where one was
    interrupted; ``control.json``; and ``control.html``.

    Args:
        environment: a Gymnasium id, or an `Environment`, by which rows are measured.
        log: a file or arrays, as for `potstill.uses.control.logs.read_log`, or a `Log`.
        out: folder of the results.
        items: pairs of a set.
        best: fraction of the episodes, those with the highest returns, that pairs are sought by.
        policies, sets, students, episodes, evolution, cloning, seed, progress: as for `potstill.uses.control.control`;
            the episodes of ``evolution`` are policies of a candidate.

    Returns:
        The content of ``control.json``.

    Raises:
        PotstillError: the log cannot be read or is of another simulator, a number is out of its range, or ``out`` holds
            other measurements.
    """
    check_counts(
        items=(items, MOST_ITEMS), sets=(sets, MOST_SETS), students=(students, 1000), episodes=(episodes, 1000)
    )
    if not 0 < best <= 1:
        raise PotstillError(f"best must be a fraction above 0 and at most 1, not {best}; change it")
    names = tuple(dict.fromkeys(parse_policy(name).name for name in policies))
    if not names:
        raise PotstillError("policies must name at least one network, such as mlp:32; add one")
    settings, imitation = evolution or Evolution(), cloning or Cloning()
    check_evolution(settings)
    folder, page = Path(out), Path(out) / "control.html"
    check_not_input(folder, [log] if isinstance(log, str | Path) else [], folder=True)
    if page.exists() and (other := describe_foreign_page(page)):
        raise PotstillError(f"{page}: {other}; choose another folder")
    env = open_environment(environment) if isinstance(environment, str) else environment
    logged = log if isinstance(log, Log) else read_log(log, env)
    if env.discrete and items < env.action_size:
        raise PotstillError(f"{env.name}: {env.action_size} actions need as many pairs, not {items}; give more items")
    returns = logged.returns
    common = {
        "version": VERSION, "environment": env.name, "items": items, "policies": list(names), "students": students,
        "episodes": episodes, "evolution": asdict(settings), "cloning": asdict(imitation), "log": _digest(logged),
        "best": best,
    }  # fmt: skip
    say = progress or (lambda *_: None)
    cells = []
    with torch_threads(1):
        for number in range(sets):
            runner = _Runner(
                env=env, log=logged, items=items, best=best, policies=names, students=students, episodes=episodes,
                evolution=settings, cloning=imitation, seed=seed + number, folder=folder, say=say,
            )  # fmt: skip
            for done, name in enumerate(LOGGED):
                say("rows", number * len(LOGGED) + done, sets * len(LOGGED))
                cells.append(runner.cell(name, {**common, "seed": seed + number, "row": name}))
    say("rows", sets * len(LOGGED), sets * len(LOGGED))
    result: dict[str, Any] = {
        "settings": {**common, "seed": seed, "sets": sets}, "environment": env.name, "items": items,
        "most_steps": env.most_steps, "cells": cells,
        "log": {
            "name": logged.name, "steps": len(logged), "episodes": len(returns), "mean_return": float(returns.mean()),
            "best_return": float(logged.best(best).returns.mean()), "best_steps": len(logged.best(best)),
            "most_cloned": MOST_CLONED,
        },
    }  # fmt: skip
    result |= conclude_log(result)
    write_json(folder / "control.json", result)
    write_atomic(page, render_control(result).encode())
    return result


def _digest(log: Log) -> str:
    digest = hashlib.sha256()
    for tensor in (log.states, log.actions, log.rewards, log.episodes):
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


@dataclass(frozen=True, kw_only=True)
class _Runner:
    """Measures the rows of one seed; what several rows need is made once."""

    env: Environment
    log: Log
    items: int
    best: float
    policies: tuple[str, ...]
    students: int
    episodes: int
    evolution: Evolution
    cloning: Cloning
    seed: int
    folder: Path
    say: Callback

    def cell(self, name: str, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Return a row as JSON values, from its file where that is there."""
        path = self.folder / "cells" / f"{name}-{self.seed}.json"
        cell = read_json(path, settings, "distillation of a log")
        if cell is None:
            started = time.monotonic()
            rows: Mapping[str, Callable[[], dict[str, Any]]] = {
                "set": self._set, "random-logged": lambda: self._steps(self.everything, self.items),
                "random-best": lambda: self._steps(self.search, self.items), "k-means": self._medoids,
                "random-search": self._random_search,
                "more-best": lambda: self._steps(self.search, MORE_PAIRS * self.items),
                "clone-best": lambda: self._clone(self.good), "clone-all": lambda: self._clone(self.log),
                "random-actions": self._random_actions,
            }  # fmt: skip
            cell = {"name": name, "seed": self.seed, **rows[name]()}
            cell["seconds"] = round(time.monotonic() - started, 1)
            write_json(path, {"settings": settings, **cell})
        return {key: value for key, value in cell.items() if key != "settings"}

    @cached_property
    def trainer(self) -> Trainer:
        mean, std = state_statistics(self.log.states)
        shape = parse_policy(self.policies[0])
        return Trainer(environment=self.env, shape=shape, mean=mean, std=std, cloning=self.cloning)

    @cached_property
    def good(self) -> Log:
        return self.log.best(self.best)

    def _search_of(self, log: Log) -> LogSearch:
        pairs = PairSearch(trainer=self.trainer, items=self.items)
        return LogSearch(pairs=pairs, states=self.trainer.normalise(log.states), actions=log.actions)

    @cached_property
    def search(self) -> LogSearch:
        return self._search_of(self.good)

    @cached_property
    def everything(self) -> LogSearch:
        return self._search_of(self.log)

    def _measured(self, pairs: Pairs, how: str, **more: Any) -> dict[str, Any]:
        """Return the row of pairs, as a reader of their file gets them."""
        small = self._built(pairs, how)
        return self._returns(read_pairs(small, self.env), small) | more

    def _returns(self, pairs: Pairs, small: Distilled) -> dict[str, Any]:
        trainer = replace(self.trainer, mean=small.normalization.mean, std=small.normalization.std)
        found = measure_returns(pairs, trainer, self.policies, self.students, self.episodes, self.seed)
        size = int(small.metadata["bytes"]["total"])
        return {"returns": found, "items": len(pairs.states), "bytes": size, "steps": 0}

    def _built(self, pairs: Pairs, how: str) -> Distilled:
        config = {"pairs": how, "policy": self.policies[0], "best": self.best, **asdict(self.cloning)}
        return build_pairs(pairs, self.trainer, config, self.seed, 0)

    def _of_row(self, row: Float[Tensor, " d"]) -> Pairs:
        states, actions = self.search.pairs.pairs(row[None])
        return Pairs(states=states[0], actions=actions[0])

    def _set(self) -> dict[str, Any]:
        at = self.folder / "cells" / f"set-{self.seed}.checkpoint.json"
        at.parent.mkdir(parents=True, exist_ok=True)
        found = evolve(
            self.search, self.evolution, self.seed, lambda done, total: self.say("pairs", done, total), at
        )  # fmt: skip
        pairs = self._of_row(found.row)
        self._built(pairs, "logged episodes").save(self.folder / f"pairs-{self.seed}.safetensors")
        return self._measured(pairs, "logged episodes", score=found.score)

    def _steps(self, search: LogSearch, count: int) -> dict[str, Any]:
        """Measure random logged steps."""
        at = search.draw(count, generator(self.seed, "control log steps"))
        return self._measured(Pairs(states=search.states[at], actions=search.actions[at]), "logged steps")

    def _medoids(self) -> dict[str, Any]:
        """Measure the steps nearest to k-means centres of good episodes' states, among those of each action."""
        from sklearn.cluster import KMeans

        search, found = self.search, []
        actions = search.actions if self.env.discrete else torch.zeros(len(search.states), dtype=torch.int64)
        present = torch.unique(actions).tolist()
        for n, action in enumerate(present):
            pool = (actions == action).nonzero().flatten()
            count = min(len(pool), self.items // len(present) + (n < self.items % len(present)))
            if not count:
                continue
            x = search.states[pool]
            centres = KMeans(count, n_init=3, random_state=self.seed).fit(x.numpy()).cluster_centers_
            found.append(pool[torch.cdist(torch.from_numpy(centres).float(), x).argmin(1)])
        at = torch.cat(found)
        return self._measured(Pairs(states=search.states[at], actions=search.actions[at]), "medoids")

    def _random_search(self) -> dict[str, Any]:
        """Measure the best of as many random candidates as the evolution has, by the same score."""
        e, search = self.evolution, self.search
        rows: list[Tensor] = []
        scores: list[float] = []
        for n in range(e.generations):
            rng = generator(self.seed, f"control log random {n}")
            batch = torch.stack([search.start(rng) for _ in range(e.population)])
            rows += list(batch)
            scores += search.scores(batch, e.episodes, rng)[0].tolist()
        order = sorted(range(len(rows)), key=lambda i: -scores[i])[:_FINALISTS]
        finalists = torch.stack([rows[i] for i in order])
        again = search.scores(finalists, e.check_episodes, generator(self.seed, "control check"))[0]
        found = Found(row=finalists[int(again.argmax())], score=float(again.max()), steps=0)
        return self._measured(self._of_row(found.row), "best of random steps", score=found.score)

    def _clone(self, log: Log) -> dict[str, Any]:
        """Measure policies that clone logged steps, at most `MOST_CLONED` of them; the bytes are those of all."""
        rng = generator(self.seed, "control log clone")
        at = torch.randperm(len(log), generator=rng)[:MOST_CLONED]
        pairs = Pairs(states=self.trainer.normalise(log.states[at]), actions=log.actions[at])
        found = measure_returns(pairs, self.trainer, self.policies, self.students, self.episodes, self.seed)
        each = self.env.state_size + (1 if self.env.discrete else self.env.action_size)
        return {"returns": found, "items": len(log), "bytes": 4 * each * len(log), "steps": 0}

    def _random_actions(self) -> dict[str, Any]:
        rng = generator(self.seed, "control test random actions")

        def act(states: Tensor) -> Tensor:
            shape = states.shape[:2]
            drawn = self.env.random_actions(shape.numel(), rng)
            return drawn.reshape(*shape, *drawn.shape[1:])

        found = self.env.rollouts(act, self.students, episode_seeds(self.episodes, rng))
        return {"returns": {"none": [round(v, 4) for v in found.returns.mean(1).tolist()]}, "bytes": 0, "steps": 0}
