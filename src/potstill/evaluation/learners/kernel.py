"""Kernel ridge regression with kernels of infinitely wide networks, the learner that KIP distils for and tests with."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from potstill.core import Task
from potstill.errors import PotstillError
from potstill.evaluation.estimators import Predictor
from potstill.evaluation.learners.common import answered, scores_of
from potstill.functional.kernels import FullyConnected
from potstill.functional.ridge import solve
from potstill.rng import generator

__all__ = ["KernelRidge", "KrrNtk", "Nngp"]


@dataclass(frozen=True, kw_only=True)
class KernelRidge:
    """Ridge regression in closed form, in float64, with the kernel of a fully connected ReLU network of infinite width
    (`potstill.functional.kernels`). Classes are fitted as scores, one-hot rows less 1/k; real values as differences
    from their mean. With weights it minimises the weighted squares.

    Raises:
        PotstillError: a setting out of its range.
    """

    kind: ClassVar[Literal["ntk", "nngp"]]
    real_rows: ClassVar[bool] = True
    depth: int = 1
    """Hidden layers, as in KIP's demonstration (FC1)."""
    ridge: float = 1e-6
    """λ over the mean of the kernel's diagonal: KIP's, and FRePo's."""
    most: int = 4000
    """Maximum number of samples used, drawn by the seed: the kernel matrix is quadratic in it."""

    def __post_init__(self) -> None:
        for name, least in (("depth", 0), ("ridge", 0), ("most", 1)):
            if not getattr(self, name) >= least:
                raise PotstillError(f"{self.name}: {name} must be at least {least}, not {getattr(self, name)}")

    @property
    def name(self) -> str:
        return {"ntk": "krr-ntk", "nngp": "nngp"}[self.kind]

    @property
    def tasks(self) -> tuple[str, ...]:
        return ("classification", "regression", "forecast")

    @property
    def draws(self) -> bool:
        return False

    def fit(self, x: Tensor, y: Tensor, weights: Tensor | None, task: Task, seed: int) -> Predictor:
        kernel, n = FullyConnected(depth=self.depth, kind=self.kind), len(x)
        if n > self.most:
            at = torch.randperm(n, generator=generator(seed, "kernel"))[: self.most].sort().values.to(x.device)
            x, y, weights = x[at], y[at], None if weights is None else weights[at]
        rows, (targets, mean) = x.detach().flatten(1).double(), scores_of(y, weights, task)
        root = torch.ones_like(rows[:, 0]) if weights is None else weights.to(rows).sqrt()
        k = root[:, None] * kernel(rows, rows) * root
        alpha = root[:, None] * solve(k, root[:, None] * targets, self.ridge)

        def predict(inputs: Tensor) -> Tensor:
            return answered(kernel(inputs.flatten(1).double(), rows) @ alpha + mean, task)

        return predict


@dataclass(frozen=True, kw_only=True)
class KrrNtk(KernelRidge):
    """Kernel ridge regression with the neural tangent kernel of a wide network, depth=1 (arXiv:1806.07572)."""

    kind: ClassVar[Literal["ntk", "nngp"]] = "ntk"


@dataclass(frozen=True, kw_only=True)
class Nngp(KernelRidge):
    """Kernel ridge regression with the covariance of a wide network's initial outputs, depth=1 (arXiv:1711.00165): what
    training its last layer alone learns.
    """

    kind: ClassVar[Literal["ntk", "nngp"]] = "nngp"
