"""CAFE's network: trained on the synthetic data, and replaced when its accuracy stops changing."""

from dataclasses import dataclass, replace
from typing import final

import torch
from torch import Generator, Tensor

from potstill.core import Network, Problem, StepCost
from potstill.data.real_data import RealData
from potstill.functional.features import uses_batch_statistics
from potstill.functional.train import train_step
from potstill.methods.engine import (
    MatchingState,
    PoolMember,
    decode_inputs,
    load_network,
    new_pool_member,
    require_tensor,
)
from potstill.rng import generator

__all__ = ["WatchedNetwork"]

WINDOW = 10
"""Number of recent accuracies that are compared (distill.py)."""
ACCURACY_SAMPLES = 128
"""Real samples per class for an accuracy (distill.py)."""


@final
@dataclass(frozen=True, kw_only=True)
class WatchedNetwork:
    """Network source of one network; an iteration ends when it is replaced."""

    replace_below: float
    """Range of the recent accuracies below which the network is replaced."""
    stop_above: float
    """Range of the recent accuracies above which its training ends."""
    max_epochs: int
    batch: int
    lr: float

    def init_state(self, problem: Problem, state: MatchingState, rng: Generator, seed: int | None) -> MatchingState:
        return replace(state, pool=(new_pool_member(problem, rng),))

    def draw_networks(self, problem: Problem, state: MatchingState, rng: Generator) -> tuple[Network, Network | None]:
        (member,) = state.pool
        return load_network(problem, member.seed, member.theta, member.buffers), None

    def advance(self, problem: Problem, state: MatchingState, net: Network, rng: Generator) -> MatchingState:
        (member,) = state.pool
        net.requires_grad_(True).train()
        watched = torch.cat([state.memory.get("watched", torch.zeros(0)), _accuracy(problem, net, member, rng)])
        watched = watched[-WINDOW:]
        if len(watched) == WINDOW and float(watched.max() - watched.min()) < self.replace_below:
            fresh = (new_pool_member(problem, rng),)
            return replace(state, pool=fresh, memory={}, iteration=state.iteration + 1)
        member = self._after_training(problem, state, net, member, rng)
        return replace(state, pool=(member,), memory={"watched": watched})

    def step_costs(self, problem: Problem, state: MatchingState) -> tuple[StepCost, ...]:
        (member,) = state.pool
        net = load_network(problem, member.seed, member.theta, member.buffers).train()
        S, y = decode_inputs(problem, state.params, "model")

        def train() -> object:
            x = problem.augment.apply(S[: self.batch], problem.augment.draw(1, S.shape[1:], generator(0, "plan")))
            return train_step(net, member.theta, None, x, y[: len(x)], lr=self.lr, buffers=member.buffers)

        size = min(self.batch, len(S))
        what = "the network's training"
        return (StepCost(what=what, samples=len(S), size=size, ready=lambda _: train, when="after"),)

    def _after_training(
        self, problem: Problem, state: MatchingState, net: Network, member: PoolMember, rng: Generator
    ) -> PoolMember:
        S, y = decode_inputs(problem, state.params, "model")
        seen = torch.zeros(0)
        for _ in range(self.max_epochs):
            for batch in torch.split(torch.randperm(len(S), generator=rng), self.batch):
                x = problem.augment.apply(S[batch], problem.augment.draw(len(batch), problem.train.input.shape, rng))
                stepped = train_step(net, member.theta, None, x, y[batch], lr=self.lr, buffers=member.buffers)
                member = replace(member, theta=stepped.params, buffers=stepped.buffers)
            seen = torch.cat([seen, _accuracy(problem, net, member, rng)])[-WINDOW:]
            if len(seen) == WINDOW and float(seen.max() - seen.min()) > self.stop_above:
                break
        return member


def _accuracy(problem: Problem, net: Network, member: PoolMember, rng: Generator) -> Tensor:
    """Return the mean class accuracy (1,) on random real samples."""
    real = RealData.of(problem)
    index = torch.cat(real.draw(ACCURACY_SAMPLES, rng))
    x, y = require_tensor(real.batch(index).x), problem.train.labels[index]
    buffers = {n: b.clone() for n, b in member.buffers.items()} if uses_batch_statistics(net) else member.buffers
    with torch.no_grad():
        guess = torch.cat([
            torch.func.functional_call(net, {**member.theta, **buffers}, (part,)).argmax(1)
            for part in torch.split(x, 256)
        ])  # fmt: skip
    right = (guess.cpu() == y).float()
    return right.new_tensor([float(torch.stack([right[y == c].mean() for c in range(problem.num_classes)]).mean())])
