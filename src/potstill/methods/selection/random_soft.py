r"""Random-soft: random real samples with the labels of an early-stopped teacher.

A Label is Worth a Thousand Images in Dataset Distillation (Qin et al., NeurIPS 2024, arXiv:2406.10485), section 3.

.. math::
    S = \{(x_i, \, \mathrm{softmax}(f_{\theta_e}(x_i) / \tau)) : x_i \text{ random real samples}\}

f is a network trained on the whole training source for e steps only. An early teacher is uncertain where classes are
alike, and that is what its labels carry; the smaller the set, the earlier the best teacher.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Tensor

from potstill.core import Method, MethodInfo, Metrics, Part, Problem, Selection
from potstill.functional.sampling import random_per_class
from potstill.methods._matching import image
from potstill.methods.selection._greedy import check_enough
from potstill.rng import draw_seed, generator
from potstill.supervise.teacher import Teacher, fresh_teacher, soft_rows, teacher_step

__all__ = ["RandomSoft", "RandomSoftState"]


@dataclass(frozen=True, kw_only=True)
class RandomSoftState:
    index: Tensor
    teacher: Teacher
    seed: int
    """What the teacher's network was made from."""


@dataclass(frozen=True, kw_only=True)
class RandomSoft(Method[RandomSoftState]):
    """Random real samples, labelled by a teacher that was stopped early."""

    info: ClassVar[MethodInfo] = MethodInfo(
        title="A Label is Worth a Thousand Images: random samples with soft labels",
        paper="arXiv:2406.10485",
        year=2024,
        family="selection",
        selects=True,
        soft=True,
        kinds=("*",),
        training={"lr": 0.01, "augmentation": "dsa", "epochs": 1000},
    )
    state_type: ClassVar[type] = RandomSoftState
    fractions: ClassVar[tuple[str, ...]] = ("momentum",)
    positive: ClassVar[tuple[str, ...]] = ("temperature",)

    teacher_steps: int = 200
    """Steps after which the teacher is stopped. Ours: the paper chooses an epoch for each budget on test data."""
    batch: int = 256
    """Real samples per step of the teacher."""
    lr: float = 0.01
    """Learning rate of the teacher (appendix of the paper: as trajectory-matching experts)."""
    momentum: float = 0.9
    """Momentum of the teacher."""
    weight_decay: float = 5e-4
    """Weight decay of the teacher."""
    temperature: float = 1.0
    """τ, above 0: above 1 softens the labels further (section 3 of the paper: 1)."""
    network: str = "convnet"
    """The teacher's network."""

    def init(self, problem: Problem, rng: Generator) -> RandomSoftState:
        check_enough(problem)
        index = torch.cat(random_per_class(problem.by_class, problem.counts, rng))
        seed = draw_seed(rng)
        return RandomSoftState(index=index, teacher=fresh_teacher(problem.network(seed)), seed=seed)

    def step(self, problem: Problem, state: RandomSoftState, rng: Generator) -> tuple[RandomSoftState, Metrics]:
        teacher, loss = teacher_step(
            problem.network(state.seed).train(),
            state.teacher,
            problem.train,
            rng,
            batch=self.batch,
            lr=self.lr,
            momentum=self.momentum,
            weight_decay=self.weight_decay,
        )
        return RandomSoftState(index=state.index, teacher=teacher, seed=state.seed), {"loss": float(loss)}

    def done(self, problem: Problem, state: RandomSoftState) -> bool:
        return state.teacher.step >= self.teacher_steps

    def result(self, problem: Problem, state: RandomSoftState) -> Selection:
        x = image(problem.train.fetch(state.index).x)
        rows = soft_rows(problem.network(state.seed), state.teacher, x, self.temperature)
        return Selection(index=state.index, rows=rows)

    def horizon(self, problem: Problem) -> int:
        return self.teacher_steps

    def parts(self, problem: Problem, state: RandomSoftState) -> tuple[Part, ...]:
        size, m = min(self.batch, len(problem.train)), len(state.index)
        return (
            Part(
                what="the teacher's training", real=True, samples=size, size=size,
                ready=lambda _: lambda: self.step(problem, state, generator(0, "plan")),
            ),
            Part(what="soft labels", samples=0, size=m, ready=lambda _: lambda: self.result(problem, state)),
        )  # fmt: skip
