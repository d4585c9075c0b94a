r"""LVQ: learning vector quantization (Kohonen, Proc. IEEE 78(9), 1990, LVQ1).

A real sample :math:`x` moves the nearest prototype :math:`p`: towards it if both are of one class, else away from it.

.. math:: p \leftarrow p \pm \rho_t (x - p), \qquad \rho_t = \rho (1 - t/T)
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Tensor

from potstill.core import Method, MethodInfo, Metrics, Problem, Synthetic, UnitFloat


@dataclass(frozen=True, kw_only=True)
class LVQState:
    x: Tensor
    """(items, …) in model space, classes in label order."""
    iteration: int


@dataclass(frozen=True, kw_only=True)
class LVQ(Method[LVQState]):
    """Prototypes that real samples of their class pull, and those of others push away."""

    info: ClassVar[MethodInfo] = MethodInfo(
        title="Learning vector quantization", paper="Kohonen 1990", year=1990, family="distribution", kinds=("*",)
    )
    state_type: ClassVar[type] = LVQState

    iterations: int = 1_000
    """Steps."""
    batch_real: int = 32
    """Real samples in one step."""
    rate: UnitFloat = 0.2
    """How far a prototype moves at first, as a part of the way; it falls to 0 in a straight line."""

    def labels(self, problem: Problem) -> Tensor:
        return torch.repeat_interleave(torch.arange(problem.num_classes), torch.tensor(problem.counts))

    def init(self, problem: Problem, rng: Generator) -> LVQState:
        at = [
            own[torch.randperm(len(own), generator=rng)[:n]]
            for own, n in zip(problem.class_indices, problem.counts, strict=True)
        ]
        return LVQState(x=problem.train.fetch(torch.cat(at)).x.clone(), iteration=0)

    def step(self, problem: Problem, state: LVQState, rng: Generator) -> tuple[LVQState, Metrics]:
        batch = problem.train.fetch(torch.randint(len(problem.train), (self.batch_real,), generator=rng))
        labels, x = self.labels(problem), state.x.clone()
        rate = self.rate * (1 - state.iteration / self.iterations)
        right = 0
        for sample, label in zip(batch.x, batch.y, strict=True):
            nearest = int((x - sample).flatten(1).square().sum(1).argmin())
            own = bool(labels[nearest] == label)
            x[nearest] += (rate if own else -rate) * (sample - x[nearest])
            right += own
        return LVQState(x=x, iteration=state.iteration + 1), {"right": right / len(batch.x)}

    def done(self, problem: Problem, state: LVQState) -> bool:
        return state.iteration >= self.iterations

    def result(self, problem: Problem, state: LVQState) -> Synthetic:
        return Synthetic(payload={"inputs": state.x}, labels=self.labels(problem))

    def num_steps(self, problem: Problem) -> int:
        return self.iterations
