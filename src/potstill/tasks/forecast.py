"""Forecasting the next values of a series, trained and scored by the squared error in standard deviations."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from potstill.tasks.metric import Metric

__all__ = ["Forecast"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """Forecasting. Targets are float32 (n, v·horizon): the next values of each variable in turn, minus ``offset``."""

    name: ClassVar[str] = "forecast"
    metric: ClassVar[Metric] = Metric(name="mse", direction="lower", unit="squared deviations")
    further_metrics: ClassVar[Mapping[str, Metric]] = {
        "mae": Metric(name="mae", direction="lower", unit="deviations"),
        "mase": Metric(name="mase", direction="lower", unit="naive errors"),
    }
    unit: ClassVar[str] = "window"
    left_out: ClassVar[tuple[str, ...]] = ("covariates", "inputs")
    """Fields that a file does not name where they are at their defaults."""
    invariant_to: ClassVar[tuple[str, ...]] = ("*",)
    """All operations: there are no pixels."""
    window: int = 96
    """Input values of each variable. Ours: four days of hours."""
    horizon: int = 24
    """Predicted values of each variable. Ours: the next day, in hours."""
    season: int = 0
    """Period of the seasonal baseline, in values; 0: estimated from the training data."""
    covariates: str = "none"
    """Columns beside the one to forecast as inputs: ``past``, their values in the window; ``known``, those of as many
    points that end with the horizon, where they are known beforehand, such as holidays; ``none``."""
    variables: tuple[str, ...] = ()
    """Names of the variables (v)."""
    inputs: tuple[str, ...] = ()
    """Names of the covariates, which follow the variables in an input."""
    mean: tuple[float, ...] = ()
    """Mean of each variable in the training data (v)."""
    std: tuple[float, ...] = ()
    """Standard deviation of each variable in the training data (v), above 0."""
    offset: tuple[float, ...] = ()
    """Offset of each variable (v), subtracted in float64 where float32 would lose its differences; (): none."""
    scale: tuple[float, ...] = ()
    """Mean absolute error of the naive forecast of each variable (v) in the training data: of the last value a season
    ago, or of the last one. (): unknown, and 0: none, which leave MASE out."""

    @property
    def outputs(self) -> int:
        return len(self.variables) * self.horizon

    def _statistics(self, like: Tensor) -> tuple[Tensor, Tensor]:
        mean, std = (like.new_tensor(v).repeat_interleave(self.horizon) for v in (self.mean, self.std))
        return mean, std

    def standardize(self, y: Tensor) -> Tensor:
        """Return values (n, v·horizon) minus the variable's mean, divided by its standard deviation."""
        mean, std = self._statistics(y)
        return (y - mean) / std

    def loss(self, output: Float[Tensor, "n t"], y: Float[Tensor, "n t"], /) -> Float[Tensor, ""]:
        """Return the mean squared error; networks predict standardised values."""
        return F.mse_loss(output, self.standardize(y.to(output.dtype)))

    def predict(self, output: Float[Tensor, "n t"], /) -> Float[Tensor, "n t"]:
        """Return predictions in the series' own units, minus ``offset``."""
        mean, std = self._statistics(output)
        return output * std + mean

    def score(self, answers: Tensor, y: Tensor, groups: Tensor | None = None, /) -> float:
        """Return the mean squared error of standardised values, as forecasting papers report it."""
        return float((self.standardize(answers.double()) - self.standardize(y.double())).square().mean())

    def further_scores(self, answers: Tensor, y: Tensor, groups: Tensor | None = None, /) -> Mapping[str, float]:
        """Return ``mae``, of standardised values, and ``mase``: absolute errors over the training data's naive ones."""
        wide = (len(y), len(self.variables), self.horizon)
        errors = (answers.double() - y.double()).abs().reshape(wide).mean((0, 2))
        found = {"mae": float((errors / errors.new_tensor(self.std)).mean())}
        scale = errors.new_tensor(self.scale)
        if len(scale) and bool((scale > 0).any()):
            found["mase"] = float((errors / scale)[scale > 0].mean())
        return found

    def chance_score(self, y: Tensor, /) -> float:
        """Return the error of predicting the training mean."""
        return float(self.standardize(y.double()).square().mean())
