"""Arithmetic of diffusion against what the papers write, one number at a time."""

import math

import pytest
import torch
from torch import Tensor

from potstill.functional.diffusion import (
    add_noise,
    clean_sample,
    denoise_samples,
    diversity_loss,
    flow_time,
    flow_to_noise,
    guided_noise,
    linear_rates,
    posterior_std,
    representativeness_loss,
    sampling_times,
)
from potstill.rng import generator

GOLDEN_RATES = (0.9999, 0.0786, 4.04e-5)
"""ᾱ of the first, the middle and the last time."""


def test_the_schedule_is_that_of_ddpm() -> None:
    rates = linear_rates()
    product = 1.0
    for t in range(1000):
        product *= 1 - (1e-4 + (0.02 - 1e-4) * t / 999)
        assert float(rates[t]) == pytest.approx(product, rel=1e-5)
    assert [float(rates[t]) for t in (0, 499, 999)] == pytest.approx(GOLDEN_RATES, rel=5e-3)


@pytest.mark.parametrize(
    ("steps", "strength", "expected"),
    [
        (1, 1.0, (999,)), (2, 1.0, (999, 0)), (5, 1.0, (999, 749, 500, 250, 0)), (5, 0.6, (500, 250, 0)),
        (5, 0.0, ()), (5, 0.19, ()),
    ],
)  # fmt: skip
def test_times_fall_evenly_and_a_start_from_samples_takes_the_last(
    steps: int, strength: float, expected: tuple[int, ...]
) -> None:
    assert sampling_times(steps, 1000, strength) == expected


def test_more_steps_than_times_are_all_times() -> None:
    assert sampling_times(50, 4) == (3, 2, 1, 0)


def test_noise_and_the_clean_sample_are_inverse() -> None:
    rng = generator(1)
    x, noise = torch.randn(3, 4, generator=rng).double(), torch.randn(3, 4, generator=rng).double()
    rate = torch.tensor([[0.9], [0.5], [0.1]]).double()
    x_t = add_noise(x, noise, rate)
    assert float(x_t[1, 2]) == pytest.approx(math.sqrt(0.5) * float(x[1, 2]) + math.sqrt(0.5) * float(noise[1, 2]))
    torch.testing.assert_close(clean_sample(x_t, noise, rate), x)


def naive_steps(x: float, rates: list[float], times: list[int], eta: float, draws: list[float]) -> float:
    """Song et al., equation 12, for one number and a model that predicts tanh(x + t / 10)."""
    for at, t in enumerate(times):
        now, following = rates[t], rates[times[at + 1]] if at + 1 < len(times) else 1.0
        noise = math.tanh(x + t / 10)
        clean = (x - math.sqrt(1 - now) * noise) / math.sqrt(now)
        sigma = eta * math.sqrt((1 - following) / (1 - now)) * math.sqrt(1 - now / following)
        towards = math.sqrt(max(0.0, 1 - following - sigma**2)) * noise
        x = math.sqrt(following) * clean + towards + sigma * draws[at]
    return x


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_a_sampler_makes_the_steps_of_ddim(eta: float) -> None:
    rates = torch.tensor([0.95, 0.8, 0.4, 0.1]).double()
    draws = [torch.randn(1, 1, generator=rng).item() for rng in [generator(7)] for _ in range(3)]
    found = denoise_samples(
        torch.tensor([[0.3]], dtype=torch.float64),
        lambda x, t: (x + t / 10).tanh(),
        rates,
        (3, 2, 0),
        eta=eta,
        rng=generator(7),
    )
    assert float(found) == pytest.approx(naive_steps(0.3, rates.tolist(), [3, 2, 0], eta, draws), abs=1e-9)


