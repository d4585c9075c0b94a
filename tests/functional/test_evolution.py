"""Evolution strategies: beside loops, numbers by hand, and a function whose gradient is known."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from potstill.functional.evolution import antithetic_noise, centred_ranks, evolution_gradient
from potstill.rng import generator


def test_noise_comes_in_pairs_that_cancel():
    noise = antithetic_noise(3, 4, generator(0, "noise"))
    assert noise.shape == (6, 4)
    assert torch.equal(noise[:3], -noise[3:])
    assert torch.equal(noise, antithetic_noise(3, 4, generator(0, "noise")))


def test_ranks_by_hand():
    assert centred_ranks(torch.tensor([3.0, -1.0, 7.0])).tolist() == [0.0, -0.5, 0.5]
    assert centred_ranks(torch.tensor([5.0, 5.0])).tolist() == [0.0, 0.0]
    assert centred_ranks(torch.tensor([1.0, 2.0, 2.0, 9.0, 10.0])).tolist() == [-0.5, -0.125, -0.125, 0.25, 0.5]


@settings(deadline=None)
@given(st.lists(st.integers(-5, 5), min_size=2, max_size=20))
def test_ranks_are_those_of_scipy(scores):
    from scipy.stats import rankdata

    expected = (rankdata(scores) - 1) / (len(scores) - 1) - 0.5
    torch.testing.assert_close(
        centred_ranks(torch.tensor(scores, dtype=torch.float64)), torch.from_numpy(expected).float()
    )


def test_the_gradient_is_the_naive_sum():
    noise = antithetic_noise(4, 3, generator(1, "noise"))
    weights = torch.linspace(-1, 2, 8)
    expected = sum(w * e for w, e in zip(weights, noise, strict=True)) / (8 * 0.3)
    torch.testing.assert_close(evolution_gradient(noise, weights, 0.3), expected)


def test_the_gradient_of_a_linear_score_is_its_slope():
    slope = torch.tensor([2.0, -1.0, 0.5])
    noise = antithetic_noise(20_000, 3, generator(2, "noise"))
    torch.testing.assert_close(evolution_gradient(noise, (0.1 * noise) @ slope, 0.1), slope, atol=0.05, rtol=0)
