"""Memory: combinations of shared bases, the best start they allow, and what they cost."""

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from small_problems import MANY, SHAPES, encoded, gradcheck, inputs, problem, same, smooth, stored

from potstill.core.registry import create
from potstill.errors import PotstillError
from potstill.parametrize.memory import Memory
from potstill.rng import generator


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("scale", [1, 2, 3])
def test_decoding_is_a_sum_of_bases_enlarged(shape: tuple[int, int, int], scale: int) -> None:
    prob = problem(Memory(bases=3, scale=scale, init="random"), shape, (900, 1200))
    payload = encoded(prob)
    bases, coefficients = payload["decoder/bases"], payload["coefficients"]
    assert tuple(bases.shape) == (3, shape[0], math.ceil(shape[1] / scale), math.ceil(shape[2] / scale))
    expected = []
    for row in coefficients:
        low = sum((a * m for a, m in zip(row, bases, strict=True)), torch.zeros(()))
        expected.append(F.interpolate(low[None], size=shape[1:], mode="bilinear", align_corners=False)[0])
    torch.testing.assert_close(prob.decode(payload), torch.stack(expected), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("shape", SHAPES)
def test_it_starts_as_near_as_any_bases_can_come(shape: tuple[int, int, int]) -> None:
    """Against least squares from many starts: alternating exact solutions never get below it."""
    prob = problem(Memory(bases=4), shape, (1600, 1600))
    x = inputs(prob)
    error = float((prob.decode(encoded(prob, x)) - x).square().sum())
    size = tuple(math.ceil(s / 2) for s in shape[1:])
    unit = torch.eye(math.prod(size), dtype=torch.float64).reshape(-1, 1, *size)
    up = F.interpolate(unit, size=shape[1:], mode="bilinear").flatten(1)
    rows = x.double().reshape(len(x), shape[0], -1)
    rng = torch.Generator().manual_seed(0)
    best = math.inf
    for _ in range(3):
        m = torch.randn(4, shape[0], len(up), generator=rng, dtype=torch.float64)
        for _ in range(60):
            shown = (m @ up).flatten(1)
            a = torch.linalg.lstsq(shown.T, rows.flatten(1).T).solution.T
            target = torch.linalg.lstsq(a, rows.flatten(1)).solution.reshape(4, shape[0], -1)
            m = target @ torch.linalg.pinv(up)
        best = min(best, float(((a @ (m @ up).flatten(1)) - rows.flatten(1)).square().sum()))
    assert error <= best * (1 + 1e-4)
    assert error >= best * (1 - 0.05)


def test_enough_bases_show_all_that_their_resolution_can() -> None:
    prob = problem(Memory(bases=12, scale=1), (1, 8, 8), (900, 900))
    x = inputs(prob)
    assert len(x) > 12
    rng = generator(3, "low rank")
    x = (torch.rand(len(x), 12, generator=rng) @ torch.rand(12, 64, generator=rng)).reshape(-1, 1, 8, 8)
    torch.testing.assert_close(prob.decode(encoded(prob, x)), x, atol=1e-4, rtol=1e-4)


def test_bases_beyond_the_rank_change_nothing_and_can_move() -> None:
    prob = problem(Memory(bases=5), (1, 8, 8), (400, 400))
    one = smooth(prob)[:1]
    x = one.expand(sum(prob.sizes), -1, -1, -1)
    few = problem(Memory(bases=1), (1, 8, 8), (400, 400))
    payload = encoded(prob, x)
    one_base = encoded(few, one.expand(sum(few.sizes), -1, -1, -1))
    torch.testing.assert_close(prob.decode(payload)[:1], few.decode(one_base)[:1], atol=1e-5, rtol=1e-4)
    leaf = payload["coefficients"].clone().requires_grad_()
    grad = torch.autograd.grad(prob.decode({**payload, "coefficients": leaf}).square().sum(), leaf)[0]
    assert float(grad.abs().mean(0).min()) > 1e-4 * float(grad.abs().mean(0).max())
    nothing = encoded(prob, torch.zeros_like(x))
    assert bool(torch.isfinite(nothing["decoder/bases"]).all())
    assert float(prob.decode(nothing).abs().max()) == 0


def test_the_automatic_number_is_the_published_one_for_cifar_10() -> None:
    payload = encoded(problem(Memory(init="random"), (3, 32, 32), (3072,) * 10))
    assert payload["decoder/bases"].shape == (16, 3, 16, 16)
    assert payload["coefficients"].shape == (10 * 115, 16)
    # the published rule for what is left by 16 bases gives the same
    assert Memory(bases=16).sizes((3072,) * 10, (3, 32, 32)) == (115,) * 10


@settings(max_examples=40, deadline=None)
@given(MANY, st.sampled_from(SHAPES), st.integers(0, 6), st.integers(1, 3), st.sampled_from(["svd", "random"]))
def test_what_is_paid_is_what_is_stored(
    numbers: tuple[int, ...], shape: tuple[int, ...], bases: int, scale: int, start: str
) -> None:
    d = shape[0] * math.ceil(shape[1] / scale) * math.ceil(shape[2] / scale)
    prob = problem(
        create("parametrizations", f"memory:bases={bases},scale={scale},init={start}"),
        shape,
        (numbers[0] + (d + len(numbers)) * max(1, bases), *numbers[1:]),
    )
    total, k = sum(prob.value_budget), len(numbers)
    payload = encoded(prob)
    count = len(payload["decoder/bases"])
    assert len(set(prob.sizes)) == 1
    assert stored(payload) == 4 * (count * d + k * prob.sizes[0] * count) <= 4 * total
    if bases:
        assert count == bases
        assert bases * d + k * (prob.sizes[0] + 1) * bases > total
    else:
        assert (count + 1) * (d + k * prob.sizes[0]) > total
    assert prob.decode(payload).shape == (sum(prob.sizes), *shape)


@pytest.mark.parametrize("p", [Memory(), Memory(bases=3), Memory(scale=1)])
def test_more_numbers_never_give_fewer_inputs(p: Memory) -> None:
    sizes = [p.sizes((n,) * 4, (3, 13, 9))[0] for n in range(400, 20000, 37)]
    assert all(b >= a for a, b in itertools.pairwise(sizes))
    assert sizes[-1] > sizes[0]


@pytest.mark.parametrize("start", ["svd", "random"])
def test_seeds_and_gradients(start: str) -> None:
    prob = problem(create("parametrizations", f"memory:bases=2,init={start}"), (2, 5, 4), (40, 31))
    x = inputs(prob)
    assert same(encoded(prob, x, seed=4), encoded(prob, x, seed=4))
    assert same(encoded(prob, x, seed=4), encoded(prob, x, seed=5)) == (start == "svd")
    assert gradcheck(prob, encoded(prob, x))


def test_random_is_xaviers_uniform() -> None:
    payload = encoded(problem(Memory(init="random"), (3, 32, 32), (3072,) * 10))
    for name, rows, columns in (("decoder/bases", 16, 768), ("coefficients", 1150, 16)):
        bound = math.sqrt(6 / (rows + columns))
        assert 0.98 * bound < float(payload[name].abs().max()) <= bound


@pytest.mark.parametrize(
    ("spelled", "shape", "numbers", "message"),
    [
        ("memory:bases=4", (1, 8, 8), (35, 36), "4 bases and one input of each of 2 classes need 72 numbers, .* 71"),
        ("memory", (1, 8, 8), (10, 7), "1 bases and one input of each of 2 classes need 18 numbers, .* 17"),
        ("memory", (6,), (64,), r"memory needs images .* \[6\]; take pixels"),
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
        ("memory:bases=-1", "bases at least 0"),
        ("memory:scale=0", "scale must be at least 1"),
        ("memory:init=svdd", "did you mean svd"),
    ):
        with pytest.raises(PotstillError, match=message):
            create("parametrizations", spelled)
