r"""Random-soft: random real samples with the labels of an early-stopped teacher.

A Label is Worth a Thousand Images in Dataset Distillation (Qin et al., NeurIPS 2024, arXiv:2406.10485), section 3.

.. math::
    S = \{(x_i, \, \mathrm{softmax}(f_{\theta_e}(x_i) / \tau)) : x_i \text{ random real samples}\}

f is a network trained on the whole training source for e steps only. An early teacher is uncertain between similar
classes, which its labels convey; the smaller the set, the earlier the best teacher. With ``auto`` the stop is chosen
for the set: a part of the training samples is held out of both, teacher and set, and short students of every stop's
labels are scored on it (`_stop_choice`). One cached training gives the teachers of all stops for every budget and
seed; choosing costs stops × students × steps updates.
"""

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from torch import Generator, Tensor

from potstill.core import Method, MethodInfo, Metrics, PositiveFloat, Problem, Selection, StepCost, UnitFloat
from potstill.data.real_data import RealData
from potstill.errors import PotstillError
from potstill.functional.sampling import random_per_class
from potstill.labels.teacher import SGD, Teacher, fresh_teacher, soft_labels, teacher_step
from potstill.methods.engine import require_tensor
from potstill.methods.selection._by_class import check_class_sizes, selection_info
from potstill.methods.selection._stop_choice import (
    StopChoice,
    StudentSettings,
    best_stop,
    start_choice,
    stop_epochs,
    train_student,
)  # fmt: skip
from potstill.pretraining import TrainedNetworks, training_part
from potstill.rng import draw_seed, generator

__all__ = ["RandomSoft", "RandomSoftState"]


@dataclass(frozen=True, kw_only=True)
class RandomSoftState:
    index: Tensor
    teacher: Teacher
    """Teacher in training; empty with a choice of stops."""
    seed: int
    """Seed of the teacher's network; with a choice of stops, of the students'."""
    choice: StopChoice | None = None
    """State of the choice of a stop."""


