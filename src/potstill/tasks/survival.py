"""Survival: times until an event that some samples have not had yet, scored by the concordance of risks."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from potstill.tasks.metric import Metric
from potstill.tasks.partial_likelihood import concordance, cox_loss

__all__ = ["Survival"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Survival:
    """Times until an event. Targets are float32 (n, 2): the time, and 1 where the event was then, 0 where it was not
    seen until then; networks predict the logarithm of a risk."""

    name: ClassVar[str] = "survival"
    unit: ClassVar[str] = "item"
    invariant_to: ClassVar[tuple[str, ...]] = ("*",)
    metric: ClassVar[Metric] = Metric(name="concordance", direction="higher", unit="fraction", high=1.0)
    outputs: ClassVar[int] = 1
    time: str = ""
    """Column of the times."""
    event: str = ""
    """Column that is 1 for an event, 0 for a time until which none was seen."""

    @property
    def targets(self) -> tuple[str, str]:
        """Names of both targets."""
        return self.time or "time", self.event or "event"

    def loss(self, output: Float[Tensor, "n 1"], y: Float[Tensor, "n 2"], /) -> Float[Tensor, ""]:
        """Return the negative log partial likelihood of Cox's model, the mean over events."""
        return cox_loss(output[:, 0], y[:, 0].to(output), y[:, 1] > 0.5)

    def predict(self, output: Float[Tensor, "n 1"], /) -> Float[Tensor, "n 1"]:
        """Return the logarithm of each risk."""
        return output

    def score(self, answers: Tensor, y: Tensor, groups: Tensor | None = None, /) -> float:
        """Return the share of comparable pairs in which the earlier event has the higher risk."""
        return concordance(answers.double().reshape(-1), y[:, 0].double(), y[:, 1] > 0.5)

    def chance_score(self, y: Tensor, /) -> float:
        """Return the concordance of equal risks."""
        return 0.5

    def check_targets(self, y: Tensor, /) -> None:
        """
        Raises:
            ValueError: targets are no times and events.
        """
        if y.ndim != 2 or y.shape[1] != 2 or not bool(torch.isfinite(y).all()):
            raise ValueError(f"targets must be finite times and events (n, 2), not {tuple(y.shape)}")
        if bool((y[:, 0] < 0).any()) or not bool(((y[:, 1] == 0) | (y[:, 1] == 1)).all()):
            raise ValueError("times must be at least 0, and events 0 or 1")
