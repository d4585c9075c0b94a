"""LowResolution inputs: how many fit, what they start as, and how they are enlarged."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from small_problems import MANY, SHAPES, encoded, gradcheck, inputs, problem, same, stored

from potstill.core.registry import create
from potstill.errors import PotstillError
from potstill.functional.transforms import area_matrix, shrink
from potstill.parametrize.low_resolution import LowResolution
from potstill.parametrize.pixels import Pixels
from potstill.rng import generator


@pytest.mark.parametrize("shape", [*SHAPES, (3, 28, 28)])
@pytest.mark.parametrize("factor", [1, 2, 3])
def test_starts_as_means_and_is_enlarged(shape: tuple[int, int, int], factor: int) -> None:
    prob = problem(LowResolution(factor=factor), shape, (2 * math.prod(shape), math.prod(shape) + 3))
    x = inputs(prob)
    payload = encoded(prob, x)
    c, h, w = shape
    a, b = math.ceil(h / factor), math.ceil(w / factor)
    assert tuple(payload["inputs"].shape) == (sum(prob.sizes), c, a, b)
    torch.testing.assert_close(payload["inputs"], F.adaptive_avg_pool2d(x, (a, b)))
    expected = F.interpolate(payload["inputs"], size=(h, w), mode="bilinear", align_corners=False)
    torch.testing.assert_close(prob.decode(payload), expected)
    if factor == 1:
        assert torch.equal(prob.decode(payload), x)


@settings(max_examples=60)
@given(numbers=MANY, shape=st.sampled_from(SHAPES), factor=st.integers(1, 4))
def test_as_many_as_the_numbers_pay(numbers: tuple[int, ...], shape: tuple[int, int, int], factor: int) -> None:
    one = shape[0] * math.ceil(shape[1] / factor) * math.ceil(shape[2] / factor)
    if min(numbers) < one:
        with pytest.raises(PotstillError, match="small: one input has"):
            LowResolution(factor=factor).sizes(numbers, shape)
        return
    sizes = LowResolution(factor=factor).sizes(numbers, shape)
    assert all(one * n <= have < one * (n + 1) for n, have in zip(sizes, numbers, strict=True))
    prob = problem(LowResolution(factor=factor), shape, numbers)
    assert stored(encoded(prob)) <= 4 * sum(numbers)


def test_half_the_side_is_four_times_as_many() -> None:
    assert LowResolution().sizes((3 * 784,), (1, 28, 28)) == (12,)
    assert Pixels().sizes((3 * 784,), (1, 28, 28)) == (3,)
    assert LowResolution().sizes((196,), (1, 28, 28)) == (1,)


def test_draws_nothing_and_gradients_are_right() -> None:
    prob = problem(create("parametrizations", "small:factor=3"), (2, 7, 8), (112, 112))
    assert prob.parametrization.bounded
    x = inputs(prob)
    assert same(encoded(prob, x, seed=1), encoded(prob, x, seed=2))
    assert gradcheck(prob, encoded(prob, x))
    low = prob.decode(encoded(prob, x))
    assert float(low.min()) >= 0
    assert float(low.max()) <= 1


def test_means_of_areas_are_pooling() -> None:
    x = torch.rand(2, 3, 11, 7, generator=generator(0, "area"))
    torch.testing.assert_close(shrink(x, (4, 3)), F.adaptive_avg_pool2d(x, (4, 3)))
    assert shrink(x, (11, 7)) is x
    assert torch.allclose(area_matrix(11, 4, torch.float64, x.device).sum(1), torch.ones(4, dtype=torch.float64))


@pytest.mark.parametrize("factor", [0, -1])
def test_settings_out_of_range_are_refused(factor: int) -> None:
    with pytest.raises(PotstillError, match="factor must be at least 1"):
        LowResolution(factor=factor)
    with pytest.raises(PotstillError, match="needs images"):
        LowResolution().sizes((100,), (30,))