@dataclass(frozen=True, kw_only=True)
class RandomSoft(Method[RandomSoftState]):
    """Random real samples, labelled by a teacher that was stopped early."""

    info: ClassVar[MethodInfo] = selection_info(
        "A Label is Worth a Thousand Images: random samples with soft labels", "arXiv:2406.10485", 2024,
        soft_labels=True, training={"lr": 0.01, "augmentation": "dsa", "epochs": 1000},
        use_when="Take it as the baseline of every set with soft labels, and from about ten items a class on, where "
        "it costs one short teacher.",
        avoid_when="Avoid it where whoever trains can use hard labels only, and at one item a class, where it gained "
        "on some data and lost on others.",
        related=("random", "rded", "ld"),
    )  # fmt: skip
    state_type: ClassVar[type] = RandomSoftState

    teacher_steps: int | Literal["auto"] = 200
    """Steps of the teacher's training, or ``auto``: chosen on held-out training samples. Ours: the paper chooses an
    epoch for each budget on test data."""
    stops: tuple[int, ...] = (25, 50, 100, 200, 400, 800)
    """With ``auto``: steps to choose from, rounded to whole epochs, at least one (ours)."""
    validation: UnitFloat = 0.2
    """With ``auto``: fraction of each class to hold out (ours)."""
    students: int = 2
    """With ``auto``: students that score a stop (ours)."""
    student_steps: int = 100
    """With ``auto``: updates of each student, at ``lr`` and ``batch`` (ours)."""
    batch: int = 256
    """Real samples per step of the teacher."""
    lr: float = 0.01
    """Learning rate of the teacher (appendix of the paper: as trajectory-matching experts), and with ``auto`` of the
    students."""
    momentum: UnitFloat = 0.9
    """Momentum of the teacher."""
    weight_decay: float = 5e-4
    """Weight decay of the teacher."""
    temperature: PositiveFloat = 1.0
    """τ, above 0: above 1 softens the labels further (section 3 of the paper: 1)."""
    network: str = "convnet"
    """The teacher's network."""

    def assets(self, problem: Problem) -> tuple[TrainedNetworks, ...]:
        if self.teacher_steps != "auto":
            return ()
        if not self.stops or min(self.stops) < 1 or not 0 < self.validation < 1:
            raise PotstillError(
                "a stop is chosen from steps above 0, on a fraction of the data between 0 and 1, but stops are "
                f"{self.stops} and validation is {self.validation:g}; change them"
            )
        num_training = len(training_part(problem.train, self.validation))
        epochs = stop_epochs(self.stops, num_training, self.batch)
        recipe: dict[str, float | int | str] = {
            "epochs": epochs[-1], "batch": self.batch, "lr": self.lr, "momentum": self.momentum,
            "weight_decay": self.weight_decay, "schedule": "constant", "holdout": self.validation,
        }  # fmt: skip
        return (TrainedNetworks(name="stops", count=1, recipe=recipe, snapshots=epochs),)

    def init(self, problem: Problem, rng: Generator) -> RandomSoftState:
        check_class_sizes(problem)
        if self.teacher_steps == "auto":
            return self._init_choice(problem, rng)
        index = torch.cat(RealData.of(problem).draw_exactly(problem.counts, rng))
        seed = draw_seed(rng)
        return RandomSoftState(index=index, teacher=fresh_teacher(problem.network(seed)), seed=seed)

    def _init_choice(self, problem: Problem, rng: Generator) -> RandomSoftState:
        train = problem.train
        in_training = torch.zeros(len(train), dtype=torch.bool)
        in_training[training_part(train, self.validation)] = True
        if in_training.all():
            raise PotstillError("every class has a single sample, so that none can be held out; set teacher_steps")
        parts = [index[in_training[index]] for index in problem.class_indices]
        by_class = dict(zip(problem.class_names, parts, strict=True))
        index = torch.cat(random_per_class(by_class, problem.counts, rng))
        seed = draw_seed(rng)
        choice = start_choice(
            problem, index, torch.where(~in_training)[0], problem.assets["stops"], self.students, seed,
            self._student_settings,
        )  # fmt: skip
        return RandomSoftState(
            index=index, teacher=Teacher(params={}, velocity={}, buffers={}), seed=seed, choice=choice
        )

    @property
    def _sgd(self) -> SGD:
        return SGD(batch=self.batch, lr=self.lr, momentum=self.momentum, weight_decay=self.weight_decay)

    @property
    def _student_settings(self) -> StudentSettings:
        return StudentSettings(steps=self.student_steps, sgd=self._sgd, temperature=self.temperature)

    def step(self, problem: Problem, state: RandomSoftState, rng: Generator) -> tuple[RandomSoftState, Metrics]:
        if state.choice is not None:
            choice, value = train_student(problem, state.choice, state.index, state.seed, self._student_settings)
            return replace(state, choice=choice), {"loss": value}
        teacher, loss = teacher_step(problem.network(state.seed).train(), state.teacher, problem.train, rng, self._sgd)
        return replace(state, teacher=teacher), {"loss": float(loss)}

    def done(self, problem: Problem, state: RandomSoftState) -> bool:
        if state.choice is not None:
            return state.choice.step >= state.choice.scores.numel() * self.student_steps
        return state.teacher.step >= int(self.teacher_steps)

    def result(self, problem: Problem, state: RandomSoftState) -> Selection:
        if state.choice is not None:
            return Selection(index=state.index, soft_labels=state.choice.rows[best_stop(state.choice)])
        x = require_tensor(RealData.of(problem).batch(state.index).x)
        rows = soft_labels(problem.network(state.seed), state.teacher, x, self.temperature)
        return Selection(index=state.index, soft_labels=rows)

    def num_steps(self, problem: Problem) -> int:
        if self.teacher_steps == "auto":
            return len(self.assets(problem)[0].snapshots) * self.students * self.student_steps
        return int(self.teacher_steps)

    def step_costs(self, problem: Problem, state: RandomSoftState) -> tuple[StepCost, ...]:
        size, m = min(self.batch, len(problem.train)), len(state.index)
        timed = state
        if state.choice is not None:  # the last update of a student, which is then scored
            timed = replace(state, choice=replace(state.choice, step=self.student_steps - 1))

        def step() -> object:
            return self.step(problem, timed, generator(0, "plan"))

        if state.choice is not None:
            size, scored = min(self.batch, m), len(state.choice.validation)
            what = "a student's update, and its score"
            return (StepCost(what=what, real=True, samples=size + scored, size=max(size, 500), ready=lambda _: step),)
        return (
            StepCost(what="the teacher's training", real=True, samples=size, size=size, ready=lambda _: step),
            StepCost(what="soft labels", samples=0, size=m, ready=lambda _: lambda: self.result(problem, state)),
        )
