"""Expected calibration error (ECE) in bins of equal width.

Guo, Pleiss, Sun and Weinberger, "On Calibration of Modern Neural Networks" (arXiv:1706.04599), equation 3:

    ECE = Σ_b (n_b / n) · |accuracy(b) − confidence(b)|

over B bins ((b − 1)/B, b/B] of the greatest probability of each row.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from potstill.errors import PotstillError

__all__ = ["BINS", "Reliability", "reliability"]

BINS = 15
"""As in the paper."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reliability:
    """Counts and means per bin; means of an empty bin are 0."""

    count: Int[Tensor, " b"]
    confidence: Float[Tensor, " b"]
    """Mean of the greatest probability."""
    accuracy: Float[Tensor, " b"]

    @property
    def ece(self) -> float:
        """The expected calibration error, a fraction in [0, 1]."""
        share = self.count.double() / max(1, int(self.count.sum()))
        return float((share * (self.accuracy - self.confidence).abs()).sum())


def reliability(probabilities: Float[Tensor, "n k"], labels: Int[Tensor, " n"], bins: int = BINS) -> Reliability:
    """Counts, confidence and accuracy of rows in ``bins`` bins of equal width by their greatest probability.

    Raises:
        PotstillError: there is no bin.
    """
    if bins < 1:
        raise PotstillError(f"calibration needs at least one bin, but bins is {bins}; use {BINS}")
    confidence_of_rows, predicted = probabilities.double().max(1)
    at = (confidence_of_rows * bins).ceil().long().clamp(1, bins) - 1
    count = torch.bincount(at, minlength=bins)
    divisor = count.clamp(min=1).double()
    confidence = torch.bincount(at, weights=confidence_of_rows, minlength=bins) / divisor
    right = (predicted == labels.to(predicted.device)).double()
    return Reliability(
        count=count, confidence=confidence, accuracy=torch.bincount(at, weights=right, minlength=bins) / divisor
    )
