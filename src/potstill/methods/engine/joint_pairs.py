"""Initial pairs nearest to centres of joint rows, in which both views weigh equally."""

from dataclasses import dataclass
from typing import final

import torch
from torch import Generator, Tensor

from potstill.core import Inputs, Problem
from potstill.data.real_data import RealData
from potstill.errors import PotstillError
from potstill.functional.coreset import k_means, medoids
from potstill.functional.features import joint_rows

__all__ = ["CHUNK", "PrototypeInit"]

CHUNK = 1024
INIT_ITERATIONS = 20
"""Iterations of k-means for initial pairs. Ours."""


@final
@dataclass(frozen=True)
class PrototypeInit:
    """Initial pairs: the real ones nearest to centres of joint k-means (a `potstill.methods.engine.InitStrategy`)."""

    def select_samples(self, problem: Problem, counts: tuple[int, ...], rng: Generator) -> tuple[Tensor, ...]:
        """Return the medoids."""
        real = RealData.of(problem)
        batches = [real.batch(some).x for some in torch.split(torch.arange(len(problem.train)), CHUNK)]
        rows = joint_rows(batches, problem.train.input)
        return (medoids(rows, k_means(rows, counts[0], rng, INIT_ITERATIONS)[0]).cpu(),)

    def initial_logits(self, problem: Problem, x: Inputs) -> Tensor:
        """Refuse.

        Raises:
            PotstillError: always, as pairs have no classes.
        """
        raise PotstillError("pairs have no classes to learn labels of; leave `labels=` out")
