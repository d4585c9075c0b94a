"""Networks of gradient matching: one at a time, matched while it trains, on synthetic samples or on real ones."""

from dataclasses import dataclass, replace
from typing import Protocol, final, runtime_checkable

import torch
from torch import Generator

from potstill.core import Network, Problem, StepCost
from potstill.core.nested import index
from potstill.data.real_data import RealData
from potstill.functional.sampling import sample_distinct
from potstill.functional.train import train_step
from potstill.labels.teacher import SGD, Teacher, train_epoch
from potstill.methods.engine import MatchingState, PoolMember, augment_function, decode_inputs, new_pool_member
from potstill.rng import generator

__all__ = ["OnReal", "OnSynthetic", "OneByOne", "Training"]


@runtime_checkable
class Training(Protocol):
    """A network's training between two updates."""

    def __call__(self, problem: Problem, state: MatchingState, net: Network, rng: Generator, /) -> PoolMember: ...
    def size(self, problem: Problem, /) -> tuple[bool, int, int]:
        """For a plan: whether it sees real samples, how many at once, and how many in all."""
        ...


@final
@dataclass(frozen=True, kw_only=True)
class OneByOne:
    """One network after the other; an iteration is one that has served so many updates."""

    updates: int
    training: Training

    def init_state(self, problem: Problem, state: MatchingState, rng: Generator, seed: int | None) -> MatchingState:
        return replace(state, pool=(new_pool_member(problem, rng, seed),))

    def draw_networks(self, problem: Problem, state: MatchingState, rng: Generator) -> tuple[Network, Network | None]:
        return problem.network(state.pool[0].seed).train(), None

    def advance(self, problem: Problem, state: MatchingState, net: Network, rng: Generator) -> MatchingState:
        if state.block_steps >= self.updates:
            fresh = (new_pool_member(problem, rng),)
            return replace(state, pool=fresh, block_steps=0, cached={}, iteration=state.iteration + 1)
        return replace(state, pool=(self.training(problem, state, net.train(), rng),))

    def step_costs(self, problem: Problem, state: MatchingState) -> tuple[StepCost, ...]:
        if self.updates == 1:
            return ()
        (member,) = state.pool
        net, (real, batch, samples) = problem.network(member.seed).eval(), self.training.size(problem)
        if real:
            fetched = RealData.of(problem).batch(torch.arange(min(batch, samples)))
            x, y = fetched.x, fetched.y
        else:
            x, y = decode_inputs(problem, state.params, "model")
            some = torch.arange(min(batch, len(y)))
            x, y = index(x, some), y[some]
        assert y is not None
        n = len(y)

        def train() -> object:
            z = augment_function(problem)(x, problem.augment.draw(n, problem.train.input.shape, generator(0, "plan")))
            return train_step(
                net, member.theta, member.velocity, z, y, lr=0.0, momentum=0.9, buffers=member.buffers,
                criterion=problem.task.loss,
            )  # fmt: skip

        what = "the network's training"
        return (StepCost(what=what, real=real, samples=samples, size=n, ready=lambda _: train, when="after"),)


@final
@dataclass(frozen=True, kw_only=True)
class OnSynthetic:
    """Epochs of plain SGD on the synthetic data (DC), each sample augmented on its own where it is (DSA)."""

    epochs: int
    batch: int
    lr: float
    augmented: bool

    def __call__(self, problem: Problem, state: MatchingState, net: Network, rng: Generator) -> PoolMember:
        (member,) = state.pool
        S, y = decode_inputs(problem, state.params, "model")
        theta, buffers = member.theta, member.buffers
        for _ in range(self.epochs):
            for batch in torch.split(torch.randperm(len(y), generator=rng), self.batch):
                x = index(S, batch)
                if self.augmented:
                    x = augment_function(problem)(x, problem.augment.draw(len(batch), problem.train.input.shape, rng))
                stepped = train_step(
                    net, theta, None, x, y[batch], lr=self.lr, buffers=buffers, criterion=problem.task.loss
                )  # fmt: skip
                theta, buffers = stepped.params, stepped.buffers
        return replace(member, theta=theta, buffers=buffers)

    def size(self, problem: Problem) -> tuple[bool, int, int]:
        return False, self.batch, self.epochs * sum(problem.sizes)


@final
@dataclass(frozen=True, kw_only=True)
class OnReal:
    """One pass of SGD over some real samples, augmented each on its own and sometimes mixed (IDC)."""

    samples: int
    batch: int
    lr: float
    cutmix: float

    def __call__(self, problem: Problem, state: MatchingState, net: Network, rng: Generator) -> PoolMember:
        (member,) = state.pool
        order = sample_distinct(len(problem.train), self.samples, rng)
        made = train_epoch(
            net, Teacher(params=member.theta, velocity=member.velocity, buffers=member.buffers), problem.train, order,
            rng, SGD(batch=self.batch, lr=self.lr, momentum=0.9, weight_decay=5e-4), augment=problem.augment,
            cutmix=self.cutmix,
        )  # fmt: skip
        return replace(member, theta=made.params, velocity=made.velocity, buffers=made.buffers)

    def size(self, problem: Problem) -> tuple[bool, int, int]:
        return True, self.batch, min(self.samples, len(problem.train))
