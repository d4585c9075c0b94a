"""`potstill.uses.control.control`: pairs of states and actions found by returns, beside baselines of the same cost."""

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from potstill._util.outputs import check_not_input, describe_foreign_page
from potstill._util.progress import Callback
from potstill.dataset_file import Distilled, load, write_atomic
from potstill.errors import PotstillError
from potstill.execution.executor import torch_threads
from potstill.reports.control import render_control
from potstill.rng import generator
from potstill.uses.cell_files import read_json, write_json
from potstill.uses.control.environment import Environment, episode_seeds, open_environment
from potstill.uses.control.pair_files import build_pairs, read_pairs
from potstill.uses.control.policies import Cloning, parse_policy
from potstill.uses.control.search import (
    Evolution,
    Found,
    Pairs,
    PairSearch,
    Trainer,
    WeightSearch,
    evolve,
    make_trainer,
    search_randomly,
)
from potstill.uses.control.summary import LABELS, conclude

__all__ = [
    "MORE_PAIRS", "MOST_ITEMS", "MOST_SETS", "POLICIES", "check_counts", "check_evolution", "control",
    "measure_returns",
]  # fmt: skip

VERSION = 1
"""Version of the files. It is raised when what is measured changes."""
POLICIES = ("mlp:32", "mlp:128", "mlp:64-64", "linear")
"""Policies that are trained on every set; pairs are sought for the first."""
MORE_PAIRS = 16
"""Factor of pairs in the row of many pairs of a trained policy."""
MOST_ITEMS, MOST_SETS = 4096, 100
_RANDOM_EPISODES = 20
_WEIGHT_SEARCH: Mapping[str, float] = {"sigma": 0.5, "lr": 0.1}
"""Evolution of weights, chosen on CartPole."""


def control(
    environment: str | Environment,
    *,
    out: str | Path,
    items: int = 2,
    distilled: Distilled | str | Path | None = None,
    policies: Sequence[str] = POLICIES,
    sets: int = 1,
    students: int = 10,
    episodes: int = 5,
    evolution: Evolution | None = None,
    cloning: Cloning | None = None,
    seed: int = 0,
    progress: Callback | None = None,
) -> dict[str, Any]:
    """Distil a behaviour into a few pairs of a state and an action, and measure them beside baselines of the same cost.

    Pairs are sought by an evolution strategy: candidates are imitated by new policies, whose returns decide (Lupu et
    al., *Behaviour Distillation*, ICLR 2024, arXiv:2406.15042). Random pairs, the best of random pairs in as many steps
    of the simulator, pairs of a policy that was trained by as many steps, and that policy itself are measured alike.

    ``out`` gets ``pairs-SEED.safetensors``, a file for each row, from which the same call continues where one was
    interrupted; ``control.json``, the result; and ``control.html``, a page.

    Args:
        environment: a Gymnasium id, such as ``CartPole-v1``, or an `Environment`.
        out: folder of the results, made if it is not there.
        items: pairs of a set.
        distilled: a set to measure in place of one that is sought, or its path.
        policies: networks that imitate every set: ``linear`` or ``mlp:32``, ``mlp:64-64``. Pairs are sought for the
            first, and the others never saw them.
        sets: number of sets, each of a seed of its own; intervals are over them if there are several.
        students: policies of each kind that imitate a set, each from new weights.
        episodes: episodes of each policy.
        evolution: settings of the search. Default: those chosen on CartPole.
        cloning: settings of imitation. Default: 100 updates.
        seed: the first seed.
        progress: callback ``progress(name, done, total)``. Default: silent.

    Returns:
        The content of ``control.json``.

    Raises:
        PotstillError: Gymnasium is not installed or has no such simulator, a count is out of range, a set does not fit
            the simulator, or ``out`` holds other measurements.
    """
    check_counts(
        items=(items, MOST_ITEMS), sets=(sets, MOST_SETS), students=(students, 1000), episodes=(episodes, 1000)
    )
    names = tuple(dict.fromkeys(parse_policy(name).name for name in policies))
    if not names:
        raise PotstillError("policies must name at least one network, such as mlp:32; add one")
    settings = evolution or Evolution()
    check_evolution(settings)
    env = open_environment(environment) if isinstance(environment, str) else environment
    small = None if distilled is None else (distilled if isinstance(distilled, Distilled) else load(distilled))
    folder, page = Path(out), Path(out) / "control.html"
    check_not_input(folder, [] if small is None else [small], folder=True)
    if page.exists() and (other := describe_foreign_page(page)):
        raise PotstillError(f"{page}: {other}; choose another folder")
    if small is not None:
        items = len(small)
        read_pairs(small, env)
    if env.discrete and items < env.action_size:
        raise PotstillError(f"{env.name}: {env.action_size} actions need as many pairs, not {items}; give more items")
    imitation = cloning or Cloning()
    common = {
        "version": VERSION, "environment": env.name, "items": items, "policies": list(names), "students": students,
        "episodes": episodes, "evolution": asdict(settings), "cloning": asdict(imitation),
        "set": None if small is None else _digest(small),
    }  # fmt: skip
    report = progress or (lambda *_: None)
    cells = []
    with torch_threads(1):
        for number in range(sets):
            runner = _Runner(
                env=env, items=items, distilled=small, policies=names, students=students, episodes=episodes,
                evolution=settings, cloning=imitation, seed=seed + number, folder=folder, progress=report,
            )  # fmt: skip
            for done, name in enumerate(LABELS):
                report("rows", number * len(LABELS) + done, sets * len(LABELS))
                cells.append(runner.cell(name, {**common, "seed": seed + number, "row": name}))
    report("rows", sets * len(LABELS), sets * len(LABELS))
    result: dict[str, Any] = {
        "settings": {**common, "seed": seed, "sets": sets}, "environment": env.name, "items": items,
        "most_steps": env.most_steps, "cells": cells,
    }  # fmt: skip
    result |= conclude(result)
    write_json(folder / "control.json", result)
    write_atomic(page, render_control(result).encode())
    return result


