"""`potstill.uses.control.control`: pairs of states and actions found by returns, beside baselines of the same cost."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from potstill._util.outputs import check_not_input
from potstill._util.progress import Callback
from potstill.dataset_file import Distilled, load
from potstill.rng import generator
from potstill.uses.cell_files import read_json, write_json
from potstill.uses.control.environment import Environment, episode_seeds, open_environment
from potstill.uses.control.pair_files import build_pairs, read_pairs
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
    measure_rows,
    parse_policies,
    write_result,
)
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

__all__ = ["control"]

VERSION = 1
"""Version of the files. It is raised when what is measured changes."""
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
    names = parse_policies(policies)
    settings = evolution or Evolution()
    check_evolution(settings)
    env = open_environment(environment) if isinstance(environment, str) else environment
    small = None if distilled is None else (distilled if isinstance(distilled, Distilled) else load(distilled))
    folder = Path(out)
    check_not_input(folder, [] if small is None else [small], folder=True)
    check_page(folder)
    if small is not None:
        items = len(small)
        read_pairs(small, env)
    check_items(env, items)
    imitation = cloning or Cloning()
    common = {
        "version": VERSION, "environment": env.name, "items": items, "policies": list(names), "students": students,
        "episodes": episodes, "evolution": asdict(settings), "cloning": asdict(imitation),
        "set": None if small is None else _digest(small),
    }  # fmt: skip
    report = progress or (lambda *_: None)

    def make_runner(set_seed: int) -> _Runner:
        return _Runner(
            env=env, items=items, distilled=small, policies=names, students=students, episodes=episodes,
            evolution=settings, cloning=imitation, seed=set_seed, folder=folder, progress=report,
        )  # fmt: skip

    cells = measure_rows(make_runner, tuple(LABELS), common, range(seed, seed + sets), report)
    result: dict[str, Any] = {
        "settings": {**common, "seed": seed, "sets": sets}, "environment": env.name, "items": items,
        "most_steps": env.most_steps, "cells": cells,
    }  # fmt: skip
    result |= conclude(result)
    write_result(folder, result)
    return result


def _digest(small: Distilled) -> str:
    """Return a hash of the pairs of a set."""
    digest = hashlib.sha256()
    for tensor in (small.inputs, small.labels, small.normalization.mean, small.normalization.std):
        assert isinstance(tensor, Tensor)
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


@dataclass(frozen=True, kw_only=True)
class _Runner(RowRunner):
    """Measures the rows of one seed; what one row needs of another is made once."""

    described = "run of a simulator"
    distilled: Distilled | None

    @property
    def rows(self) -> Mapping[str, Callable[[], dict[str, Any]]]:
        return {
            "set": self._set, "random-pairs": self._random_pairs, "random-search": self._random_search,
            "policy-pairs": lambda: self._policy_pairs(self.items),
            "more-policy-pairs": lambda: self._policy_pairs(MORE_PAIRS * self.items),
            "policy": lambda: self._policy(self.policies[0]), "linear-policy": lambda: self._policy("linear"),
            "random-actions": self.measure_random_actions,
        }  # fmt: skip

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
        return evolve(self.pair_search, self.evolution, self.seed, self.search_progress("pairs"), self.checkpoint())

    def _planned_steps(self) -> int:
        """Most steps of a search with these settings, which baselines of a set from a file get."""
        e = self.evolution
        looks = 1 + e.generations // e.check_every
        return self.env.most_steps * (e.generations * e.population * e.episodes + looks * e.check_episodes)

    def trained(self, policy: str) -> tuple[WeightSearch, Found]:
        """Return a policy whose weights were evolved, from its file where that is there."""
        trainer = replace(self.trainer, shape=parse_policy(policy))
        search = WeightSearch(trainer=trainer)
        settings = replace(self.evolution, **_WEIGHT_SEARCH)  # type: ignore[arg-type]  # values are numbers
        path = self.folder / "cells" / f"weights-{policy.replace(':', '-')}-{self.seed}.json"
        key = {"evolution": asdict(settings), "environment": self.env.name, "seed": self.seed}
        if (kept := read_json(path, key, "run of a simulator")) is not None:
            return search, Found(row=torch.tensor(kept["row"]), score=kept["score"], steps=kept["steps"])
        found = evolve(search, settings, self.seed, self.search_progress(policy), path.with_suffix(".checkpoint.json"))
        write_json(path, {"settings": key, "row": found.row.tolist(), "score": found.score, "steps": found.steps})
        return search, found

    def _built(self, pairs: Pairs, how: str, search: Found | None = None) -> Distilled:
        config = {"pairs": how, "policy": self.policies[0], **asdict(self.cloning), **asdict(self.evolution)}
        return build_pairs(pairs, self.trainer, config, self.seed, None if search is None else search.steps)

    def _set(self) -> dict[str, Any]:
        if self.distilled is not None:
            return self.measure_set(self.distilled)
        found = self.evolved
        states, actions = self.pair_search.pairs(found.row[None])
        small = self._built(Pairs(states=states[0], actions=actions[0]), "evolution", found)
        small.save(self.folder / f"pairs-{self.seed}.safetensors")
        return self.measure_set(small, steps=found.steps, score=found.score, curve=[list(c) for c in found.curve])

    def _steps(self) -> int:
        """Steps of the simulator that the set took, and baselines get."""
        if self.distilled is not None:
            return self._planned_steps()
        path = self.folder / "cells" / f"set-{self.seed}.json"
        return int(json.loads(path.read_text())["steps"])

    def _random_pairs(self) -> dict[str, Any]:
        rng = generator(self.seed, "control random pairs")
        states, actions = self.pair_search.pairs(self.pair_search.start(rng)[None])
        return self.measure_set(self._built(Pairs(states=states[0], actions=actions[0]), "random"), steps=0)

    def _random_search(self) -> dict[str, Any]:
        found = search_randomly(self.pair_search, self.evolution, self.seed, self._steps())
        states, actions = self.pair_search.pairs(found.row[None])
        small = self._built(Pairs(states=states[0], actions=actions[0]), "best of random pairs", found)
        return self.measure_set(small, steps=found.steps, score=found.score)

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
        return self.measure_set(self._built(pairs, "states of a trained policy", found), steps=found.steps)

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
