r"""Arithmetic of diffusion models: noise, the DDIM step, guidance, and the losses of Minimax diffusion.

A model predicts the noise ε in :math:`x_t = \sqrt{\bar\alpha_t} x + \sqrt{1 - \bar\alpha_t} ε` (Ho et al.,
arXiv:2006.11239). From it follow the clean sample, and the next point on the way there (Song et al., arXiv:2010.02502).
A model of flow matching (Lipman et al., arXiv:2210.02747) predicts :math:`v = ε - x` at :math:`(1 - s) x + s ε`; these
points are those of diffusion up to a factor, and an Euler step along v is a DDIM step with η = 0. So one sampler
serves both.
"""

from collections.abc import Callable, Sequence
from typing import TypeAlias

import torch
from jaxtyping import Float
from torch import Generator, Tensor

__all__ = [
    "Guide", "NoisePredictor", "add_noise", "clean_sample", "denoise_samples", "diversity_loss", "flow_time",
    "flow_to_noise", "guided_noise", "linear_rates", "posterior_std", "representativeness_loss", "sampling_times",
]  # fmt: skip

NoisePredictor: TypeAlias = Callable[[Tensor, int], Tensor]
"""Function that returns the noise in samples (n, …) at a time."""

Guide: TypeAlias = Callable[[Tensor, float, int], Tensor]
"""Function from predicted clean samples, the standard deviation of a DDPM step and the steps that are left after this
one to a shift of the samples."""

_FIRST_BETA, _LAST_BETA, _STEPS = 1e-4, 0.02, 1000
"""Schedule of DDPM and DiT."""


def linear_rates() -> Float[Tensor, " t"]:
    """Return the rates ᾱ of all 1,000 times of DDPM's linear schedule, falling from nearly 1 to nearly 0."""
    betas = torch.linspace(_FIRST_BETA, _LAST_BETA, _STEPS, dtype=torch.float64)
    return (1 - betas).cumprod(0).float()


def sampling_times(steps: int, total: int, strength: float = 1.0) -> tuple[int, ...]:
    """Return the times of a sampler, falling: ``steps`` evenly spaced ones of ``total``, of which a start from a
    noised sample takes the part ``strength`` that has least noise (as SDEdit, arXiv:2108.01073)."""
    times = torch.linspace(total - 1, 0, min(steps, total), dtype=torch.float64).round().long().tolist()
    return tuple(times[len(times) - int(len(times) * strength) :])


def add_noise(x: Tensor, noise: Tensor, rate: Tensor | float) -> Tensor:
    """Return samples (n, …) with noise, at a rate ᾱ or at one for each sample (n, 1, …)."""
    rate = torch.as_tensor(rate)
    return rate.sqrt() * x + (1 - rate).sqrt() * noise


def clean_sample(x_t: Tensor, noise: Tensor, rate: Tensor | float) -> Tensor:
    """Return the sample without its noise: the inverse of `add_noise`."""
    rate = torch.as_tensor(rate)
    return (x_t - (1 - rate).sqrt() * noise) / rate.sqrt()


def flow_time(rate: Tensor) -> Tensor:
    """Return the time s of flow matching whose point is that of rate ᾱ up to a factor: 0 without noise, 1 noise."""
    return (1 - rate).sqrt() / (rate.sqrt() + (1 - rate).sqrt())


def flow_to_noise(x_t: Tensor, velocity: Tensor, rate: Tensor) -> Tensor:
    """Return the noise in ``x_t`` by a velocity ε − x."""
    return x_t / (rate.sqrt() + (1 - rate).sqrt()) + (1 - flow_time(rate)) * velocity


def guided_noise(conditional: Tensor, unconditional: Tensor, scale: float) -> Tensor:
    """Return the noise by classifier-free guidance (Ho & Salimans, arXiv:2207.12598), as DiT writes its scale: 1 is
    the conditional model."""
    return unconditional + scale * (conditional - unconditional)


def posterior_std(rate: Tensor, following: Tensor) -> Tensor:
    """Return the standard deviation of a DDPM step between two rates, of which the latter is larger."""
    return ((1 - following) / (1 - rate) * (1 - rate / following)).sqrt()


def denoise_samples(
    x: Float[Tensor, "n ..."], predict: NoisePredictor, rates: Float[Tensor, " t"], times: Sequence[int], *,
    eta: float = 0.0, rng: Generator | None = None, guide: Guide | None = None,
) -> Float[Tensor, "n ..."]:  # fmt: skip
    """Return clean samples by the steps of DDIM (arXiv:2010.02502, equation 12).

    Args:
        x: samples with noise, at the first of ``times``.
        predict: the model.
        rates: rate ᾱ of every time.
        times: times to predict at, falling.
        eta: 0: no noise on the way; 1: as much as DDPM's steps.
        rng: of that noise.
        guide: shifts the samples after each step.
    """
    ahead = [*(rates[t] for t in times[1:]), torch.ones_like(rates[0])]
    for at, (t, following) in enumerate(zip(times, ahead, strict=True)):
        rate = rates[t]
        noise = predict(x, t)
        clean, std = clean_sample(x, noise, rate), posterior_std(rate, following)
        sigma = eta * std
        x = following.sqrt() * clean + (1 - following - sigma.square()).clamp(min=0).sqrt() * noise
        if eta and rng is not None:
            x = x + sigma * torch.randn(x.shape, generator=rng).to(x)
        if guide is not None:
            x = x + guide(clean, float(std), len(times) - 1 - at)
    return x


def representativeness_loss(predicted: Tensor, memory: Tensor) -> Float[Tensor, ""]:
    """Return 1 less the smallest cosine of predicted (n, …) and real samples (m, …): Minimax diffusion (Gu et
    al., arXiv:2311.15529) as its released train_dit.py computes it."""
    return 1 - _cosines(predicted, memory).min()


def diversity_loss(predicted: Tensor, memory: Tensor) -> Float[Tensor, ""]:
    """Return the largest cosine of predicted (n, …) and earlier predicted samples (m, …): Minimax diffusion
    as its released program computes it."""
    return _cosines(predicted, memory).max()


def _cosines(a: Tensor, b: Tensor) -> Float[Tensor, "n m"]:
    a, b = a.flatten(1), b.flatten(1)
    lengths: Tensor = torch.linalg.vector_norm(a, dim=1)[:, None] * torch.linalg.vector_norm(b, dim=1)
    return (a @ b.T) / lengths
