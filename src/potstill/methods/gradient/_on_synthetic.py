"""What DC and DSA share beyond the step: their loops, and a network that trains on the synthetic data."""

from dataclasses import replace
from typing import ClassVar, Literal

import torch
from torch import Generator

from potstill.core import Network, Problem
from potstill.functional.gradient import Distance, distance
from potstill.functional.train import train_step
from potstill.methods._matching import Rule, inputs_of
from potstill.methods.gradient._base import GradientMatching, GradientState

__all__ = ["OnSynthetic", "published_loops"]

_LOOPS = {1: (1, 1), 10: (10, 50), 20: (20, 25), 30: (30, 20), 40: (40, 15), 50: (50, 10)}


def published_loops(ipc: int) -> tuple[int, int]:
    """(outer, inner) loops by items per class: the published table (utils.py, get_loops).

    Other ipc, for which the published program exits, follow the trend: outer = ipc, inner = 500 / ipc, at most 50.
    """
    return _LOOPS.get(ipc, (ipc, min(50, max(1, 500 // ipc))))


class OnSynthetic(GradientMatching):
    """Abstract: the fields are those of DC and DSA."""

    may_be_zero: ClassVar[tuple[str, ...]] = ("inner",)
    fractions: ClassVar[tuple[str, ...]] = ("momentum",)
    augmented_training: ClassVar[bool]
    """Whether the network trains on augmented synthetic samples."""
    lr: float
    momentum: float
    lr_net: float
    batch_train: int
    outer: int | None
    inner: int | None
    metric: Literal["ours", "mse", "cos"]

    def loops(self, ipc: int) -> int:
        return published_loops(ipc)[0] if self.outer is None else self.outer

    def rule(self, problem: Problem, last: bool) -> Rule:
        return Rule(lr=self.lr, momentum=self.momentum, lr_labels=self.lr_labels)

    def distance(self) -> Distance:
        return distance(self.metric)

    def training(self, problem: Problem) -> tuple[bool, int, int]:
        epochs = published_loops(problem.ipc)[1] if self.inner is None else self.inner
        return False, self.batch_train, epochs * sum(problem.sizes)

    def train(self, problem: Problem, net: Network, state: GradientState, rng: Generator) -> GradientState:
        """Epochs of plain SGD on the synthetic data, per-sample augmentation where the method trains with it."""
        S, y = inputs_of(problem, state.outer, self.space)
        theta, buffers = state.theta, state.buffers
        for _ in range(published_loops(problem.ipc)[1] if self.inner is None else self.inner):
            for batch in torch.split(torch.randperm(len(S), generator=rng), self.batch_train):
                x = S[batch]
                if self.augmented_training:
                    x = problem.augment.apply(x, problem.augment.draw(len(batch), problem.train.input.shape, rng))
                stepped = train_step(net, theta, None, x, y[batch], lr=self.lr_net, buffers=buffers)
                theta, buffers = stepped.params, stepped.buffers
        return replace(state, theta=theta, buffers=buffers)
