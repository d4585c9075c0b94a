"""Tiles: what a stored picture decodes to, in which order, and that it costs nothing beside its pixels."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from small_problems import MANY, SHAPES, encoded, gradcheck, inputs, problem, same, smooth, stored
from torch import Tensor

from potstill.core.registry import create
from potstill.errors import PotstillError
from potstill.parametrize.pixels import Pixels
from potstill.parametrize.tiles import Tiles
from potstill.rng import generator


def naive(picture: Tensor, factor: int) -> list[Tensor]:
    """The cells of one picture (c, h, w), one after the other."""
    c, h, w = picture.shape
    a, b = math.ceil(h / factor), math.ceil(w / factor)
    canvas = torch.full((c, a * factor, b * factor), 0.5)
    canvas[:, :h, :w] = picture
    cells = [canvas[:, i * a : (i + 1) * a, j * b : (j + 1) * b] for i in range(factor) for j in range(factor)]
    return [F.interpolate(cell[None], size=(h, w), mode="bilinear", align_corners=False)[0] for cell in cells]


@pytest.mark.parametrize("shape", [*SHAPES, (3, 28, 28)])
@pytest.mark.parametrize("factor", [2, 3])
def test_decoding_is_cutting_and_enlarging(shape: tuple[int, ...], factor: int) -> None:
    one = math.prod(shape)
    prob = problem(Tiles(factor=factor), shape, (2 * one, 3 * one + 5, 3 * one, one))
    payload = encoded(prob)
    assert [tuple(t.shape[:2]) for t in payload.values()] == [(1, 2), (2, 3), (1, 1)]
    expected = []
    for run in payload.values():
        for pictures in run:
            cells = [naive(p, factor) for p in pictures]
            expected += [cells[p][cell] for cell in range(factor**2) for p in range(len(pictures))]
    torch.testing.assert_close(prob.decode(payload), torch.stack(expected))


def test_multi_decodes_every_picture_by_every_factor_in_turn() -> None:
    prob = problem(Tiles(factor=3, mode="multi"), (3, 13, 9), (2 * 351, 351))
    payload = encoded(prob)
    assert prob.sizes == (2 * 14, 14)
    decoded = prob.decode(payload)
    first = payload["inputs/0"][0]
    assert torch.equal(decoded[:2], first)
    cells = [naive(p, 2) for p in first]
    torch.testing.assert_close(decoded[2:10], torch.stack([cells[p][c] for c in range(4) for p in range(2)]))
    torch.testing.assert_close(decoded[-9:], torch.stack(naive(payload["inputs/1"][0, 0], 3)))


@pytest.mark.parametrize(
    ("stored_pictures", "most", "plan"),
    [
        (10, 128, [(3, 10)]),  # all fit: (128 − 10) // 9 = 13
        (20, 128, [(3, 12), (2, 3), (1, 5)]),  # (128−20)//9 = 12; (128−108−8)//4 = 3; 5 left
        (50, 128, [(3, 8), (2, 3), (1, 39)]),
        (130, 128, [(1, 130)]),
    ],
)
def test_bound_gives_the_largest_factor_to_as_many_as_fit(
    stored_pictures: int, most: int, plan: list[tuple[int, int]]
) -> None:
    p = Tiles(factor=3, mode="bound", most=most)
    prob = problem(p, (1, 6, 6), (36 * stored_pictures,) * 2)
    assert prob.sizes == (sum(f * f * n for f, n in plan),) * 2
    assert prob.sizes[0] <= most or plan == [(1, stored_pictures)]
    payload = encoded(prob)
    (run,) = payload.values()
    for k, decoded in enumerate(torch.split(prob.decode(payload), prob.sizes)):
        at = first = 0
        for f, n in plan:
            for p_ in range(n):
                got = decoded[at + p_ : at + f * f * n : n]
                torch.testing.assert_close(got, torch.stack(naive(run[k, first + p_], f)))
            at, first = at + f * f * n, first + n


@pytest.mark.parametrize("shrink", ["nearest", "area"])
@pytest.mark.parametrize("mode", ["single", "bound"])
@pytest.mark.parametrize(("shape", "factor"), [((1, 8, 8), 2), ((3, 13, 9), 2), ((3, 13, 9), 3), ((1, 28, 28), 3)])
def test_every_input_decodes_where_it_came_from(
    shrink: str, mode: str, shape: tuple[int, int, int], factor: int
) -> None:
    one = math.prod(shape)
    spelled = f"tiles:factor={factor},mode={mode},most=20,shrink={shrink}"
    prob = problem(create("parametrizations", spelled), shape, (3 * one, one, 9 * one))
    number = torch.arange(sum(prob.sizes)).float()
    x = number[:, None, None, None].expand(-1, *shape)
    # a third of the way in, no padding reaches
    torch.testing.assert_close(prob.decode(encoded(prob, x))[:, 0, shape[1] // 3, shape[2] // 3], number)


def test_cells_start_as_the_published_mix_where_that_matches_the_decoder() -> None:
    prob = problem(Tiles(factor=2), (3, 13, 9), (351,))
    x = inputs(prob)
    made = encoded(prob, x)["inputs/0"][0, 0]
    for cell, (top, left, a, b) in zip(x, [(0, 0, 7, 5), (0, 5, 7, 4), (7, 0, 6, 5), (7, 5, 6, 4)], strict=True):
        shrunk = F.interpolate(cell[None], size=(a, b))[0]
        assert torch.equal(made[:, top : top + a, left : left + b], shrunk)


def test_area_takes_means_of_whole_cells_and_decodes_nearer() -> None:
    prob = problem(Tiles(factor=2, shrink="area"), (1, 8, 8), (64,))
    x = inputs(prob)
    made = encoded(prob, x)["inputs/0"][0, 0]
    torch.testing.assert_close(made[:, :4, 4:], F.avg_pool2d(x[1], 2))
    odd = problem(Tiles(factor=3, shrink="area"), (1, 28, 28), (784,) * 3)
    published = problem(Tiles(factor=3), (1, 28, 28), (784,) * 3)
    x = smooth(odd)
    errors = [float((p.decode(encoded(p, x)) - x).square().mean()) for p in (odd, published)]
    assert errors[0] < errors[1]


def test_factor_one_is_pixels() -> None:
    for mode in ("single", "multi", "bound"):
        numbers = (200, 400, 70)
        for shrink in ("nearest", "area"):
            prob = problem(
                create("parametrizations", f"tiles:factor=1,mode={mode},shrink={shrink}"), (1, 8, 8), numbers
            )
            assert prob.sizes == Pixels().sizes(numbers, (1, 8, 8))
            x = inputs(prob)
            assert torch.equal(prob.decode(encoded(prob, x)), x)


@settings(max_examples=40, deadline=None)
@given(MANY, st.sampled_from(SHAPES), st.integers(1, 3), st.sampled_from(["single", "multi", "bound"]))
def test_all_bytes_are_pixels_within_the_budget(
    numbers: tuple[int, ...], shape: tuple[int, ...], factor: int, mode: str
) -> None:
    one = math.prod(shape)
    numbers = tuple(n + one for n in numbers)
    prob = problem(create("parametrizations", f"tiles:factor={factor},mode={mode},most=20"), shape, numbers)
    payload = encoded(prob)
    assert stored(payload) == 4 * one * sum(n // one for n in numbers) <= 4 * sum(numbers)
    assert prob.decode(payload).shape == (sum(prob.sizes), *shape)


@pytest.mark.parametrize("mode", ["single", "multi", "bound"])
def test_gradients_are_those_of_finite_differences(mode: str) -> None:
    prob = problem(create("parametrizations", f"tiles:factor=2,mode={mode},most=7"), (2, 5, 4), (80, 40))
    assert gradcheck(prob, encoded(prob))


def test_it_draws_nothing_and_keeps_to_the_range_of_its_cells() -> None:
    prob = problem(Tiles(factor=3), (3, 13, 9), (351, 702))
    rng = generator(5)
    before = rng.get_state()
    x = inputs(prob)
    payload = prob.parametrization.encode(x, prob, rng)
    assert torch.equal(rng.get_state(), before)
    assert same(payload, encoded(prob, x, seed=9))
    decoded = prob.decode(payload)
    assert float(decoded.min()) >= 0
    assert float(decoded.max()) <= 1


@pytest.mark.parametrize(
    ("spelled", "shape", "numbers", "message"),
    [
        ("tiles", (1, 8, 8), (63, 64), "one picture has 64 numbers, but the budget leaves 63 to a class; raise it"),
        ("tiles", (6,), (64,), r"tiles needs images .* \[6\]; take pixels"),
        ("tiles:factor=3", (1, 4, 9), (64,), "every cell must hold a pixel, but 3 cells .* lower factor"),
        ("tiles:factor=9", (1, 8, 8), (64,), "every cell must hold a pixel"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(
    spelled: str, shape: tuple[int, ...], numbers: tuple[int, ...], message: str
) -> None:
    with pytest.raises(PotstillError, match=message) as error:
        create("parametrizations", spelled).sizes(numbers, shape)
    assert "\n" not in str(error.value)


def test_settings_out_of_range_are_refused() -> None:
    for spelled, message in (
        ("tiles:factor=0", "factor must be at least 1"),
        ("tiles:most=0", "most must be at least 1"),
        ("tiles:mode=bond", "did you mean bound"),
        ("tiles:shrink=are", "did you mean area"),
    ):
        with pytest.raises(PotstillError, match=message):
            create("parametrizations", spelled)
