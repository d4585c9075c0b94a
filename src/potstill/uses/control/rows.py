"""Rows of a table of behaviours: each measured by one seed, stored in a file, and not measured again."""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor

from potstill._util.outputs import describe_foreign_page
from potstill._util.progress import Callback
from potstill.dataset_file import Distilled, write_atomic
from potstill.errors import PotstillError
from potstill.execution.executor import torch_threads
from potstill.reports.control import render_control
from potstill.rng import generator
from potstill.uses.cell_files import read_json, write_json
from potstill.uses.control.environment import Environment, episode_seeds
from potstill.uses.control.pair_files import read_pairs
from potstill.uses.control.policies import Cloning, parse_policy
from potstill.uses.control.search import Evolution, Pairs, Trainer

__all__ = [
    "MORE_PAIRS", "MOST_ITEMS", "MOST_SETS", "POLICIES", "RowRunner", "check_counts", "check_evolution", "check_items",
    "check_page", "measure_returns", "measure_rows", "parse_policies", "write_result",
]  # fmt: skip

POLICIES = ("mlp:32", "mlp:128", "mlp:64-64", "linear")
"""Policies that are trained on every set; pairs are sought for the first."""
MORE_PAIRS = 16
"""Factor of pairs in the row of many pairs."""
MOST_ITEMS, MOST_SETS = 4096, 100


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


def parse_policies(policies: Sequence[str]) -> tuple[str, ...]:
    """Return the names of different policies.

    Raises:
        PotstillError: there is none, or one is unknown.
    """
    names = tuple(dict.fromkeys(parse_policy(name).name for name in policies))
    if not names:
        raise PotstillError("policies must name at least one network, such as mlp:32; add one")
    return names


def check_items(env: Environment, items: int) -> None:
    """Check that there is a pair for every discrete action.

    Raises:
        PotstillError: there are fewer.
    """
    if env.discrete and items < env.action_size:
        raise PotstillError(f"{env.name}: {env.action_size} actions need as many pairs, not {items}; give more items")


def check_page(folder: Path) -> None:
    """Check that ``control.html`` of a folder may be written.

    Raises:
        PotstillError: it is no page of Potstill's.
    """
    page = folder / "control.html"
    if page.exists() and (other := describe_foreign_page(page)):
        raise PotstillError(f"{page}: {other}; choose another folder")


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
class RowRunner(ABC):
    """Base of what measures the rows of one seed; what several rows need is made once."""

    described: ClassVar[str]
    """Name of such a measurement, for the message about files of another one."""
    env: Environment
    items: int
    policies: tuple[str, ...]
    students: int
    episodes: int
    evolution: Evolution
    cloning: Cloning
    seed: int
    folder: Path
    progress: Callback

    @property
    @abstractmethod
    def trainer(self) -> Trainer:
        """Imitation of pairs by the first policy."""

    @property
    @abstractmethod
    def rows(self) -> Mapping[str, Callable[[], dict[str, Any]]]:
        """Functions that measure the rows, by name."""

    def cell(self, name: str, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Return a row as JSON values, from its file where that is there."""
        path = self.folder / "cells" / f"{name}-{self.seed}.json"
        cell = read_json(path, settings, self.described)
        if cell is None:
            started = time.monotonic()
            cell = {"name": name, "seed": self.seed, **self.rows[name]()}
            cell["seconds"] = round(time.monotonic() - started, 1)
            write_json(path, {"settings": settings, **cell})
        return {key: value for key, value in cell.items() if key != "settings"}

    def search_progress(self, what: str) -> Callable[[int, int], object]:
        """Return a callback of a search."""
        return lambda done, total: self.progress(what, done, total)

    def checkpoint(self) -> Path:
        """Return the file from which an interrupted search for the set goes on."""
        at = self.folder / "cells" / f"set-{self.seed}.checkpoint.json"
        at.parent.mkdir(parents=True, exist_ok=True)
        return at

    def measure_set(self, small: Distilled, **more: Any) -> dict[str, Any]:
        """Return the row of a set, as a reader of its file gets it."""
        trainer = replace(self.trainer, mean=small.normalization.mean, std=small.normalization.std)
        found = measure_returns(
            read_pairs(small, self.env), trainer, self.policies, self.students, self.episodes, self.seed
        )
        return {"returns": found, "items": len(small), "bytes": int(small.metadata["bytes"]["total"]), **more}

    def measure_random_actions(self) -> dict[str, Any]:
        """Return the row of actions that no policy chooses."""
        rng = generator(self.seed, "control test random actions")

        def act(states: Tensor) -> Tensor:
            shape = states.shape[:2]
            drawn = self.env.random_actions(shape.numel(), rng)
            return drawn.reshape(*shape, *drawn.shape[1:])

        found = self.env.rollouts(act, self.students, episode_seeds(self.episodes, rng))
        return {"returns": {"none": [round(v, 4) for v in found.returns.mean(1).tolist()]}, "bytes": 0, "steps": 0}


def measure_rows(
    make: Callable[[int], RowRunner], names: Sequence[str], settings: Mapping[str, Any], seeds: Sequence[int],
    report: Callback,
) -> list[dict[str, Any]]:  # fmt: skip
    """Return the cells of all rows and seeds.

    Args:
        make: returns the runner of a seed.
        names: of the rows, in the order in which they are measured.
        settings: all that decides a cell but its seed and row.
        seeds: one for each set.
        report: callback ``report("rows", done, total)``.
    """
    cells, total = [], len(seeds) * len(names)
    with torch_threads(1):
        for number, seed in enumerate(seeds):
            runner = make(seed)
            for done, name in enumerate(names):
                report("rows", number * len(names) + done, total)
                cells.append(runner.cell(name, {**settings, "seed": seed, "row": name}))
    report("rows", total, total)
    return cells


def write_result(folder: Path, result: Mapping[str, Any]) -> None:
    """Write ``control.json`` and the page ``control.html``."""
    write_json(folder / "control.json", result)
    write_atomic(folder / "control.html", render_control(result).encode())
