"""Hallucinator: every basis under every style, a start near the identity, and networks that are paid."""

import dataclasses
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_problems import MANY, SHAPES, encoded, gradcheck, inputs, problem, same, smooth, stored
from torch import Tensor, nn

from potstill.core import Payload
from potstill.core.registry import create
from potstill.errors import PotstillError
from potstill.parametrize.hallucinator import Hallucinator


def naive(payload: Payload, basis: Tensor, style: int) -> Tensor:
    """One picture (c, h, w) through one style, by torch's own modules."""
    net = {name.removeprefix("decoder/"): t[style] for name, t in payload.items() if name.startswith("decoder/")}
    m, b = net["encode"].shape[:2]
    first, last = nn.Conv2d(b, m, 3), nn.ConvTranspose2d(m, net["decode"].shape[1], 3)
    with torch.no_grad():
        first.weight.copy_(net["encode"])
        first.bias.copy_(net["encode_bias"])
        last.weight.copy_(net["decode"])
        last.bias.copy_(net["decode_bias"])
        return last(net["scale"] * first(basis[None]) + net["shift"])[0]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("width", [0, 4])
@pytest.mark.parametrize("channels", [0, 1])
def test_decoding_is_every_basis_under_every_style(shape: tuple[int, ...], width: int, channels: int) -> None:
    one = math.prod(shape)
    parametrization = Hallucinator(styles=3, width=width, spread=0.5, channels=channels)
    prob = problem(parametrization, shape, (14 * one, 20 * one, 18 * one))
    assert len(set(prob.sizes)) == 3
    payload = encoded(prob)
    assert payload["bases"].shape[1] == (channels or shape[0])
    expected = [naive(payload, basis, j) for basis in payload["bases"] for j in range(3)]
    torch.testing.assert_close(prob.decode(payload), torch.stack(expected), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("shape", SHAPES)
def test_it_starts_at_the_bases_but_for_the_border(shape: tuple[int, int, int]) -> None:
    one = math.prod(shape)
    prob = problem(Hallucinator(styles=2, spread=0.0, width=shape[0] + 1), shape, (10 * one, 12 * one))
    x = inputs(prob)
    payload = encoded(prob, x)
    assert torch.equal(payload["bases"], x[::2])
    decoded = prob.decode(payload)
    again = x[::2].repeat_interleave(2, 0)
    torch.testing.assert_close(decoded[..., 1:-1, 1:-1], again[..., 1:-1, 1:-1], atol=1e-5, rtol=0)
    border = torch.ones(shape[1:], dtype=torch.bool)
    border[1:-1, 1:-1] = False
    edge = x[..., border].mean((0, 2))
    torch.testing.assert_close(decoded[..., border], edge[:, None].expand(len(x), shape[0], int(border.sum())))


def test_grey_bases_start_as_the_pictures_without_their_colours_and_get_the_mean_colour_back() -> None:
    prob = problem(Hallucinator(styles=2, spread=0.0, channels=1), (3, 8, 8), (192 * 9, 192 * 11))
    x = inputs(prob)
    payload = encoded(prob, x)
    grey = x[::2].mean(1, keepdim=True)
    torch.testing.assert_close(payload["bases"], grey)
    inside = prob.decode(payload)[..., 1:-1, 1:-1]
    tint = (x[::2] - grey).mean((0, 2, 3))
    again = (grey + tint[:, None, None]).repeat_interleave(2, 0)[..., 1:-1, 1:-1]
    torch.testing.assert_close(inside, again, atol=1e-5, rtol=0)


def test_grey_bases_make_more_inputs_of_the_same_bytes() -> None:
    colour, grey = (problem(Hallucinator(channels=c), (3, 32, 32), (3072 * 30,) * 10) for c in (0, 1))
    networks = 5 * (2 * 3 * 3 * 9 + 3 + 3 + 2 * 3 * 30 * 30)
    left = 3072 * 30 - networks / 10
    assert colour.sizes == (5 * int(left // 3072),) * 10
    less = 5 * (3 * 9 + 3 * 3 * 9 + 3 + 3 + 2 * 3 * 30 * 30)
    assert grey.sizes == (5 * int((3072 * 30 - less / 10) // 1024),) * 10
    assert sum(grey.sizes) > 2.9 * sum(colour.sizes)


def test_noise_tells_the_styles_apart_and_leaves_the_pictures_recognisable() -> None:
    prob = problem(Hallucinator(), (3, 16, 16), (768 * 12,) * 4)
    x = smooth(prob)
    decoded = prob.decode(encoded(prob, x))
    inside = (slice(None), slice(None), slice(1, -1), slice(1, -1))
    distances = torch.cdist(decoded[inside].flatten(1), x[::5][inside].flatten(1))
    assert torch.equal(distances.argmin(1), torch.arange(len(x)) // 5)
    styles = decoded.reshape(-1, 5, 768)
    between = torch.cdist(styles, styles) + 1e9 * torch.eye(5)
    assert float(between.min()) > 0.01


def test_it_is_grouped_by_class_with_unequal_budgets() -> None:
    prob = problem(Hallucinator(styles=2, spread=0.0), (1, 8, 8), (300, 700, 500))
    labels = torch.arange(3).repeat_interleave(torch.tensor(prob.sizes))
    x = labels.float()[:, None, None, None].expand(-1, 1, 8, 8)
    assert torch.equal(prob.decode(encoded(prob, x))[:, 0, 4, 4].round().long(), labels)


@settings(max_examples=40, deadline=None)
@given(MANY, st.sampled_from(SHAPES), st.integers(1, 5), st.integers(0, 2), st.sampled_from((0, 1)))
def test_what_is_paid_is_what_is_stored(
    numbers: tuple[int, ...], shape: tuple[int, ...], styles: int, wider: int, channels: int
) -> None:
    c, h, w = shape
    b = channels or c
    m, one, k = c + wider, b * h * w, len(numbers)
    networks = styles * (m * (b + c) * 9 + m + c + 2 * m * (h - 2) * (w - 2))
    # the smallest class must have a basis after its share of the networks
    numbers = tuple(n + networks + one * (k + 1) for n in numbers)
    p = Hallucinator(styles=styles, width=m if wider else 0, channels=channels)
    prob = problem(p, shape, numbers)
    payload = encoded(prob)
    bases = sum(prob.sizes) // styles
    assert all(size % styles == 0 for size in prob.sizes)
    assert stored(payload) == 4 * (networks + one * bases) <= 4 * sum(numbers)
    assert networks + one * (bases + k) > sum(numbers)
    assert prob.decode(payload).shape == (sum(prob.sizes), *shape)
    more = dataclasses.replace(prob, value_budget=tuple(2 * n for n in numbers))
    assert all(b >= a for a, b in zip(prob.sizes, more.sizes, strict=True))


@pytest.mark.parametrize("channels", [0, 1])
def test_seeds_and_gradients(channels: int) -> None:
    prob = problem(Hallucinator(styles=2, spread=0.3, channels=channels), (2, 5, 4), (250, 340))
    x = inputs(prob)
    assert same(encoded(prob, x, seed=4), encoded(prob, x, seed=4))
    assert not same(encoded(prob, x, seed=4), encoded(prob, x, seed=5))
    assert gradcheck(prob, encoded(prob, x))


@pytest.mark.parametrize(
    ("spelled", "shape", "numbers", "message"),
    [
        # HaBa's own networks at one CIFAR-10 picture per class: 5 · 5,568 of 30,720 numbers
        ("hallucinator", (3, 32, 32), (3072,) * 10, "5 styles take 27,840 numbers and .* 3,072, .* 30,720 for 10"),
        ("hallucinator", (1, 2, 9), (640,), "at least 3×3 pixels"),
        ("hallucinator:width=2", (3, 8, 8), (6400,), "no more channels than width 2, but they have 8×8 and 3"),
        ("hallucinator", (6,), (64,), r"hallucinator needs images .* \[6\]; take pixels"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(
    spelled: str, shape: tuple[int, ...], numbers: tuple[int, ...], message: str
) -> None:
    with pytest.raises(PotstillError, match=message) as error:
        create("parametrizations", spelled).sizes(numbers, shape)
    assert "\n" not in str(error.value)


def test_settings_out_of_range_are_refused() -> None:
    for spelled in ("styles=0", "width=-1", "spread=-0.1", "spread=nan", "channels=2"):
        with pytest.raises(PotstillError, match="styles must be at least 1, width and spread at least 0"):
            create("parametrizations", f"hallucinator:{spelled}")
