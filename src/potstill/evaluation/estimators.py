"""Learners: what a protocol trains where it is no network, such as an estimator of scikit-learn or a closed form.

A protocol's recipe (epochs, rates, batches, augmentation) does not concern them: they are fitted, once for each seed
where they draw, else once.
"""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn, Protocol, TypeAlias, runtime_checkable

import torch
from torch import Tensor

from potstill.core import Batch, Inputs, InputSpec, Normalization, Source, Task, registry
from potstill.core.nested import only
from potstill.data.iterate import map_samples
from potstill.errors import PotstillError
from potstill.tasks import task_of

__all__ = ["FitsWithInput", "Learner", "LearnerFactory", "Predictor", "is_learner_name", "make_learner"]

Predictor: TypeAlias = Callable[[Tensor], Tensor]
"""Of inputs in model space (n, …), what the task's ``score`` takes, as its ``answer`` gives it: int64 classes (n,), or
real values (n, t) in the targets' own units."""
_CHUNK = 4096
"""Samples that are predicted at a time."""


@runtime_checkable
class Learner(Protocol):
    """A frozen dataclass whose fields are its settings, JSON values."""

    @property
    def name(self) -> str:
        """Its name in the registry."""
        ...

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of the tasks that it learns."""
        ...

    @property
    def draws(self) -> bool:
        """Whether two seeds may give two predictors; else it is fitted once, and nothing is said of its spread."""
        ...

    def fit(self, x: Tensor, y: Tensor, weights: Tensor | None, task: Task, seed: int, /) -> Predictor:
        """What it learns from inputs in model space (n, …) and the task's targets (n, …).

        Args:
            y: of classes int64 (n,), or rows (n, k) of probabilities; of a set with scores, a learner whose attribute
                ``real_rows`` is true gets scores + 1/k: rows in the same units that need not be probabilities.
            weights: how much each sample counts (n,), mean 1; ``None``: all alike.
            seed: decides all that it draws; torch's and NumPy's own generators are not touched.
        """
        ...


@runtime_checkable
class FitsWithInput(Protocol):
    """A `Learner` that also asks what the inputs are, such as one that puts a network before itself."""

    def fit_with_input(
        self, x: Tensor, y: Tensor, weights: Tensor | None, task: Task, seed: int, input: InputSpec,
        normalization: Normalization, /,
    ) -> Predictor:  # fmt: skip
        """As ``fit``, for inputs of that kind and normalization."""
        ...


@dataclass(frozen=True, slots=True)
class LearnerFactory:
    """A learner in the place of a factory of networks: with a name and a device, and fitted in place of trained."""

    learner: Learner
    name: str
    """As it was asked for, with its settings."""
    device: torch.device

    def __call__(self, seed: int, /) -> NoReturn:
        raise PotstillError(
            f"{self.name} is no network, and a network is needed here; name one, such as convnet or mlp"
        )

    @property
    def settings(self) -> dict[str, Any]:
        """As a scorecard has it."""
        settings: Mapping[str, Any] = dataclasses.asdict(self.learner)  # type: ignore[call-overload]
        return {"name": self.learner.name, "settings": settings, "draws": self.learner.draws}

    def fit_predict(self, source: Source, x: Inputs, y: Tensor, weights: Tensor | None, seed: int) -> Tensor:
        """What it says of every sample of ``source`` (n, …), on the CPU, once it has learned ``x`` and ``y``."""
        whole, task = only(x, f"learner {self.name}"), task_of(source)
        if isinstance(self.learner, FitsWithInput):
            predict = self.learner.fit_with_input(whole, y, weights, task, seed, source.input, source.normalization)
        else:
            predict = self.learner.fit(whole, y, weights, task, seed)

        def answered(batch: Batch) -> Tensor:
            return predict(only(batch.x, f"learner {self.name}")).cpu()

        return map_samples(source, torch.arange(len(source)), _CHUNK, answered)


def is_learner_name(name: object) -> bool:
    """Whether it is a learner's name, with settings or without."""
    return isinstance(name, str) and name.partition(":")[0] in registry.targets("learners")


def make_learner(spec: str, train: Source) -> LearnerFactory:
    """A learner by name, ``NAME`` or ``NAME:setting=value,…``, for these data.

    Raises:
        PotstillError: it cannot learn their task, or the inputs have names.
    """
    learner, task = registry.part("learners", spec), task_of(train)
    if task.name not in learner.tasks:
        raise PotstillError(f"{spec} learns {', '.join(learner.tasks)}, but the task is {task.name}; choose another")
    if train.input.parts:
        names = ", ".join(name for name, _ in train.input.parts)
        raise PotstillError(f"{spec} needs inputs of one tensor, but these have {names}; choose a network for them")
    return LearnerFactory(learner, spec, train.device)
