"""Shared positions: which they are, what is lost, and what they cost."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.fft import dctn
from small_problems import MANY, SHAPES, encoded, gradcheck, inputs, problem, same, stored

from potstill.core.registry import create
from potstill.errors import PotstillError
from potstill.functional.transforms import dct2
from potstill.parametrize.shared_frequency import SharedFrequency
from potstill.rng import generator
from potstill.testing import check_parametrization


@pytest.mark.parametrize("order", ["variance", "zigzag"])
def test_it_keeps_the_contract(order: str) -> None:
    check_parametrization(lambda: SharedFrequency(positions=12, order=order))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("order", ["variance", "zigzag"])
def test_all_positions_lose_nothing(shape: tuple[int, ...], order: str) -> None:
    one = int(np.prod(shape))
    prob = problem(SharedFrequency(positions=shape[1] * shape[2], order=order), shape, (3 * one, 4 * one, 2 * one))
    x = inputs(prob)
    torch.testing.assert_close(prob.decode(encoded(prob, x)), x, atol=1e-5, rtol=0)


@pytest.mark.parametrize("shape", SHAPES)
def test_kept_are_the_positions_of_the_largest_variance_over_all_classes(shape: tuple[int, int, int]) -> None:
    prob = problem(SharedFrequency(positions=7), shape, (400, 300, 350))
    payload = encoded(prob)
    pictures = prob.train.fetch(torch.arange(len(prob.train))).x.double().mean(1)
    variance = dctn(pictures.numpy(), axes=(1, 2), norm="ortho").reshape(len(pictures), -1).var(0)
    assert payload["decoder/positions"].tolist() == sorted(np.argsort(-variance)[:7].tolist())


def test_coefficients_go_from_low_frequencies_to_high_ones() -> None:
    prob = problem(SharedFrequency(positions=10, order="zigzag"), (1, 6, 6), (200, 200))
    x = inputs(prob)
    payload = encoded(prob, x)
    assert payload.keys() == {"coefficients"}
    places = [6 * u + v for u, v in sorted(((u, v) for u in range(6) for v in range(6)), key=lambda at: sum(at))][:10]
    torch.testing.assert_close(payload["coefficients"], dct2(x).flatten(2)[..., places])
    by_list = problem(SharedFrequency(positions=36), (1, 6, 6), (200, 200))
    all_places = problem(SharedFrequency(positions=36, order="zigzag"), (1, 6, 6), (200, 200))
    assert torch.equal(encoded(by_list, x[:10])["coefficients"], encoded(all_places, x[:10])["coefficients"])


@settings(max_examples=40, deadline=None)
@given(MANY, st.sampled_from(SHAPES), st.integers(0, 60), st.sampled_from(["variance", "zigzag"]))
def test_what_is_paid_is_what_is_stored(
    numbers: tuple[int, ...], shape: tuple[int, ...], kept: int, order: str
) -> None:
    used = kept or shape[1] * shape[2] // 12
    numbers = tuple(n + shape[0] * used + used // 2 + 2 for n in numbers)
    prob = problem(SharedFrequency(positions=kept, order=order), shape, numbers)
    listed = 2 * used if order == "variance" else 0
    assert stored(encoded(prob)) == 4 * sum(prob.sizes) * shape[0] * used + listed <= 4 * sum(numbers)
    assert 4 * sum(numbers) < 4 * (sum(prob.sizes) + len(numbers)) * shape[0] * used + listed + len(numbers)


def test_seeds_and_gradients() -> None:
    prob = problem(SharedFrequency(positions=4), (2, 5, 4), (20, 31))
    x = inputs(prob)
    rng = generator(3)
    before = rng.get_state()
    prob.parametrization.encode(x, prob, rng)
    assert torch.equal(before, rng.get_state())
    assert same(encoded(prob, x, seed=4), encoded(prob, x, seed=5))
    assert gradcheck(prob, encoded(prob, x))


@pytest.mark.parametrize("positions", [[0, 0, 1], [0, 1, 99], [-99, 0, 1], [0, 1]])
def test_damaged_positions_are_refused(positions: list[int]) -> None:
    prob = problem(SharedFrequency(positions=3), (1, 6, 6), (40, 40))
    with pytest.raises((RuntimeError, IndexError)):
        prob.decode({**encoded(prob), "decoder/positions": torch.tensor(positions, dtype=torch.int16)})


@pytest.mark.parametrize(
    ("spelled", "shape", "numbers", "message"),
    [
        (
            "shared-frequency:positions=8",
            (1, 8, 8),
            (9, 13),
            "one input of 8 coefficients .* needs 40 bytes, .* class 36",
        ),
        ("shared-frequency:positions=65", (1, 8, 8), (640,), "8×8 pixels have 64 positions, not 65; take fewer"),
        ("shared-frequency", (6,), (64,), r"frequency needs images .* \[6\]; take pixels"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(
    spelled: str, shape: tuple[int, ...], numbers: tuple[int, ...], message: str
) -> None:
    with pytest.raises(PotstillError, match=message):
        create("parametrizations", spelled).sizes(numbers, shape)


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(PotstillError, match="at least 0 positions a channel"):
        SharedFrequency(positions=-1)
    with pytest.raises(PotstillError, match="unknown order of shared-frequency 'spiral'"):
        SharedFrequency(order="spiral")
