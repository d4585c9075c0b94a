"""Private labeller: a linear map on public features, trained by gradients of all records with noise."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from potstill.private.door import PrivateDoor
from potstill.private.features import FeatureMap

__all__ = ["Centred", "Labeller", "train_labeller"]

LOGIT_NOISE = 4.0
"""Standard deviation of the noise in a logit that the learning rate admits; chosen on MNIST."""
LARGEST_LR = 300.0
MOMENTUM = 0.9
BIAS = 0.3
"""Part of the norm of the features that is constant."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Centred:
    """Public features less a released mean, over a released radius, with a constant; of norm 1 at most."""

    features: FeatureMap
    mean: Float[Tensor, " d"]
    radius: float

    def __call__(self, x: Tensor) -> Float[Tensor, "m d1"]:
        z = (self.features(x) - self.mean) / self.radius
        z = z / z.norm(dim=1, keepdim=True).clamp_min(1.0)
        bias = torch.full((len(z), 1), BIAS)
        return torch.cat([z * math.sqrt(1 - BIAS**2), bias], 1)


@dataclass(frozen=True, kw_only=True, eq=False)
class Labeller:
    """Linear map on features."""

    features: Callable[[Tensor], Tensor]
    weight: Float[Tensor, "d k"]
    noise: float = 0.0
    """Standard deviation of the noise in a logit."""

    def logits(self, x: Tensor) -> Float[Tensor, "m k"]:
        """Return logits of inputs in public units, moderated by the noise that they have; differentiable."""
        return self.features(x) @ self.weight / math.sqrt(1 + math.pi / 8 * self.noise**2)

    def probabilities(self, x: Tensor) -> Float[Tensor, "m k"]:
        """Return soft labels of inputs in public units."""
        return self.logits(x).softmax(1)


def learning_rate(steps: int, noise: float, records: float) -> tuple[float, float]:
    """Return the learning rate, and the standard deviation of the noise in a logit that follows from it.

    Args:
        steps: number of releases.
        noise: standard deviation of the noise of a release.
        records: noisy number of records.
    """
    gain = noise / records * _noise_gain(steps)
    rate = min(LARGEST_LR, LOGIT_NOISE / gain)
    return rate, rate * gain


def _noise_gain(steps: int) -> float:
    """Return the norm of the factors by which the noise of each step enters the averaged weights, at rate 1."""
    averaged = range(steps // 2, steps)
    factors = [
        sum((1 - MOMENTUM ** (t + 1 - s)) / (1 - MOMENTUM) for t in averaged if t >= s) / len(averaged)
        for s in range(steps)
    ]
    return math.sqrt(sum(f * f for f in factors))


def train_labeller(
    door: PrivateDoor, query: str, steps: int, features: Callable[[Tensor], Tensor], size: int, classes: int,
    records: float, rate: float,
) -> Float[Tensor, "d k"]:  # fmt: skip
    """Return weights after ``steps`` releases of the gradient: the average of the second half of the steps.

    Args:
        door: the records.
        query: name of its releases.
        steps: number of releases.
        features: public features of norm 1 at most.
        size: number of features.
        classes: number of classes.
        records: noisy number of records.
        rate: learning rate.
    """
    weight, velocity = torch.zeros(size, classes), torch.zeros(size, classes)
    average, last = torch.zeros(size, classes), steps - steps // 2
    for step in range(steps):
        current = weight

        def error(z: Tensor, y: Int[Tensor, " m"], weight: Tensor = current) -> Tensor:
            return (z @ weight).softmax(1) - F.one_hot(y, classes)

        gradient = door.noisy_products(query, features, error) / records
        velocity = MOMENTUM * velocity + gradient
        weight = weight - rate * velocity
        if step >= steps // 2:
            average += weight / last
    return average
