"""Frequency: the transform, which positions are kept, what is lost, and what positions cost."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.fft import dctn, idctn
from small_problems import MANY, SHAPES, encoded, gradcheck, inputs, problem, same, stored

from potstill.core.registry import create
from potstill.errors import PotstillError
from potstill.functional.transforms import bilinear_matrix, dct2, dct_matrix, idct2, resize
from potstill.parametrize.frequency import Frequency
from potstill.rng import generator


@pytest.mark.parametrize("shape", [*SHAPES, (1, 1, 7), (2, 32, 32)])
def test_the_transform_is_scipys(shape: tuple[int, ...]) -> None:
    x = torch.randn(3, *shape, generator=generator(0), dtype=torch.float64)
    np.testing.assert_allclose(dct2(x).numpy(), dctn(x.numpy(), axes=(2, 3), norm="ortho"), atol=1e-12)
    np.testing.assert_allclose(idct2(x).numpy(), idctn(x.numpy(), axes=(2, 3), norm="ortho"), atol=1e-12)
    torch.testing.assert_close(dct2(x).square().sum(), x.square().sum())


@pytest.mark.parametrize("sizes", [(1, 5), (4, 8), (5, 13), (7, 7), (9, 4), (3, 1)])
def test_resizing_is_torchs_interpolation(sizes: tuple[int, int]) -> None:
    x = torch.randn(2, 3, sizes[0], 6, generator=generator(0), dtype=torch.float64)
    expected = torch.nn.functional.interpolate(x, size=(sizes[1], 11), mode="bilinear", align_corners=False)
    torch.testing.assert_close(resize(x, (sizes[1], 11)), expected)
    assert resize(x, (sizes[0], 6)) is x


def test_matrices_made_in_inference_mode_take_part_in_a_backward_pass() -> None:
    with torch.inference_mode():
        dct_matrix(21, torch.float32, torch.device("cpu"))
        bilinear_matrix(21, 23, torch.float32, torch.device("cpu"))
    x = torch.ones(21, 21, requires_grad=True)
    torch.autograd.grad(resize(dct2(x), (23, 23)).sum(), x)


@pytest.mark.parametrize("shape", SHAPES)
def test_all_positions_lose_nothing(shape: tuple[int, ...]) -> None:
    one = math.prod(shape)
    prob = problem(Frequency(kept=shape[1] * shape[2]), shape, (3 * one, 4 * one, 2 * one))
    assert prob.sizes == (2, 3, 1)
    x = inputs(prob)
    torch.testing.assert_close(prob.decode(encoded(prob, x)), x, atol=1e-5, rtol=0)


@pytest.mark.parametrize("shape", SHAPES)
def test_kept_are_the_positions_of_the_largest_variance(shape: tuple[int, int, int]) -> None:
    kept = 7
    prob = problem(Frequency(kept=kept), shape, (400, 300, 350))
    payload = encoded(prob)
    for c in range(3):
        pictures = prob.train.fetch(prob.class_indices[c]).x.double().mean(1)
        variance = dctn(pictures.numpy(), axes=(1, 2), norm="ortho").reshape(len(pictures), -1).var(0)
        assert payload["positions"][c].tolist() == sorted(np.argsort(-variance)[:kept].tolist())


def test_what_is_decoded_is_the_input_without_the_other_frequencies() -> None:
    prob = problem(Frequency(kept=9), (3, 13, 9), (351, 3 * 351, 2 * 351))
    x = inputs(prob)
    payload = encoded(prob, x)
    decoded, at = prob.decode(payload), 0
    for c, n in enumerate(prob.sizes):
        mask = np.zeros(13 * 9)
        mask[payload["positions"][c].long().numpy()] = 1
        spectrum = dctn(x[at : at + n].numpy(), axes=(2, 3), norm="ortho") * mask.reshape(13, 9)
        expected = idctn(spectrum, axes=(2, 3), norm="ortho")
        np.testing.assert_allclose(decoded[at : at + n].numpy(), expected, atol=1e-5)
        at += n
    assert at == len(decoded)


def test_equal_variances_go_to_low_frequencies() -> None:
    prob = problem(Frequency(kept=3), (1, 6, 11), (200, 200), per_class=1)
    # of u / 6 + v / 11, the least are (0, 0), (0, 1) and (1, 0)
    assert encoded(prob)["positions"].tolist() == [[0, 1, 11]] * 2


def test_the_variance_is_over_at_most_a_thousand_pictures() -> None:
    seen = []

    class Counting:
        def __init__(self, source) -> None:  # type: ignore[no-untyped-def]
            self.source = source

        def __getattr__(self, name):  # type: ignore[no-untyped-def]
            return getattr(self.source, name)

        def fetch(self, index):  # type: ignore[no-untyped-def]
            seen.append(index)
            return self.source.fetch(index)

    prob = problem(Frequency(), (1, 8, 8), (64, 64), per_class=1200)
    object.__setattr__(prob, "train", Counting(prob.train))
    encoded(prob)
    index = torch.cat(seen)
    assert len(index) == 2000
    assert len(index.unique()) == 2000
    assert max(map(len, seen)) <= 100


def test_the_automatic_number_is_the_published_one_at_32_pixels() -> None:
    # 3 · 64 coefficients each, and 64 positions of two bytes: 15 inputs in the place of one picture
    assert Frequency().sizes((3072,), (3, 32, 32)) == Frequency(kept=64).sizes((3072,), (3, 32, 32)) == (15,)


def test_positions_are_as_narrow_as_the_picture_lets_them() -> None:
    for shape, dtype in (((1, 128, 256), torch.int16), ((1, 181, 182), torch.int32)):
        prob = problem(Frequency(kept=5), shape, (100,), per_class=3)
        payload = encoded(prob)
        assert payload["positions"].dtype == dtype
        assert stored(payload) <= 400
        assert prob.decode(payload).shape[1:] == shape


@settings(max_examples=40, deadline=None)
@given(MANY, st.sampled_from(SHAPES), st.integers(0, 60))
def test_what_is_paid_is_what_is_stored(numbers: tuple[int, ...], shape: tuple[int, ...], kept: int) -> None:
    used = kept or shape[1] * shape[2] // 16
    least = shape[0] * used + used // 2 + 2
    numbers = tuple(n + least for n in numbers)
    prob = problem(Frequency(kept=kept), shape, numbers)
    payload = encoded(prob)
    assert stored(payload) == sum(4 * n * shape[0] * used + 2 * used + 4 for n in prob.sizes) <= 4 * sum(numbers)
    assert payload["counts"].tolist() == list(prob.sizes)
    for n, size in zip(numbers, prob.sizes, strict=True):
        cost = [4 * s * shape[0] * used + 2 * used + 4 for s in (size, size + 1)]
        assert cost[0] <= 4 * n < cost[1]
    assert prob.decode(payload).shape == (sum(prob.sizes), *shape)


def test_seeds_and_gradients() -> None:
    prob = problem(Frequency(kept=4), (2, 5, 4), (20, 31))
    x = inputs(prob)
    rng = generator(3)
    before = rng.get_state()
    prob.parametrization.encode(x, prob, rng)
    assert torch.equal(before, rng.get_state())
    assert same(encoded(prob, x, seed=4), encoded(prob, x, seed=5))
    assert gradcheck(prob, encoded(prob, x))


@pytest.mark.parametrize(
    ("spelled", "shape", "numbers", "message"),
    [
        ("frequency:kept=8", (1, 8, 8), (12, 13), "8 positions of a class and one input need 52 bytes, .* leaves 48"),
        ("frequency:kept=65", (1, 8, 8), (640,), "kept must be at most 64 for 8×8 pixels, not 65"),
        ("frequency", (6,), (64,), r"frequency needs images .* \[6\]; take pixels"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(
    spelled: str, shape: tuple[int, ...], numbers: tuple[int, ...], message: str
) -> None:
    with pytest.raises(PotstillError, match=message) as error:
        create("parametrizations", spelled).sizes(numbers, shape)
    assert "\n" not in str(error.value)


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(PotstillError, match="kept must be at least 0"):
        Frequency(kept=-1)
