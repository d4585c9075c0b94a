"""Search by returns alone: an evolution strategy over pairs or weights, and random search with as many steps."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor

from potstill.dataset_file import write_atomic
from potstill.errors import PotstillError
from potstill.functional.evolution import antithetic_noise, centred_ranks, evolution_gradient
from potstill.functional.optim import adaptive_step
from potstill.rng import generator
from potstill.uses.control.environment import Environment, episode_seeds, state_statistics
from potstill.uses.control.policies import Cloning, PolicyShape, Weights, clone, parse_policy, to_rows

__all__ = ["Evolution", "Found", "PairSearch", "Pairs", "WeightSearch", "evolve", "search_randomly"]

_SAVE_EVERY = 10
"""Generations between two checkpoints."""
_FINALISTS = 8
"""Random candidates that are scored a second time, as long as the mean of an evolution strategy is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evolution:
    """Settings of the evolution strategy; chosen on CartPole."""

    generations: int = 100
    population: int = 32
    """Candidates of a generation, an even number."""
    sigma: float = 0.5
    """Standard deviation of the perturbations, in standard deviations of a state."""
    lr: float = 0.3
    """Adam's learning rate, in the same unit."""
    episodes: int = 2
    """Episodes of each candidate, each by another network."""
    check_every: int = 10
    """Generations between two looks at the mean on other episodes; the best mean counts."""
    check_episodes: int = 16


