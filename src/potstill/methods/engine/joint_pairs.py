"""Pairs as joint rows, in which both views weigh equally, and initial pairs nearest to centres of such rows."""

from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from potstill.core import Inputs, Problem
from potstill.data.real_data import RealData
from potstill.errors import PotstillError
from potstill.functional.coreset import k_means, medoids
from potstill.functional.features import input_rows

__all__ = ["CHUNK", "PrototypeInit", "joint_rows"]

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
        rows = joint_rows(problem, batches, 1.0)
        return (medoids(rows, k_means(rows, counts[0], rng, INIT_ITERATIONS)[0]).cpu(),)

    def initial_logits(self, problem: Problem, x: Inputs) -> Tensor:
        """Refuse.

        Raises:
            PotstillError: always, as pairs have no classes.
        """
        raise PotstillError("pairs have no classes to learn labels of; leave `labels=` out")


def joint_rows(problem: Problem, batches: list[Inputs], text_weight: float) -> Float[Tensor, "n d"]:
    """Return each pair as one row: every view centred and of mean squared length 1, texts times their weight."""
    views = []
    for name, part in problem.train.input.parts:
        view = torch.cat([_view(x, name, problem) for x in batches]).float()
        view = view - view.mean(0)
        size = view.square().sum(1).mean().sqrt().clamp(min=1e-12)
        views.append(view / size * (1.0 if part.kind == "image" else text_weight))
    return torch.cat(views, 1)


def _view(x: Inputs, name: str, problem: Problem) -> Tensor:
    """Return one view of pairs as rows; words are counted."""
    spec = problem.train.input
    assert not isinstance(x, Tensor)
    alone = {n: t for n, t in x.items() if n.partition("/")[0] == name}
    parts = tuple((n, part) for n, part in spec.parts if n == name)
    return input_rows(alone, type(spec)(kind=spec.kind, shape=(), parts=parts))
