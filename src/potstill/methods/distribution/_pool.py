"""IDM's network pool: networks of several ages that train on real samples during the run."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import final

import torch
from torch import Generator

from potstill.core import Network, Problem, StepCost
from potstill.labels.teacher import SGD, Teacher, teacher_step
from potstill.methods.engine import MatchingState, PoolMember, load_network, new_pool_member
from potstill.rng import generator

__all__ = ["TrainingPool", "pool_member"]


@final
@dataclass(frozen=True, kw_only=True)
class TrainingPool:
    """One network of the pool embeds; after each block some train, and sometimes a new one joins."""

    initial_size: int
    max_size: int
    every: int
    """Steps between additions."""
    num_trained: int
    steps: int
    batch: int
    lr: float
    forget_every: int
    steps_per_network: int

    def init_state(self, problem: Problem, state: MatchingState, rng: Generator, seed: int | None) -> MatchingState:
        return replace(state, pool=tuple(new_pool_member(problem, rng) for _ in range(self.initial_size)))

    def draw_networks(self, problem: Problem, state: MatchingState, rng: Generator) -> tuple[Network, Network | None]:
        member = pool_member(state)
        return load_network(problem, member.seed, member.theta, member.buffers).eval(), None

    def advance(self, problem: Problem, state: MatchingState, net: Network, rng: Generator) -> MatchingState:
        state = replace(state, iteration=state.iteration + 1)
        if state.block_steps:
            return state  # networks are fixed within a block
        pool = list(state.pool)
        for place in torch.randperm(len(pool), generator=rng)[: self.num_trained].tolist():
            pool[place] = self._after_training(problem, pool[place], rng, self.steps)
        if state.iteration % self.every == 0:
            pool = [*pool, new_pool_member(problem, rng)][-self.max_size :]
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
                what="the networks' training", real=True, samples=self.num_trained * self.steps * self.batch,
                size=min(self.batch, len(problem.train)), ready=train, every=self.steps_per_network, when="after",
            ),
            StepCost(
                what="networks that join the pool", samples=0, size=0,
                classes=max(0, self.max_size - self.initial_size), ready=join, every=self.every, stays=True,
            ),
        )  # fmt: skip

    def _after_training(self, problem: Problem, member: PoolMember, rng: Generator, steps: int) -> PoolMember:
        """Train by SGD on random real samples and count correct predictions before each step."""
        net = problem.network(member.seed).train()
        teacher = Teacher(
            params=member.theta,
            velocity=member.velocity,
            buffers=member.buffers,
            num_correct=member.num_correct,
            num_seen=member.num_samples,
        )
        for _ in range(steps):
            teacher, _ = teacher_step(net, teacher, problem.train, rng, SGD(batch=self.batch, lr=self.lr))
        return replace(
            member,
            theta=teacher.params,
            velocity=teacher.velocity,
            buffers=teacher.buffers,
            num_correct=teacher.num_correct,
            num_samples=teacher.num_seen,
        )


def pool_member(state: MatchingState) -> PoolMember:
    """Return the network of the current block."""
    return state.pool[int(torch.randint(len(state.pool), (1,), generator=generator(state.block_seed, "member")))]
