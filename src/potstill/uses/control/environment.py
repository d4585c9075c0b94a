"""Simulators of Gymnasium: what states and actions they have, and returns of many policies side by side."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Generator, Tensor

from potstill._util.optional import import_optional
from potstill.errors import PotstillError

__all__ = ["Environment", "Rollouts", "episode_seeds", "open_environment", "state_statistics"]

LARGEST_SEED = 2**31 - 1
MOST_STEPS = 10_000
"""Steps of an episode, at most."""
_SPREAD = 1e-6
"""Standard deviation of a state's value below which it counts as constant."""


@dataclass(frozen=True, kw_only=True)
class Rollouts:
    """Episodes of policies side by side."""

    returns: Float[Tensor, "p e"]
    """Sum of rewards of each policy's episodes."""
    steps: int
    """Steps of the simulator that they took."""
    states: Float[Tensor, "n d"]
    """States that were visited; empty without ``keep_states``."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Environment:
    """A simulator with states of d numbers, and actions that are one of several or numbers in a range."""

    name: str
    """Its id, such as ``CartPole-v1``."""
    state_size: int
    action_size: int
    """Number of discrete actions, or of numbers in an action."""
    discrete: bool
    low: tuple[float, ...] = ()
    """Lower bound of each number of an action."""
    high: tuple[float, ...] = ()
    """Upper bound of each number of an action."""
    first_action: int = 0
    """Number of the first discrete action."""
    most_steps: int
    """Steps after which an episode ends."""
    make: Callable[[], Any] = field(repr=False)
    """Makes one more simulator."""
    pool: list[Any] = field(default_factory=list, repr=False)
    """Simulators that were made already."""

    def rollouts(
        self,
        act: Callable[[Float[Tensor, "p e d"]], Tensor],
        policies: int,
        seeds: Sequence[int],
        *,
        keep_states: bool = False,
    ) -> Rollouts:
        """Return the returns of policies, each in an episode of every seed.

        Args:
            act: returns, for the states of all episodes of all policies, numbers of actions (p, e), or actions in
                [−1, 1] (p, e, a).
            policies: their number p.
            seeds: of the e episodes; episode i begins alike for each policy.
            keep_states: return the states that were visited, too.
        """
        episodes = len(seeds)
        count = policies * episodes
        while len(self.pool) < count:
            self.pool.append(self.make())
        begun = [self.pool[i].reset(seed=int(seeds[i % episodes]))[0] for i in range(count)]
        states = np.stack([np.asarray(s, np.float32) for s in begun])
        returns, active, visited, steps = np.zeros(count), list(range(count)), [], 0
        for _ in range(self.most_steps):
            if keep_states:
                visited.append(states[active].copy())
            actions = self._to_simulator(act(torch.from_numpy(states.copy()).reshape(policies, episodes, -1)))
            steps += len(active)
            going = []
            for i in active:
                state, reward, terminated, truncated, _ = self.pool[i].step(actions[i])
                returns[i] += float(reward)
                states[i] = state
                if not (terminated or truncated):
                    going.append(i)
            active = going
            if not active:
                break
        if not np.isfinite(returns).all():
            raise PotstillError(
                f"{self.name}: returns must be finite, but those of an episode are not; mend the simulator"
            )
        empty = np.zeros((0, self.state_size), np.float32)
        return Rollouts(
            returns=torch.from_numpy(returns).reshape(policies, episodes), steps=steps,
            states=torch.from_numpy(np.concatenate([empty, *visited])),
        )  # fmt: skip

    def _to_simulator(self, actions: Tensor) -> Any:
        """Return actions, one for each episode, as the simulator takes them."""
        if self.discrete:
            return actions.reshape(-1).numpy() + self.first_action
        low, high = np.asarray(self.low, np.float32), np.asarray(self.high, np.float32)
        unit = actions.reshape(-1, self.action_size).numpy().clip(-1, 1)
        return low + (unit + 1) / 2 * (high - low)

    def random_actions(self, count: int, rng: Generator) -> Tensor:
        """Return actions drawn evenly: numbers (n,), or values in [−1, 1] (n, a)."""
        if self.discrete:
            return torch.randint(self.action_size, (count,), generator=rng)
        return 2 * torch.rand(count, self.action_size, generator=rng) - 1

    def random_states(self, episodes: int, rng: Generator) -> tuple[Float[Tensor, "n d"], int]:
        """Return states that random actions visit, and the steps that they took."""

        def act(states: Float[Tensor, "p e d"]) -> Tensor:
            shape = states.shape[:2]
            return self.random_actions(shape.numel(), rng).reshape(*shape, *(() if self.discrete else (-1,)))

        seeds = episode_seeds(episodes, rng)
        found = self.rollouts(act, 1, seeds, keep_states=True)
        return found.states, found.steps


def episode_seeds(count: int, rng: Generator) -> list[int]:
    """Return seeds of that many episodes."""
    return [int(s) for s in torch.randint(LARGEST_SEED, (count,), generator=rng).tolist()]


def state_statistics(states: Float[Tensor, "n d"]) -> tuple[Float[Tensor, " d"], Float[Tensor, " d"]]:
    """Return mean and standard deviation of each value of a state; of a constant one deviation 1."""
    mean, std = states.double().mean(0), states.double().std(0, correction=0)
    return mean.float(), torch.where(std > _SPREAD, std, torch.ones_like(std)).float()


def open_environment(name: str) -> Environment:
    """Return a simulator by its Gymnasium id.

    Raises:
        PotstillError: Gymnasium is not installed, knows no such id, or states and actions are of another form.
    """
    gymnasium = import_optional("gymnasium", "use control", "control")

    def make() -> Any:
        return gymnasium.make(name, disable_env_checker=True)

    try:
        first = make()
    except gymnasium.error.Error as error:
        raise PotstillError(f"{name}: no simulator of Gymnasium: {' '.join(str(error).split())}") from None
    spaces, states, actions = gymnasium.spaces, first.observation_space, first.action_space
    if not isinstance(states, spaces.Box) or len(states.shape) != 1:
        raise PotstillError(f"{name}: states must be rows of numbers (Box of one axis), not {states}; wrap it")
    most = int(first.spec.max_episode_steps or 0)
    if not 0 < most <= MOST_STEPS:
        raise PotstillError(
            f"{name}: an episode must end after 1 to {MOST_STEPS:,} steps, not {most or 'never'}; register it with "
            "max_episode_steps"
        )
    common = {"name": name, "state_size": states.shape[0], "most_steps": most, "make": make, "pool": [first]}
    if isinstance(actions, spaces.Discrete):
        return Environment(action_size=int(actions.n), discrete=True, first_action=int(actions.start), **common)
    if isinstance(actions, spaces.Box) and len(actions.shape) == 1 and np.isfinite([actions.low, actions.high]).all():
        low, high = (tuple(float(v) for v in bound) for bound in (actions.low, actions.high))
        return Environment(action_size=actions.shape[0], discrete=False, low=low, high=high, **common)
    raise PotstillError(
        f"{name}: actions must be one of several (Discrete) or numbers with finite bounds (Box of one axis), not "
        f"{actions}; wrap it"
    )
