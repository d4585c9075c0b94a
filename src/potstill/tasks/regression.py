"""Real targets: the squared error of targets that are scaled by the training part trains, its root scores."""

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from potstill.tasks.metric import Metric

__all__ = ["Regression", "target_statistics"]


def target_statistics(y: Float[Tensor, "n t"]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each target of the training part; a constant one has deviation 1."""
    mean, std = y.double().mean(0), y.double().std(0, correction=0)
    varies = (std > 0) & (std > 1e-12 * mean.abs())  # what varies by 1e-15 in its unit varies, too
    return tuple(mean.tolist()), tuple(torch.where(varies, std, torch.ones_like(std)).tolist())


@dataclass(frozen=True, slots=True, kw_only=True)
class Regression:
    """Targets are float32 (n, t) in their own units, less ``offset``. A network learns them less their mean, over their
    deviation."""

    targets: tuple[str, ...] = ()
    """Their names (t)."""
    mean: tuple[float, ...] = ()
    """Of the training part (t)."""
    std: tuple[float, ...] = ()
    """Of the training part (t), above 0."""
    offset: tuple[float, ...] = ()
    """Subtracted from the targets (t) in float64, where float32 would not hold what they differ by; (): nothing."""

    @property
    def name(self) -> str:
        return "regression"

    @property
    def metric(self) -> Metric:
        unit = self.targets[0] if len(self.targets) == 1 else "deviations"
        return Metric(name="rmse", direction="lower", unit=unit)

    @property
    def unit(self) -> str:
        return "item"

    @property
    def outputs(self) -> int:
        return len(self.targets)

    @property
    def invariant_to(self) -> tuple[str, ...]:
        """All, of one target; none of several, which may be places in the picture."""
        return ("*",) if len(self.targets) <= 1 else ()

    def fit(self, targets: Float[Tensor, "n t"], /) -> "Regression":
        """With mean and deviation of these targets."""
        mean, std = target_statistics(targets)
        return replace(self, mean=mean, std=std)

    def _own(self, like: Tensor) -> tuple[Tensor, Tensor]:
        return like.new_tensor(self.mean), like.new_tensor(self.std)

    def loss(self, output: Float[Tensor, "n t"], y: Float[Tensor, "n t"], /) -> Float[Tensor, ""]:
        """Mean squared error of the scaled targets."""
        mean, std = self._own(output)
        return F.mse_loss(output, (y.to(output.dtype) - mean) / std)

    def predict(self, output: Float[Tensor, "n t"], /) -> Float[Tensor, "n t"]:
        """What it predicts, in the targets' own units, less ``offset``."""
        mean, std = self._own(output)
        return output * std + mean

    def score(self, answers: Tensor, y: Tensor, /) -> float:
        """Root of the mean squared error: of one target in its own unit, of several in their deviations."""
        error = answers.double() - y.double()
        if len(self.targets) > 1:
            error = error / error.new_tensor(self.std)
        return float(error.square().mean().sqrt())

    def chance_score(self, y: Tensor, /) -> float:
        """The error of the training part's mean."""
        return self.score(y.double().new_tensor(self.mean).expand(y.shape), y)