def check_counts(**counts: tuple[int, int]) -> None:
    """Check whole numbers, each with the most that it may be.

    Raises:
        PotstillError: one is out of its range.
    """
    for name, (value, most) in counts.items():
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
            raise PotstillError(f"{name} must be a whole number from 1 to {most:,}, not {value}; change it")


def check_evolution(settings: Evolution) -> None:
    """Check the settings of a search.

    Raises:
        PotstillError: one is out of its range.
    """
    if settings.population < 2 or settings.population % 2:
        raise PotstillError(f"population must be an even number of at least 2, not {settings.population}; change it")
    counts = {n: getattr(settings, n) for n in ("generations", "episodes", "check_every", "check_episodes")}
    check_counts(**{name: (value, 1_000_000) for name, value in counts.items()})
    if not (settings.sigma > 0 and settings.lr > 0):
        raise PotstillError(f"sigma and lr must be above 0, not {settings.sigma} and {settings.lr}; change them")


def _digest(small: Distilled) -> str:
    """Return a hash of the pairs of a set."""
    digest = hashlib.sha256()
    for tensor in (small.inputs, small.labels, small.normalization.mean, small.normalization.std):
        assert isinstance(tensor, Tensor)
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def measure_returns(
    pairs: Pairs, trainer: Trainer, policies: Sequence[str], students: int, episodes: int, seed: int
) -> dict[str, list[float]]:  # fmt: skip
    """Return the mean return of each student by the name of its policy.

    Args:
        pairs: to imitate.
        trainer: has the simulator and the statistics of its states.
        policies: names of networks.
        students: of each network, all from new weights.
        episodes: of each student.
        seed: of weights and episodes.
    """
    returns = {}
    for name in policies:
        own = replace(trainer, shape=parse_policy(name))
        rng = generator(seed, f"control test {name}")
        weights = own.draw(students, rng)
        states, actions = (part.expand(students, *part.shape).contiguous() for part in (pairs.states, pairs.actions))
        weights = own.cloned(states, actions, weights)
        found = trainer.environment.rollouts(own.act(weights), students, episode_seeds(episodes, rng))
        returns[name] = [round(v, 4) for v in found.returns.mean(1).tolist()]
    return returns


