"""HDT's harmonic loss against sums by hand, a golden number, and what it does not ask for."""

import cmath
import math

import pytest
import torch

from potstill.functional.harmonics import harmonic_loss


def by_hand(points, real, harmonics, order):
    total, (stretches, m, variables) = 0.0, points.shape
    for c in range(stretches):
        for v in range(variables):
            made, given = (
                [
                    abs(sum(float(x[c, t, v]) * cmath.exp(-2j * math.pi * i * t / m) for t in range(m))) / math.sqrt(m)
                    for i in range(m // 2 + 1)
                ]
                for x in (points, real)
            )
            kept = sorted(range(len(given)), key=lambda i: -given[i])[:harmonics]
            total += sum(abs(given[i] - made[i]) ** order for i in kept) ** (1 / order)
    return total / (stretches * variables)


def draw(seed, *shape, **options):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64, **options)


@pytest.mark.parametrize(("m", "harmonics", "order"), [(12, 3, 2.0), (13, 2, 1.0), (9, 50, 3.0)])
def test_it_is_the_sum_written_by_hand(m: int, harmonics: int, order: float) -> None:
    points, real = draw(0, 2, m, 3), draw(1, 2, m, 3)
    found = harmonic_loss(points, real, harmonics, order)
    assert float(found) == pytest.approx(by_hand(points, real, harmonics, order), rel=1e-9)


def test_golden_number() -> None:
    """A cosine of amplitude 2 over 8 points has the coefficient 2 · 8/2 / √8; half of it is missing."""
    wave = torch.cos(2 * math.pi * torch.arange(8.0) / 8)[None, :, None]
    assert float(harmonic_loss(wave, 2 * wave, 1)) == pytest.approx(math.sqrt(2), rel=1e-6)


def test_phases_are_free() -> None:
    time = torch.arange(24.0)
    one, later = (torch.cos(2 * math.pi * (time + shift) / 6)[None, :, None] for shift in (0, 2))
    assert float(harmonic_loss(one, later, 5)) < 1e-5
    slower = torch.cos(2 * math.pi * time / 12)[None, :, None]
    assert float(harmonic_loss(one, slower, 5)) > 1


def test_gradients() -> None:
    points, real = draw(2, 1, 8, 2, requires_grad=True), draw(3, 1, 8, 2)
    assert torch.autograd.gradcheck(lambda p: harmonic_loss(p, real, 3), (points,))
    assert torch.autograd.gradcheck(lambda p: harmonic_loss(p, real, 3, 1.5), (points,))


def test_equal_amplitudes_have_no_slope() -> None:
    points = draw(4, 1, 8, 1).requires_grad_()
    (slope,) = torch.autograd.grad(harmonic_loss(points, points.detach(), 4), points)
    assert torch.equal(slope, torch.zeros_like(slope))
