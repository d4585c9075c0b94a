"""`distil_log`: pairs of states and actions from logged episodes alone, beside what else the log can teach.

The simulator serves for measuring; no choice sees it.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Generator, Tensor

from potstill._util.outputs import check_not_input
from potstill._util.progress import Callback
from potstill.dataset_file import Distilled
from potstill.errors import PotstillError
from potstill.rng import generator
from potstill.uses.control.environment import Environment, open_environment, state_statistics
from potstill.uses.control.logs import Log, read_log
from potstill.uses.control.pair_files import build_pairs
from potstill.uses.control.policies import Cloning, parse_policy
from potstill.uses.control.rows import (
    MORE_PAIRS,
    MOST_ITEMS,
    MOST_SETS,
    POLICIES,
    RowRunner,
    check_counts,
    check_evolution,
    check_items,
    check_page,
    measure_returns,
    measure_rows,
    parse_policies,
    write_result,
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
    names = parse_policies(policies)
    settings, imitation = evolution or Evolution(), cloning or Cloning()
    check_evolution(settings)
    folder = Path(out)
    check_not_input(folder, [log] if isinstance(log, str | Path) else [], folder=True)
    check_page(folder)
    env = open_environment(environment) if isinstance(environment, str) else environment
    logged = log if isinstance(log, Log) else read_log(log, env)
    check_items(env, items)
    returns = logged.returns
    common = {
        "version": VERSION, "environment": env.name, "items": items, "policies": list(names), "students": students,
        "episodes": episodes, "evolution": asdict(settings), "cloning": asdict(imitation), "log": _digest(logged),
        "best": best,
    }  # fmt: skip
    say = progress or (lambda *_: None)

    def make_runner(set_seed: int) -> _Runner:
        return _Runner(
            env=env, log=logged, items=items, best=best, policies=names, students=students, episodes=episodes,
            evolution=settings, cloning=imitation, seed=set_seed, folder=folder, progress=say,
        )  # fmt: skip

    cells = measure_rows(make_runner, tuple(LOGGED), common, range(seed, seed + sets), say)
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
    write_result(folder, result)
    return result


def _digest(log: Log) -> str:
    digest = hashlib.sha256()
    for tensor in (log.states, log.actions, log.rewards, log.episodes):
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


@dataclass(frozen=True, kw_only=True)
class _Runner(RowRunner):
    """Measures the rows of one seed."""

    described = "distillation of a log"
    log: Log
    best: float

    @property
    def rows(self) -> Mapping[str, Callable[[], dict[str, Any]]]:
        return {
            "set": self._set, "random-logged": lambda: self._steps(self.everything, self.items),
            "random-best": lambda: self._steps(self.search, self.items), "k-means": self._medoids,
            "random-search": self._random_search,
            "more-best": lambda: self._steps(self.search, MORE_PAIRS * self.items),
            "clone-best": lambda: self._clone(self.good), "clone-all": lambda: self._clone(self.log),
            "random-actions": self.measure_random_actions,
        }  # fmt: skip

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
        return self.measure_set(self._built(pairs, how), steps=0, **more)

    def _built(self, pairs: Pairs, how: str) -> Distilled:
        config = {"pairs": how, "policy": self.policies[0], "best": self.best, **asdict(self.cloning)}
        return build_pairs(pairs, self.trainer, config, self.seed, 0)

    def _of_row(self, row: Float[Tensor, " d"]) -> Pairs:
        states, actions = self.search.pairs.pairs(row[None])
        return Pairs(states=states[0], actions=actions[0])

    def _set(self) -> dict[str, Any]:
        found = evolve(self.search, self.evolution, self.seed, self.search_progress("pairs"), self.checkpoint())
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
