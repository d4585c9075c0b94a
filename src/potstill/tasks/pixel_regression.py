"""Regression of pixels: a real value for each pixel, trained by the squared error and scored by PSNR."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from potstill.tasks.geometry import Movement, move_maps
from potstill.tasks.metric import Metric

__all__ = ["PixelRegression"]

_HIGHEST = 100.0
"""PSNR of answers without an error, in dB; larger ones are cut."""
_LEVELS = 256
"""Values that a target has in a file."""
_ALMOST_ALL = 1 - 1e-4
"""Share of a moved pixel that must come from pixels with a value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PixelRegression:
    """Regression of pixels. Targets are float32 (n, h, w), or (n, c, h, w) for several channels, NaN for pixels without
    a value; networks predict standardised values (n, c, h, w)."""

    name: ClassVar[str] = "pixel-regression"
    unit: ClassVar[str] = "item"
    metric: ClassVar[Metric] = Metric(name="PSNR", direction="higher", unit="dB", low=-math.inf, high=_HIGHEST)
    network: ClassVar[str] = "unet"
    channels: int = 1
    """Values of a pixel (c)."""
    peak: float = 0.0
    """Range of values that PSNR refers to; 0: from ``low`` to ``high``."""
    low: float = 0.0
    """Smallest training target."""
    high: float = 1.0
    """Largest training target."""
    mean: float = 0.0
    """Mean of the training targets."""
    std: float = 1.0
    """Standard deviation of the training targets, above 0."""

    @property
    def outputs(self) -> int:
        return self.channels

    def fit(self, targets: Tensor, /) -> "PixelRegression":
        """Return the task with the channels, range, mean and deviation of these targets."""
        values = targets[~targets.isnan()].double()
        low, high = float(values.min()), float(values.max())
        std = float(values.std(correction=0))
        return replace(
            self, channels=1 if targets.ndim == 3 else targets.shape[1], low=low, high=high, mean=float(values.mean()),
            std=std if std > 0 else 1.0,
        )  # fmt: skip

    def loss(self, output: Float[Tensor, "n c h w"], y: Tensor, /) -> Float[Tensor, ""]:
        """Return the mean squared error of standardised targets over all pixels that have a value; 0 where none has."""
        y = self._as_maps(y).to(output.dtype)
        known = ~y.isnan()
        error = torch.where(known, output - (y.nan_to_num() - self.mean) / self.std, 0)
        return error.square().sum() / known.sum().clamp_min(1)

    def predict(self, output: Float[Tensor, "n c h w"], /) -> Tensor:
        """Return predictions in the targets' own units, in their shape."""
        answers = output * self.std + self.mean
        return answers[:, 0] if self.channels == 1 else answers

    def score(self, answers: Tensor, y: Tensor, groups: Tensor | None = None, /) -> float:
        """Return the PSNR of all pixels together that have a value, in dB: 10 log₁₀(peak² / mean squared error)."""
        error = self._errors(answers, y).square().mean()
        ratio = (self.peak or self.high - self.low or 1.0) ** 2 / float(error) if float(error) else math.inf
        return min(_HIGHEST, 10 * math.log10(ratio)) if ratio > 0 else -math.inf

    @property
    def further_metrics(self) -> Mapping[str, Metric]:
        """Root mean squared and mean absolute error, in the targets' units."""
        return {
            "rmse": Metric(name="RMSE", direction="lower", unit="units"),
            "mae": Metric(name="MAE", direction="lower", unit="units"),
        }

    def further_scores(self, answers: Tensor, y: Tensor, groups: Tensor | None, /) -> Mapping[str, float]:
        """Return the errors of all pixels that have a value."""
        errors = self._errors(answers, y)
        return {"rmse": float(errors.square().mean().sqrt()), "mae": float(errors.abs().mean())}

    def chance_score(self, y: Tensor, /) -> float:
        """Return the score of the training mean everywhere."""
        return self.score(torch.full_like(y, self.mean), y)

    def move_targets(self, y: Tensor, movement: Movement, /) -> Tensor:
        """Return the targets as their pictures were moved; pixels that come from pixels without a value, or from
        outside of a picture, have none."""
        known = ~y.isnan()
        share = move_maps(known.float(), movement)
        moved = move_maps(torch.where(known, y, 0), movement)
        return torch.where(share >= _ALMOST_ALL, moved / share.clamp_min(_ALMOST_ALL), math.nan)

    def pack_targets(self, y: Tensor, /) -> Tensor:
        """Return targets as a file has them, (n, c, h, w): numbers of `_LEVELS` equal steps from ``low`` to ``high``,
        and one more for pixels without a value."""
        y = self._as_maps(y).double()
        codes = ((y.nan_to_num() - self.low) / self._step).round().clamp(0, _LEVELS - 1).long()
        return torch.where(y.isnan(), _LEVELS, codes)

    def unpack_targets(self, stored: Tensor, /) -> Tensor:
        """Return what `pack_targets` was given, in steps.

        Raises:
            ValueError: these are no targets.
        """
        if stored.ndim != 4 or stored.shape[1] != self.channels or stored.is_floating_point():
            raise ValueError(f"targets must be whole numbers (n, {self.channels}, h, w), not {list(stored.shape)}")
        if int(stored.min()) < 0 or int(stored.max()) > _LEVELS:
            raise ValueError(f"targets must hold 0 … {_LEVELS}")
        values = (stored.double() * self._step + self.low).float().masked_fill(stored == _LEVELS, math.nan)
        return values[:, 0].contiguous() if self.channels == 1 else values

    @property
    def _step(self) -> float:
        return (self.high - self.low) / (_LEVELS - 1) or 1.0

    def _as_maps(self, y: Tensor) -> Tensor:
        """Return targets (n, h, w) or (n, c, h, w) as (n, c, h, w)."""
        return y[:, None] if y.ndim == 3 else y

    def _errors(self, answers: Tensor, y: Tensor) -> Float[Tensor, " values"]:
        """Return the error of each value that is known, float64.

        Raises:
            ValueError: the shapes differ, or no pixel has a value.
        """
        if answers.shape != y.shape:
            raise ValueError(f"targets and answers must have one shape, not {list(y.shape)} and {list(answers.shape)}")
        known = ~y.isnan()
        if not bool(known.any()):
            raise ValueError("a pixel with a value is required, but all targets are NaN")
        return answers[known].double() - y[known].double()
