"""Counts: a network says the logarithm of a rate, Poisson's likelihood trains it, the mean deviance scores it.

McCullagh and Nelder, Generalized Linear Models, second edition, 1989, section 2.3 (the deviance) and chapter 6.
"""

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from potstill.tasks import Metric


@dataclass(frozen=True, kw_only=True)
class Counts:
    """Targets are float32 (n, 1), whole numbers of at least 0."""

    mean: float = 1.0
    """Of the training part, above 0: the rate that a network says whose output is 0."""

    @property
    def name(self) -> str:
        return "counts"

    @property
    def metric(self) -> Metric:
        return Metric(name="deviance", direction="lower", unit="mean deviance")

    @property
    def unit(self) -> str:
        return "item"

    @property
    def outputs(self) -> int:
        return 1

    def fit(self, targets: Tensor, /) -> "Counts":
        """With the mean of these targets."""
        return replace(self, mean=max(float(targets.double().mean()), 1e-6))

    def loss(self, output: Tensor, y: Tensor, /) -> Tensor:
        """Mean of rate − y · log rate, which is −log likelihood but for what does not depend on the network."""
        return F.poisson_nll_loss(output + torch.tensor(self.mean).log().to(output), y.to(output), log_input=True)

    def predict(self, output: Tensor, /) -> Tensor:
        """The rate (n, 1)."""
        return self.mean * output.exp()

    def score(self, answers: Tensor, y: Tensor, groups: Tensor | None = None, /) -> float:
        """Mean of 2 (y log(y / rate) − (y − rate))."""
        rate, y = answers.double().clamp_min(1e-12), y.double()
        return float(2 * (torch.xlogy(y, y / rate) - (y - rate)).mean())

    def chance_score(self, y: Tensor, /) -> float:
        """Of who says the training part's mean for all."""
        return self.score(torch.full_like(y, self.mean), y)
