"""Evolution strategies: a gradient estimate from scores alone, where no derivative exists.

Salimans et al., *Evolution Strategies as a Scalable Alternative to Reinforcement Learning*, arXiv:1703.03864: the
gradient of E[F(x + σε)] by x is E[F(x + σε) ε] / σ. Perturbations come in pairs ±ε, which cancel what is even in ε, and
scores are replaced by their ranks, so that one very high return does not decide a step.
"""

import torch
from jaxtyping import Float
from torch import Generator, Tensor

__all__ = ["antithetic_noise", "centred_ranks", "evolution_gradient"]


def antithetic_noise(pairs: int, size: int, rng: Generator) -> Float[Tensor, "p d"]:
    """Return standard normal perturbations (2 · pairs, size): ε₁ … εₙ, then −ε₁ … −εₙ."""
    half = torch.randn(pairs, size, generator=rng)
    return torch.cat([half, -half])


def centred_ranks(scores: Float[Tensor, " p"]) -> Float[Tensor, " p"]:
    """Return ranks from −½ (lowest) to ½; equal scores have the mean of their ranks.

    Args:
        scores: at least two.
    """
    below = (scores[None, :] < scores[:, None]).sum(1)
    equal = (scores[None, :] == scores[:, None]).sum(1)
    ranks = below + (equal - 1) / 2
    return ranks / (len(scores) - 1) - 0.5


def evolution_gradient(
    noise: Float[Tensor, "p d"], weights: Float[Tensor, " p"], sigma: float
) -> Float[Tensor, " d"]:  # fmt: skip
    """Return Σᵢ wᵢ εᵢ / (p σ): the direction in which the expected score rises.

    Args:
        noise: perturbations ε, as `antithetic_noise` returns them.
        weights: score of each, such as `centred_ranks`.
        sigma: σ, above 0: their scale.
    """
    return weights @ noise / (len(noise) * sigma)
