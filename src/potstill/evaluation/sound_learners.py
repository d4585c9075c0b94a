"""Learners of sounds: logistic regression on the mean and the deviation of each band."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from potstill.core import Task
from potstill.errors import PotstillError
from potstill.evaluation.estimators import Predictor
from potstill.evaluation.learners import BuiltIn, LinearModel

__all__ = ["BandStatistics"]


@dataclass(frozen=True, kw_only=True)
class BandStatistics(BuiltIn):
    """scikit-learn's ``LogisticRegression`` on the mean and the deviation over time of each band of a spectrogram,
    standardised by the training samples. It hears the colour of a sound and not its order in time.

    Raises:
        PotstillError: a setting out of its range.
    """

    name: ClassVar[str] = "band-statistics"
    tasks: ClassVar[tuple[str, ...]] = ("classification",)
    strength: float = 1.0
    """``C``: scikit-learn's default."""

    def __post_init__(self) -> None:
        self._require_least(strength=1e-12)

    def fit(self, x: Tensor, y: Tensor, weights: Tensor | None, task: Task, seed: int) -> Predictor:
        if x.ndim != 4:
            raise PotstillError(
                f"{self.name} learns from spectrograms (1, bands, time), but inputs have shape {list(x.shape[1:])}; "
                "choose another learner"
            )
        rows = _statistics(x.detach())
        mean, spread = rows.mean(0), rows.std(0, correction=0)
        spread = torch.where(spread > 1e-9, spread, torch.ones_like(spread))
        predict = LinearModel(strength=self.strength).fit((rows - mean) / spread, y, weights, task, seed)
        return lambda inputs: predict((_statistics(inputs).to(mean) - mean) / spread)


def _statistics(x: Float[Tensor, "n c bands t"]) -> Float[Tensor, "n d"]:
    """Return the mean and the population deviation over time of each band."""
    x = x.double()
    return torch.cat([x.mean(3), x.std(3, correction=0)], 1).flatten(1)
