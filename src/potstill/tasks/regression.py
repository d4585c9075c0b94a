"""Regression, trained by the squared error of standardised targets and scored by its root."""

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from potstill.tasks.metric import Metric

__all__ = ["Regression", "target_statistics"]


def target_statistics(y: Float[Tensor, "n t"]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation of each training target; a constant target gets deviation 1."""
    mean, std = y.double().mean(0), y.double().std(0, correction=0)
    varies = (std > 0) & (std > 1e-12 * mean.abs())  # what varies by 1e-15 in its unit varies, too
    return tuple(mean.tolist()), tuple(torch.where(varies, std, torch.ones_like(std)).tolist())


@dataclass(frozen=True, slots=True, kw_only=True)
class Regression:
    """Regression. Targets are float32 (n, t) in their own units, minus ``offset``; networks predict standardised
    values."""

    name: ClassVar[str] = "regression"
    unit: ClassVar[str] = "item"
    targets: tuple[str, ...] = ()
    """Names of the targets (t)."""
    mean: tuple[float, ...] = ()
    """Mean of each target in the training data (t)."""
    std: tuple[float, ...] = ()
    """Standard deviation of each target in the training data (t), above 0."""
    offset: tuple[float, ...] = ()
    """Offset of each target (t), subtracted in float64 where float32 would lose its differences; (): none."""

    @property
    def metric(self) -> Metric:
        unit = self.targets[0] if len(self.targets) == 1 else "deviations"
        return Metric(name="rmse", direction="lower", unit=unit)

    @property
    def outputs(self) -> int:
        return len(self.targets)

    @property
    def invariant_to(self) -> tuple[str, ...]:
        """All operations for one target; none for several, which may be positions."""
        return ("*",) if len(self.targets) <= 1 else ()

    def fit(self, targets: Float[Tensor, "n t"], /) -> "Regression":
        """Return the task with mean and deviation of these targets."""
        mean, std = target_statistics(targets)
        return replace(self, mean=mean, std=std)

    def _statistics(self, like: Tensor) -> tuple[Tensor, Tensor]:
        return like.new_tensor(self.mean), like.new_tensor(self.std)

    def loss(self, output: Float[Tensor, "n t"], y: Float[Tensor, "n t"], /) -> Float[Tensor, ""]:
        """Return the mean squared error of standardised targets."""
        mean, std = self._statistics(output)
        return F.mse_loss(output, (y.to(output.dtype) - mean) / std)

    def predict(self, output: Float[Tensor, "n t"], /) -> Float[Tensor, "n t"]:
        """Return predictions in the targets' own units, minus ``offset``."""
        mean, std = self._statistics(output)
        return output * std + mean

    def score(self, answers: Tensor, y: Tensor, groups: Tensor | None = None, /) -> float:
        """Return the root mean squared error: of one target in its own unit, of several in standard deviations."""
        error = answers.double() - y.double()
        if len(self.targets) > 1:
            error = error / error.new_tensor(self.std)
        return float(error.square().mean().sqrt())

    def chance_score(self, y: Tensor, /) -> float:
        """Return the error of predicting the training mean."""
        return self.score(y.double().new_tensor(self.mean).expand(y.shape), y)
