r"""Real: the best real samples that so many bytes hold, in the codec that serves them best.

.. math::
    S = \{ \mathrm{decode}(\mathrm{encode}_q(x_i)) : i \in I_s(m) \}, \qquad
    m = \max \{ m : |\mathrm{encode}_q(I_s(m))| \le B \}

Selection s, codec q, proportions and labels are searched on held-out training data before the run
(`potstill.automl.real`), by small students that learn each of them; hopeless ones are dropped early. Test data are not
read. A run whose selection is named is not searched: it keeps what its fields say.
"""

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from torch import Generator, Tensor

from potstill.core import Method, MethodInfo, Metrics, PositiveFloat, Problem, Selection, StepCost
from potstill.data.real_data import RealData
from potstill.data.selection_order import order_samples
from potstill.functional.label_simplex import keep_largest
from potstill.labels.teacher import SGD, Teacher, fresh_teacher, soft_labels, teacher_step
from potstill.methods.engine import require_tensor
from potstill.methods.selection._by_class import check_class_sizes, selection_info
from potstill.rng import derive_seed, draw_seed, generator

__all__ = ["Real", "RealState"]


@dataclass(frozen=True, kw_only=True)
class RealState:
    index: Tensor
    seed: int
    """Seed of the selection and the teacher's network."""
    teacher: Teacher | None = None
    """Teacher in training; ``None`` for hard labels."""


@dataclass(frozen=True, kw_only=True)
class Real(Method[RealState]):
    """The best real samples in so many bytes: selection, codec, proportions and labels by search."""

    info: ClassVar[MethodInfo] = selection_info(
        "The best coded real samples", "Potstill", 2026,
        tasks=("*",),
        multi_input=True,
        use_when="Take it first where bytes count: it keeps real samples in the codec that serves them best, which "
        "every distilled set has to beat.",
        avoid_when="Take random instead for the literature's comparison at equal items, and a distilling method where "
        "some hundred bytes a class are all there is.",
        related=("random", "random-soft", "herding"),
    )  # fmt: skip
    state_type: ClassVar[type] = RealState

    selection: Literal["auto", "random", "herding", "k-means", "stretch"] = "auto"
    """Selection of the samples of each class. ``auto``: searched, with codec, proportions and labels, on held-out
    training data; without a search, random."""
    labels: Literal["hard", "soft", "top3"] = "hard"
    """``hard`` labels, or those of an early-stopped teacher: all probabilities, or the three largest of each sample."""
    teacher_steps: int = 200
    """Steps of the teacher's training, as `random-soft`."""
    temperature: PositiveFloat = 1.0
    """Temperature of the teacher's labels, above 0."""

    def init(self, problem: Problem, rng: Generator) -> RealState:
        check_class_sizes(problem)
        seed = draw_seed(rng)
        selection = "random" if self.selection == "auto" else self.selection
        order = order_samples(problem.train, selection, problem.counts, seed)
        index = torch.cat([of_class.sort().values for of_class in order])
        teacher = fresh_teacher(problem.network(derive_seed(seed, "teacher"))) if self._is_soft(problem) else None
        return RealState(index=index, seed=seed, teacher=teacher)

    def _is_soft(self, problem: Problem) -> bool:
        return self.labels != "hard" and len(problem.train.classes) > 0

    def step(self, problem: Problem, state: RealState, rng: Generator) -> tuple[RealState, Metrics]:
        if state.teacher is None:
            return state, {}
        network = problem.network(derive_seed(state.seed, "teacher")).train()
        teacher, loss = teacher_step(network, state.teacher, problem.train, rng, self._sgd(problem))
        return replace(state, teacher=teacher), {"loss": float(loss)}

    def _sgd(self, problem: Problem) -> SGD:
        return SGD(batch=min(256, max(32, len(problem.train) // 8)))

    def done(self, problem: Problem, state: RealState) -> bool:
        return state.teacher is None or state.teacher.step >= self.teacher_steps

    def result(self, problem: Problem, state: RealState) -> Selection:
        if state.teacher is None:
            return Selection(index=state.index)
        x = require_tensor(RealData.of(problem).batch(state.index).x)
        network = problem.network(derive_seed(state.seed, "teacher"))
        rows = soft_labels(network, state.teacher, x, self.temperature)
        return Selection(index=state.index, soft_labels=keep_largest(rows, 3) if self.labels == "top3" else rows)

    def num_steps(self, problem: Problem) -> int:
        return self.teacher_steps if self._is_soft(problem) else 0

    def step_costs(self, problem: Problem, state: RealState) -> tuple[StepCost, ...]:
        if state.teacher is None:
            return ()
        size, m = self._sgd(problem).batch, len(state.index)

        def step() -> object:
            return self.step(problem, state, generator(0, "plan"))

        return (
            StepCost(what="the teacher's training", real=True, samples=size, size=size, ready=lambda _: step),
            StepCost(what="soft labels", samples=0, size=m, ready=lambda _: lambda: self.result(problem, state)),
        )