def test_a_sampler_that_knows_the_noise_finds_the_sample_in_any_steps() -> None:
    rng = generator(2)
    x, noise, rates = torch.randn(5, 3, generator=rng), torch.randn(5, 3, generator=rng), linear_rates()

    def knows(x_t: Tensor, t: int) -> Tensor:
        return (x_t - rates[t].sqrt() * x) / (1 - rates[t]).sqrt()

    for steps in (1, 3, 20):
        times = sampling_times(steps, 1000, 0.7) or (699,)
        found = denoise_samples(add_noise(x, noise, rates[times[0]]), knows, rates, times)
        torch.testing.assert_close(found, x, atol=1e-4, rtol=0)


def test_a_guide_shifts_every_step_and_is_told_how_many_are_left() -> None:
    rates, told = torch.tensor([0.9, 0.5, 0.2]), []

    def guide(clean: Tensor, std: float, left: int) -> Tensor:
        told.append((left, std))
        return torch.full_like(clean, 0.25)

    found = denoise_samples(torch.zeros(1, 1), lambda x, t: torch.zeros_like(x), rates, (2, 1, 0), guide=guide)
    # without noise a step is a factor: √(0.5 / 0.2), √(0.9 / 0.5), √(1 / 0.9)
    expected = ((0.25 * math.sqrt(0.9 / 0.5)) + 0.25) * math.sqrt(1 / 0.9) + 0.25
    assert float(found) == pytest.approx(expected, rel=1e-5)
    assert [left for left, _ in told] == [2, 1, 0]
    assert told[0][1] == pytest.approx(math.sqrt(0.5 / 0.8 * (1 - 0.2 / 0.5)), rel=1e-5)
    assert told[2][1] == 0.0
    assert float(posterior_std(torch.tensor(0.2), torch.tensor(0.5))) == pytest.approx(told[0][1], rel=1e-6)


def test_an_euler_step_of_flow_matching_is_a_step_of_ddim() -> None:
    rng = generator(3)
    x, velocity = torch.randn(4, 2, generator=rng).double(), torch.randn(4, 2, generator=rng).double()
    now, following = torch.tensor(0.3).double(), torch.tensor(0.7).double()
    s, s_following = flow_time(now), flow_time(following)
    assert float(flow_time(torch.tensor(0.5))) == pytest.approx(0.5)
    euler = x + (s_following - s) * velocity

    def to_diffusion(points: Tensor, rate: Tensor) -> Tensor:
        return points * (rate.sqrt() + (1 - rate).sqrt())

    noise = flow_to_noise(to_diffusion(x, now), velocity, now)
    rates = torch.stack([following, now])
    clean = clean_sample(to_diffusion(x, now), noise, now)
    torch.testing.assert_close(x, (1 - s) * clean + s * noise)
    torch.testing.assert_close(velocity, noise - clean)
    ddim = rates[0].sqrt() * clean + (1 - rates[0]).sqrt() * noise
    torch.testing.assert_close(to_diffusion(euler, following), ddim)


def test_guidance_of_1_is_the_conditional_model() -> None:
    conditional, none = torch.tensor([1.0, 2.0]), torch.tensor([0.5, 3.0])
    assert guided_noise(conditional, none, 1.0).tolist() == [1.0, 2.0]
    assert guided_noise(conditional, none, 4.0).tolist() == [2.5, -1.0]


def test_the_losses_of_minimax_are_those_of_the_released_program() -> None:
    """``1 − cosine_similarity(…).min()`` and ``cosine_similarity(…).max()`` of train_dit.py, by loops."""
    rng = generator(4)
    predicted, memory = torch.randn(3, 2, 2, generator=rng).double(), torch.randn(5, 2, 2, generator=rng).double()
    cosines = []
    for a in predicted.flatten(1).tolist():
        for b in memory.flatten(1).tolist():
            dot = sum(u * v for u, v in zip(a, b, strict=True))
            cosines.append(dot / math.sqrt(sum(u * u for u in a)) / math.sqrt(sum(v * v for v in b)))
    assert float(representativeness_loss(predicted, memory)) == pytest.approx(1 - min(cosines), abs=1e-12)
    assert float(diversity_loss(predicted, memory)) == pytest.approx(max(cosines), abs=1e-12)