@runtime_checkable
class Search(Protocol):
    """Rows of numbers, each of which has returns, and where a search among them starts."""

    def start(self, rng: Generator) -> Float[Tensor, " d"]:
        """Return a first row."""
        ...

    def scores(
        self, rows: Float[Tensor, "p d"], episodes: int, rng: Generator
    ) -> tuple[Float[Tensor, " p"], int]:  # fmt: skip
        """Return the mean return of each row, and the steps of the simulator; all rows get the same draws."""
        ...


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """States and actions to imitate."""

    states: Float[Tensor, "k d"]
    """Normalised states."""
    actions: Tensor
    """Numbers of actions (k,), or actions in [−1, 1] (k, a)."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Trainer:
    """Draws policies, lets them imitate, and asks for their returns."""

    environment: Environment
    shape: PolicyShape
    mean: Float[Tensor, " d"]
    std: Float[Tensor, " d"]
    cloning: Cloning

    def normalise(self, states: Tensor) -> Tensor:
        """Return states in standard deviations of those that random actions visit."""
        return (states - self.mean) / self.std

    def draw(self, count: int, rng: Generator) -> Weights:
        """Return new policies."""
        env = self.environment
        return self.shape.draw(count, env.state_size, env.action_size, rng)

    def act(self, weights: Weights) -> Callable[[Float[Tensor, "p e d"]], Tensor]:
        """Return what chooses actions by these policies."""

        def choose(states: Float[Tensor, "p e d"]) -> Tensor:
            out = self.shape(weights, self.normalise(states))
            return out.argmax(2) if self.environment.discrete else out

        return choose

    def cloned(self, states: Float[Tensor, "p k d"], actions: Tensor, weights: Weights) -> Weights:
        """Return the policies after imitation."""
        return clone(self.shape, weights, states, actions, self.cloning)


@dataclass(frozen=True, kw_only=True, eq=False)
class PairSearch:
    """Search for k pairs by the returns of policies that imitate them.

    Discrete actions are dealt in turn, and only the states are sought; numbers of actions are sought, too.
    """

    trainer: Trainer
    items: int

    @property
    def actions(self) -> Int[Tensor, " k"]:
        """Discrete actions of the pairs."""
        return torch.arange(self.items) % self.trainer.environment.action_size

    def start(self, rng: Generator) -> Float[Tensor, " d"]:
        """Return states as random ones are, and actions near the middle."""
        env = self.trainer.environment
        states = torch.randn(self.items * env.state_size, generator=rng)
        if env.discrete:
            return states
        return torch.cat([states, 0.3 * torch.randn(self.items * env.action_size, generator=rng)])

    def pairs(self, rows: Float[Tensor, "p d"]) -> tuple[Float[Tensor, "p k s"], Tensor]:
        """Return states and actions of rows."""
        env, k = self.trainer.environment, self.items
        states = rows[:, : k * env.state_size].reshape(-1, k, env.state_size)
        if env.discrete:
            return states, self.actions.expand(len(rows), -1)
        return states, rows[:, k * env.state_size :].reshape(-1, k, env.action_size).clamp(-1, 1)

    def scores(self, rows: Float[Tensor, "p d"], episodes: int, rng: Generator) -> tuple[Float[Tensor, " p"], int]:
        """Return the mean return of policies that imitate each row: one network for each episode."""
        trainer, count = self.trainer, len(rows)
        drawn = trainer.draw(episodes, rng)
        weights = {name: w.repeat(count, *[1] * (w.ndim - 1)) for name, w in drawn.items()}
        states, actions = (part.repeat_interleave(episodes, 0) for part in self.pairs(rows))
        weights = trainer.cloned(states, actions, weights)
        seeds = episode_seeds(episodes, rng)

        def act(current: Float[Tensor, "p e s"]) -> Tensor:
            chosen = trainer.act(weights)(current.reshape(count * episodes, 1, -1))
            return chosen.reshape(count, episodes, *chosen.shape[2:])

        found = trainer.environment.rollouts(act, count, seeds)
        return found.returns.mean(1).float(), found.steps


@dataclass(frozen=True, kw_only=True, eq=False)
class WeightSearch:
    """Search for the weights of one policy by its returns: what a set competes with."""

    trainer: Trainer

    def start(self, rng: Generator) -> Float[Tensor, " d"]:
        """Return the weights of a new policy."""
        return to_rows(self.trainer.draw(1, rng))[0]

    def weights(self, rows: Float[Tensor, "p d"]) -> Weights:
        """Return the policies of rows."""
        env = self.trainer.environment
        return self.trainer.shape.from_rows(rows, env.state_size, env.action_size)

    def scores(self, rows: Float[Tensor, "p d"], episodes: int, rng: Generator) -> tuple[Float[Tensor, " p"], int]:
        """Return the mean return of each policy."""
        found = self.trainer.environment.rollouts(
            self.trainer.act(self.weights(rows)), len(rows), episode_seeds(episodes, rng)
        )
        return found.returns.mean(1).float(), found.steps


@dataclass(frozen=True, kw_only=True)
class Found:
    """Result of a search."""

    row: Float[Tensor, " d"]
    score: float
    """Mean return when it was chosen: of other episodes than those of any test."""
    steps: int
    """Steps of the simulator."""
    curve: tuple[tuple[int, float], ...] = ()
    """Steps and score at each look."""


@dataclass(frozen=True, kw_only=True)
class _State:
    x: Float[Tensor, " d"]
    first: Float[Tensor, " d"]
    second: Float[Tensor, " d"]
    best: Float[Tensor, " d"]
    score: float
    generation: int = 0
    steps: int = 0
    curve: tuple[tuple[int, float], ...] = ()


def evolve(
    search: Search, settings: Evolution, seed: int, progress: Callable[[int, int], object],
    checkpoint: Path | None = None,
) -> Found:  # fmt: skip
    """Return the best mean of an evolution strategy.

    Args:
        search: what is searched.
        settings: of the strategy.
        seed: of every draw.
        progress: callback of the numbers of finished and all generations.
        checkpoint: JSON file from which an interrupted search goes on, to the same bits; removed at the end.
    """
    state = _read(checkpoint, settings, seed)
    if state is None:
        x = search.start(generator(seed, "control start"))
        state = _State(x=x, first=torch.zeros_like(x), second=torch.zeros_like(x), best=x, score=float("-inf"))
        state = _looked(search, settings, seed, state)
    while state.generation < settings.generations:
        progress(state.generation, settings.generations)
        state = _generation(search, settings, seed, state)
        if state.generation % settings.check_every == 0 or state.generation == settings.generations:
            state = _looked(search, settings, seed, state)
        if checkpoint is not None and state.generation % _SAVE_EVERY == 0:
            _write(checkpoint, settings, seed, state)
    progress(state.generation, settings.generations)
    if checkpoint is not None:
        checkpoint.unlink(missing_ok=True)
    return Found(row=state.best, score=state.score, steps=state.steps, curve=state.curve)


def _generation(search: Search, settings: Evolution, seed: int, state: _State) -> _State:
    rng = generator(seed, f"control generation {state.generation}")
    noise = antithetic_noise(settings.population // 2, len(state.x), rng)
    scores, steps = search.scores(state.x + settings.sigma * noise, settings.episodes, rng)
    slope = evolution_gradient(noise, centred_ranks(scores), settings.sigma)
    x, first, second = adaptive_step(
        "adamw", {"x": state.x}, {"x": -slope}, {"x": state.first}, {"x": state.second}, state.generation,
        lr=settings.lr,
    )  # fmt: skip
    return replace(
        state, x=x["x"], first=first["x"], second=second["x"], generation=state.generation + 1,
        steps=state.steps + steps,
    )  # fmt: skip


def _looked(search: Search, settings: Evolution, seed: int, state: _State) -> _State:
    """Return the state after a look at the mean; every look has the same episodes."""
    scores, steps = search.scores(state.x[None], settings.check_episodes, generator(seed, "control check"))
    score, after = float(scores[0]), state.steps + steps
    better = score > state.score
    return replace(
        state, steps=after, curve=(*state.curve, (after, score)), best=state.x if better else state.best,
        score=score if better else state.score,
    )  # fmt: skip


def _write(path: Path, settings: Evolution, seed: int, state: _State) -> None:
    value = {name: v.tolist() if isinstance(v, Tensor) else v for name, v in vars(state).items()}
    write_atomic(path, json.dumps({"settings": asdict(settings), "seed": seed, "state": value}).encode())


def _read(path: Path | None, settings: Evolution, seed: int) -> _State | None:
    """Return the state of an interrupted search; numbers of JSON are those of float32 exactly."""
    if path is None or not path.exists():
        return None
    try:
        content = json.loads(path.read_text())
        same = content["settings"] == asdict(settings) and content["seed"] == seed
        value = content["state"]
        tensors = {name: torch.tensor(value[name]) for name in ("x", "first", "second", "best")}
        state = _State(
            **tensors, score=float(value["score"]), generation=int(value["generation"]), steps=int(value["steps"]),
            curve=tuple((int(n), float(s)) for n, s in value["curve"]),
        )  # fmt: skip
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise PotstillError(f"{path}: holds no checkpoint of this search; remove it") from error
    if not same:
        raise PotstillError(f"{path}: is the checkpoint of a search with other settings; choose another folder")
    return state


def search_randomly(search: Search, settings: Evolution, seed: int, steps: int) -> Found:
    """Return the best of random rows with as many steps of the simulator, the last looks included.

    Args:
        search: what is searched.
        settings: episodes of a candidate and of a look, as in `evolve`.
        seed: of every draw.
        steps: of the simulator, at least; the last batch may exceed them.
    """
    used, n = 0, 0
    rows: list[Tensor] = []
    scores: list[float] = []
    while used < steps:
        rng = generator(seed, f"control random {n}")
        batch = torch.stack([search.start(rng) for _ in range(settings.population)])
        found, spent = search.scores(batch, settings.episodes, rng)
        rows += list(batch)
        scores += found.tolist()
        used, n = used + spent, n + 1
    order = sorted(range(len(rows)), key=lambda i: -scores[i])[:_FINALISTS]
    finalists = torch.stack([rows[i] for i in order])
    again, spent = search.scores(finalists, settings.check_episodes, generator(seed, "control check"))
    best = int(again.argmax())
    return Found(row=finalists[best], score=float(again[best]), steps=used + spent)


def make_trainer(
    environment: Environment, policy: str, cloning: Cloning, seed: int, episodes: int
) -> tuple[Trainer, int]:
    """Return a trainer whose states are normalised by those of random actions, and the steps that those took."""
    states, steps = environment.random_states(episodes, generator(seed, "control random actions"))
    mean, std = state_statistics(states)
    return Trainer(environment=environment, shape=parse_policy(policy), mean=mean, std=std, cloning=cloning), steps
