"""The next values of a series: squared error trains and scores, in deviations of the training part."""

from dataclasses import dataclass

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from potstill.tasks.metric import Metric

__all__ = ["Forecast"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """Targets are float32 (n, v·horizon), the next values of each variable in turn, in their own units, less
    ``offset``."""

    window: int = 96
    """Values of each variable that are seen. Ours: of hours, four days."""
    horizon: int = 24
    """Values of each variable to come that are asked for. Ours: of hours, the next day."""
    season: int = 0
    """Values after which a season comes again, for the seasonal forecast that sets are measured beside; 0: as the
    training part says."""
    variables: tuple[str, ...] = ()
    """What is measured (v)."""
    mean: tuple[float, ...] = ()
    """Of the training part (v)."""
    std: tuple[float, ...] = ()
    """Of the training part (v), above 0."""
    offset: tuple[float, ...] = ()
    """Subtracted from the variables (v) in float64, where float32 would not hold what they differ by; (): nothing."""

    @property
    def name(self) -> str:
        return "forecast"

    @property
    def metric(self) -> Metric:
        return Metric(name="mse", direction="lower", unit="squared deviations")

    @property
    def unit(self) -> str:
        return "window"

    @property
    def outputs(self) -> int:
        return len(self.variables) * self.horizon

    @property
    def invariant_to(self) -> tuple[str, ...]:
        """All: there are no pixels."""
        return ("*",)

    def standardize(self, y: Tensor) -> Tensor:
        """Values (n, v·horizon) less the variable's mean, over its deviation."""
        mean, std = (y.new_tensor(v).repeat_interleave(self.horizon) for v in (self.mean, self.std))
        return (y - mean) / std

    def loss(self, output: Float[Tensor, "n t"], y: Float[Tensor, "n t"], /) -> Float[Tensor, ""]:
        """Mean squared error of the scaled values, which are what a network gives."""
        return F.mse_loss(output, self.standardize(y.to(output.dtype)))

    def predict(self, output: Float[Tensor, "n t"], /) -> Float[Tensor, "n t"]:
        """What it predicts, in the series' own units, less ``offset``."""
        mean, std = (output.new_tensor(v).repeat_interleave(self.horizon) for v in (self.mean, self.std))
        return output * std + mean

    def score(self, answers: Tensor, y: Tensor, /) -> float:
        """Mean squared error in squared deviations of the training part, as forecasters are compared."""
        return float((self.standardize(answers.double()) - self.standardize(y.double())).square().mean())

    def chance_score(self, y: Tensor, /) -> float:
        """The error of the training part's mean."""
        return float(self.standardize(y.double()).square().mean())