@dataclass(frozen=True, kw_only=True)
class _Runner:
    """Measures the rows of one seed; what one row needs of another is made once."""

    env: Environment
    items: int
    distilled: Distilled | None
    policies: tuple[str, ...]
    students: int
    episodes: int
    evolution: Evolution
    cloning: Cloning
    seed: int
    folder: Path
    progress: Callback

    def cell(self, name: str, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Return a row as JSON values, from its file where that is there."""
        path = self.folder / "cells" / f"{name}-{self.seed}.json"
        cell = read_json(path, settings, "run of a simulator")
        if cell is None:
            started = time.monotonic()
            rows: Mapping[str, Callable[[], dict[str, Any]]] = {
                "set": self._set, "random-pairs": self._random_pairs, "random-search": self._random_search,
                "policy-pairs": lambda: self._policy_pairs(self.items),
                "more-policy-pairs": lambda: self._policy_pairs(MORE_PAIRS * self.items),
                "policy": lambda: self._policy(self.policies[0]), "linear-policy": lambda: self._policy("linear"),
                "random-actions": self._random_actions,
            }  # fmt: skip
            cell = {"name": name, "seed": self.seed, **rows[name]()}
            cell["seconds"] = round(time.monotonic() - started, 1)
            write_json(path, {"settings": settings, **cell})
        return {key: value for key, value in cell.items() if key != "settings"}

    @cached_property
    def trainer(self) -> Trainer:
        return make_trainer(self.env, self.policies[0], self.cloning, self.seed, _RANDOM_EPISODES)[0]

    @property
    def pair_search(self) -> PairSearch:
        return PairSearch(trainer=self.trainer, items=self.items)

    @cached_property
    def evolved(self) -> Found:
        """Pairs by evolution; of a set from a file, none."""
        if self.distilled is not None:
            return Found(row=torch.zeros(0), score=float("nan"), steps=self._planned_steps())
        at = self.folder / "cells" / f"set-{self.seed}.checkpoint.json"
        at.parent.mkdir(parents=True, exist_ok=True)
        return evolve(self.pair_search, self.evolution, self.seed, self._shown("pairs"), at)

    def _planned_steps(self) -> int:
        """Most steps of a search with these settings, which baselines of a set from a file get."""
        e = self.evolution
        looks = 1 + e.generations // e.check_every
        return self.env.most_steps * (e.generations * e.population * e.episodes + looks * e.check_episodes)

    def _shown(self, what: str) -> Callable[[int, int], object]:
        return lambda done, total: self.progress(what, done, total)

    def trained(self, policy: str) -> tuple[WeightSearch, Found]:
        """Return a policy whose weights were evolved, from its file where that is there."""
        trainer = replace(self.trainer, shape=parse_policy(policy))
        search = WeightSearch(trainer=trainer)
        settings = replace(self.evolution, **_WEIGHT_SEARCH)  # type: ignore[arg-type]  # values are numbers
        path = self.folder / "cells" / f"weights-{policy.replace(':', '-')}-{self.seed}.json"
        key = {"evolution": asdict(settings), "environment": self.env.name, "seed": self.seed}
        if (kept := read_json(path, key, "run of a simulator")) is not None:
            return search, Found(row=torch.tensor(kept["row"]), score=kept["score"], steps=kept["steps"])
        found = evolve(search, settings, self.seed, self._shown(policy), path.with_suffix(".checkpoint.json"))
        write_json(path, {"settings": key, "row": found.row.tolist(), "score": found.score, "steps": found.steps})
        return search, found

    def _measured(self, small: Distilled, **more: Any) -> dict[str, Any]:
        """Return the row of a set, as a reader of its file gets it."""
        pairs, trainer = read_pairs(small, self.env), replace(
            self.trainer, mean=small.normalization.mean, std=small.normalization.std
        )  # fmt: skip
        size = int(small.metadata["bytes"]["total"])
        found = measure_returns(pairs, trainer, self.policies, self.students, self.episodes, self.seed)
        return {"returns": found, "items": len(small), "bytes": size, **more}

    def _built(self, pairs: Pairs, how: str, search: Found | None = None) -> Distilled:
        config = {"pairs": how, "policy": self.policies[0], **asdict(self.cloning), **asdict(self.evolution)}
        return build_pairs(pairs, self.trainer, config, self.seed, None if search is None else search.steps)

    def _set(self) -> dict[str, Any]:
        if self.distilled is not None:
            return self._measured(self.distilled)
        found = self.evolved
        states, actions = self.pair_search.pairs(found.row[None])
        small = self._built(Pairs(states=states[0], actions=actions[0]), "evolution", found)
        small.save(self.folder / f"pairs-{self.seed}.safetensors")
        return self._measured(small, steps=found.steps, score=found.score, curve=[list(c) for c in found.curve])

    def _steps(self) -> int:
        """Steps of the simulator that the set took, and baselines get."""
        if self.distilled is not None:
            return self._planned_steps()
        path = self.folder / "cells" / f"set-{self.seed}.json"
        return int(json.loads(path.read_text())["steps"])

    def _random_pairs(self) -> dict[str, Any]:
        rng = generator(self.seed, "control random pairs")
        states, actions = self.pair_search.pairs(self.pair_search.start(rng)[None])
        return self._measured(self._built(Pairs(states=states[0], actions=actions[0]), "random"), steps=0)

    def _random_search(self) -> dict[str, Any]:
        found = search_randomly(self.pair_search, self.evolution, self.seed, self._steps())
        states, actions = self.pair_search.pairs(found.row[None])
        small = self._built(Pairs(states=states[0], actions=actions[0]), "best of random pairs", found)
        return self._measured(small, steps=found.steps, score=found.score)

    def _policy_pairs(self, count: int) -> dict[str, Any]:
        """Measure states that a trained policy visits, drawn evenly, with its actions."""
        search, found = self.trained(self.policies[0])
        act = search.trainer.act(search.weights(found.row[None]))
        rng = generator(self.seed, "control policy states")
        visited = self.env.rollouts(act, 1, episode_seeds(_RANDOM_EPISODES, rng), keep_states=True)
        at = torch.randint(len(visited.states), (count,), generator=rng)
        states = visited.states[at]
        actions = act(states[None])[0]
        actions = actions if self.env.discrete else actions.clamp(-1, 1)
        pairs = Pairs(states=self.trainer.normalise(states), actions=actions)
        return self._measured(self._built(pairs, "states of a trained policy", found), steps=found.steps)

    def _policy(self, policy: str) -> dict[str, Any]:
        """Measure a policy whose weights were evolved; its weights count a byte each."""
        search, found = self.trained(policy)
        rng = generator(self.seed, f"control test {policy}")
        seeds = episode_seeds(self.students * self.episodes, rng)
        returns = self.env.rollouts(search.trainer.act(search.weights(found.row[None])), 1, seeds).returns[0]
        each = returns.reshape(self.students, self.episodes).mean(1)
        return {
            "returns": {policy: [round(v, 4) for v in each.tolist()]}, "bytes": len(found.row), "steps": found.steps,
            "score": found.score,
        }  # fmt: skip

    def _random_actions(self) -> dict[str, Any]:
        rng = generator(self.seed, "control test random actions")

        def act(states: Tensor) -> Tensor:
            shape = states.shape[:2]
            drawn = self.env.random_actions(shape.numel(), rng)
            return drawn.reshape(*shape, *drawn.shape[1:])

        found = self.env.rollouts(act, self.students, episode_seeds(self.episodes, rng))
        return {"returns": {"none": [round(v, 4) for v in found.returns.mean(1).tolist()]}, "bytes": 0, "steps": 0}
