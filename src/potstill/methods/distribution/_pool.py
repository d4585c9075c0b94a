"""IDM's networks: a pool of several ages, whose members train on real samples along the way."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import final

import torch
from torch import Generator

from potstill.core import Network, Problem, StepCost
from potstill.labels.teacher import Teacher, teacher_step
from potstill.methods.engine import MatchingState, PoolMember, load_network, new_pool_member
from potstill.rng import generator

__all__ = ["TrainedAlong", "chosen"]


@final
@dataclass(frozen=True, kw_only=True)
class TrainedAlong:
    """One of the pool embeds; after each block some train, now and then one joins."""

    first: int
    most: int
    every: int
    """Steps between new networks."""
    trained: int
    steps: int
    batch: int
    lr: float
    forget_every: int
    reuse: int

    def init_state(self, problem: Problem, state: MatchingState, rng: Generator, seed: int | None) -> MatchingState:
        return replace(state, pool=tuple(new_pool_member(problem, rng) for _ in range(self.first)))

    def draw_networks(self, problem: Problem, state: MatchingState, rng: Generator) -> tuple[Network, Network | None]:
        member = chosen(state)
        return load_network(problem, member.seed, member.theta, member.buffers).eval(), None

    def advance(self, problem: Problem, state: MatchingState, net: Network, rng: Generator) -> MatchingState:
        state = replace(state, iteration=state.iteration + 1)
        if state.block_steps:
            return state  # the networks stand still while one's statistics are reused
        pool = list(state.pool)
        for place in torch.randperm(len(pool), generator=rng)[: self.trained].tolist():
            pool[place] = self._after_training(problem, pool[place], rng, self.steps)
        if state.iteration % self.every == 0:
            pool = [*pool, new_pool_member(problem, rng)][-self.most :]
        if self.forget_every and state.iteration % self.forget_every == 0:
            pool = [replace(member, num_correct=0, num_samples=0) for member in pool]
        return replace(state, pool=tuple(pool))

    def step_costs(self, problem: Problem, state: MatchingState) -> tuple[StepCost, ...]:
        def train(_: int) -> Callable[[], object]:
            return lambda: self._after_training(problem, state.pool[0], generator(0, "plan"), 1)

        def join(n: int) -> Callable[[], object]:
            return lambda: [new_pool_member(problem, generator(0, "plan")) for _ in range(n)]

        return (
            StepCost(
                what="the networks' training", real=True, samples=self.trained * self.steps * self.batch,
                size=min(self.batch, len(problem.train)), ready=train, every=self.reuse, when="after",
            ),
            StepCost(
                what="networks that join the pool", samples=0, size=0, classes=max(0, self.most - self.first),
                ready=join, every=self.every, stays=True,
            ),
        )  # fmt: skip

    def _after_training(self, problem: Problem, member: PoolMember, rng: Generator, steps: int) -> PoolMember:
        """Steps of SGD on random real samples; counts what the network got right before each step."""
        net = problem.network(member.seed).train()
        made = Teacher(
            params=member.theta,
            velocity=member.velocity,
            buffers=member.buffers,
            num_correct=member.num_correct,
            num_seen=member.num_samples,
        )
        for _ in range(steps):
            made, _ = teacher_step(
                net, made, problem.train, rng, batch=self.batch, lr=self.lr, momentum=0.9, weight_decay=5e-4
            )
        return replace(
            member,
            theta=made.params,
            velocity=made.velocity,
            buffers=made.buffers,
            num_correct=made.num_correct,
            num_samples=made.num_seen,
        )


def chosen(state: MatchingState) -> PoolMember:
    """The network of the present block."""
    return state.pool[int(torch.randint(len(state.pool), (1,), generator=generator(state.block_seed, "member")))]
