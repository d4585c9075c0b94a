"""FRePo's networks: a pool of several ages, of which the one that served a step then trains on what is stored.

KRR-ST's pool differs: SGD with momentum and decay trains it, and its first networks have trained for their ages.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias, final

import torch
from torch import Generator, Tensor

from potstill.core import Inputs, Network, Problem, StepCost
from potstill.core.nested import index
from potstill.functional.optim import adaptive_step, sgd
from potstill.functional.param_groups import strip_prefix
from potstill.functional.sampling import sample_distinct
from potstill.functional.train import gradients
from potstill.methods.engine import MatchingState, PoolMember, load_network, new_pool_member
from potstill.rng import generator

__all__ = ["POOL_STEPS", "OnlineNetworkPool", "SetDecoder"]

SetDecoder: TypeAlias = Callable[[Problem, MatchingState], tuple[Inputs, Tensor]]
"""What is stored, as networks learn it: inputs in model space and rows of numbers. No graph."""

POOL_STEPS = "pool/steps"
"""In a memory, of each network (n, 2): its age, and the steps that it has made."""


def half_squares(outputs: Tensor, y: Tensor) -> Tensor:
    """Half the squared error, summed over outputs, mean over samples."""
    return 0.5 * (outputs - y.to(outputs.dtype)).square().sum(1).mean()


def mean_squares(outputs: Tensor, y: Tensor) -> Tensor:
    """Squared error, mean over outputs and samples."""
    return (outputs - y.to(outputs.dtype)).square().mean()


@final
@dataclass(frozen=True, kw_only=True)
class OnlineNetworkPool:
    """Networks that train on what is stored after each step that they serve, until they are too old."""

    count: int
    max_age: int
    """Age after which a network gives way to an untrained one. The first ones are of all ages below it."""
    lr: float
    batch: int
    """Items of a step, at most."""
    decode_set: SetDecoder
    max_steps: int = 1
    """Steps after one that it served, at most: a random number."""
    staggered: bool = True
    """Give the first networks all ages."""
    steps_per_network: int = 1
    """Steps with one network, after the last of which it trains."""
    optimizer: Literal["adam", "sgd"] = "adam"
    """Adam on half the squared error, summed over outputs; or SGD with momentum 0.9 on its mean over outputs."""
    weight_decay: float = 0.0
    """For SGD."""
    trained: bool = False
    """The first networks have ages that are drawn, and have trained so many steps on what is stored at first."""

    def init_state(self, problem: Problem, state: MatchingState, rng: Generator, seed: int | None) -> MatchingState:
        apart = self.max_age // self.count if self.staggered else 0
        ages = torch.tensor([[apart * i, 0] for i in range(self.count)])
        pool = tuple(_new_member(problem, rng) for _ in range(self.count))
        if self.trained:
            ages[:, 0] = torch.randint(1, max(2, self.max_age), (self.count,), generator=rng)
            pool = tuple(self._train_for(problem, state, m, int(n), rng) for m, n in zip(pool, ages[:, 0], strict=True))
            ages[:, 1] = ages[:, 0]
        return replace(state, pool=pool, memory={**state.memory, POOL_STEPS: ages})

    def draw_networks(self, problem: Problem, state: MatchingState, rng: Generator) -> tuple[Network, Network | None]:
        member = state.pool[self._member_index(state)]
        return load_network(problem, member.seed, member.theta, member.buffers).eval(), None

    def _member_index(self, state: MatchingState) -> int:
        return int(torch.randint(self.count, (1,), generator=generator(state.block_seed, "member")))

    def advance(self, problem: Problem, state: MatchingState, net: Network, rng: Generator) -> MatchingState:
        if state.block_steps:
            return replace(state, iteration=state.iteration + 1)  # it serves the next step as well
        place = self._member_index(state)
        ages, pool = state.memory[POOL_STEPS].clone(), list(state.pool)
        if int(ages[place, 0]) > self.max_age:
            pool[place], ages[place] = _new_member(problem, rng), torch.zeros(2, dtype=ages.dtype)
        else:
            steps = 1 if self.max_steps == 1 else int(torch.randint(1, self.max_steps + 1, (1,), generator=rng))
            for _ in range(steps):
                pool[place] = self._train_member(problem, state, pool[place], int(ages[place, 1]), rng)
                ages[place] += 1
        return replace(
            state, pool=tuple(pool), memory={**state.memory, POOL_STEPS: ages}, iteration=state.iteration + 1
        )  # fmt: skip

    def _train_for(
        self, problem: Problem, state: MatchingState, member: PoolMember, steps: int, rng: Generator
    ) -> PoolMember:
        for step in range(steps):
            member = self._train_member(problem, state, member, step, rng)
        return member

    def _train_member(
        self, problem: Problem, state: MatchingState, member: PoolMember, steps: int, rng: Generator
    ) -> PoolMember:
        x, y = self.decode_set(problem, state)
        if len(y) > self.batch:
            some = sample_distinct(len(y), self.batch, rng)
            x, y = index(x, some), y[some]
        net = problem.network(member.seed).train()
        buffers = {n: b.clone() for n, b in member.buffers.items()}
        if self.optimizer == "sgd":
            found = gradients(net, member.theta, x, y, buffers=buffers, criterion=mean_squares)
            theta, speed = sgd(
                member.theta, dict(zip(member.theta, found, strict=True)), strip_prefix("first/", member.velocity),
                lr=self.lr, momentum=0.9, weight_decay=self.weight_decay,
            )  # fmt: skip
            second = strip_prefix("second/", member.velocity)
            return replace(member, theta=theta, velocity=_adam_moments(speed, second), buffers=buffers)
        found = gradients(net, member.theta, x, y, buffers=buffers, criterion=half_squares)
        theta, first, second = adaptive_step(
            "adamw", member.theta, dict(zip(member.theta, found, strict=True)), strip_prefix("first/", member.velocity),
            strip_prefix("second/", member.velocity), steps, lr=self.lr,
        )  # fmt: skip
        return replace(member, theta=theta, velocity=_adam_moments(first, second), buffers=buffers)

    def step_costs(self, problem: Problem, state: MatchingState) -> tuple[StepCost, ...]:
        n = min(len(self.decode_set(problem, state)[1]), self.batch)

        def train(_: int) -> Callable[[], object]:
            return lambda: self._train_member(problem, state, state.pool[0], 0, generator(0, "plan"))

        return (
            StepCost(
                what="the network's training",
                samples=n * self.max_steps,
                size=n,
                ready=train,
                when="after",
                every=self.steps_per_network,
            ),
        )


def _new_member(problem: Problem, rng: Generator) -> PoolMember:
    member = new_pool_member(problem, rng)
    return replace(member, velocity=_adam_moments(member.velocity, member.velocity))


def _adam_moments(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Both of Adam's moments, as one velocity."""
    return {f"first/{n}": t for n, t in first.items()} | {f"second/{n}": t for n, t in second.items()}
