"""Field: a network for each input, decoded together as one by one, fitted by Adam, and paid by its weights."""

import itertools
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
from potstill.parametrize import field
from potstill.parametrize.field import Field
from potstill.rng import generator


def naive(payload: Payload, n: int, shape: tuple[int, int, int], omega0: float, omega: float) -> Tensor:
    """One field, pixel by pixel."""
    _, h, w = shape
    picture = torch.empty(shape)
    last = len(payload) // 2 - 1
    for i, j in itertools.product(range(h), range(w)):
        z = torch.tensor([2 * i / (h - 1) - 1, 2 * j / (w - 1) - 1])
        for layer in range(last + 1):
            z = z @ payload[f"weights/{layer}"][n] + payload[f"biases/{layer}"][n]
            if layer < last:
                z = torch.sin((omega if layer else omega0) * z)
        picture[:, i, j] = z
    return picture


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("layers", "omega"), [(1, 10.0), (2, 10.0), (3, 40.0)])
def test_decoding_is_every_field_at_every_pixel(shape: tuple[int, int, int], layers: int, omega: float) -> None:
    prob = problem(Field(width=4, layers=layers, omega=omega, warmup=0), shape, (150, 100))
    payload = encoded(prob)
    expected = torch.stack([naive(payload, n, shape, 30.0, omega) for n in range(sum(prob.sizes))])
    torch.testing.assert_close(prob.decode(payload), expected, atol=1e-4, rtol=1e-3)


def test_the_warm_up_is_adam_on_each_picture_alone() -> None:
    """As the published code does it: a network, an optimiser and a mean squared error for each picture."""
    p = Field(width=5, warmup=20, lr=5e-3)
    prob = problem(p, (3, 7, 5), (160, 90))
    x = smooth(prob)
    start = encoded(problem(Field(width=5, warmup=0), (3, 7, 5), (160, 90)), x)
    fitted = encoded(prob, x)
    for n in range(len(x)):
        own = {name: nn.Parameter(t[n : n + 1].clone()) for name, t in start.items()}
        adam = torch.optim.Adam(own.values(), lr=5e-3)
        for _ in range(20):
            adam.zero_grad()
            nn.functional.mse_loss(prob.decode(own), x[n : n + 1]).backward()
            adam.step()
        for name, t in own.items():
            torch.testing.assert_close(fitted[name][n : n + 1], t.detach(), atol=2e-5, rtol=1e-3)


def test_the_warm_up_finds_smooth_pictures_under_no_grad_too() -> None:
    prob = problem(Field(width=16, warmup=400), (1, 8, 8), (700, 400))
    x = smooth(prob)
    with torch.no_grad():
        decoded = prob.decode(encoded(prob, x))
    assert float((decoded - x).square().mean()) < 0.05 * float(x.var())
    assert torch.equal(torch.cdist(decoded.flatten(1), x.flatten(1)).argmin(1), torch.arange(len(x)))


def test_fields_are_fitted_in_parts_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    prob = problem(Field(width=4, warmup=10), (1, 8, 8), (150, 100))
    x = inputs(prob)
    whole = encoded(prob, x)
    monkeypatch.setattr(field, "_CHUNK", 1)
    for name, t in encoded(prob, x).items():
        torch.testing.assert_close(t, whole[name], atol=1e-5, rtol=1e-4)


def test_the_first_weights_are_sirens() -> None:
    payload = encoded(problem(Field(width=20, warmup=0), (3, 8, 8), (30000,)))
    bounds = [1 / 2, math.sqrt(6 / 20) / 10, math.sqrt(6 / 20) / 10]
    for layer, bound in enumerate(bounds):
        for name in (f"weights/{layer}", f"biases/{layer}"):
            assert 0.9 * bound < float(payload[name].abs().max()) <= bound


@pytest.mark.parametrize(
    ("p", "shape", "one"),
    [
        (Field(width=6), (3, 32, 32), 81),
        (Field(width=20), (3, 32, 32), 543),
        (Field(width=20, layers=3), (3, 128, 128), 963),
    ],
)
def test_a_field_costs_what_the_published_ones_do(p: Field, shape: tuple[int, ...], one: int) -> None:
    assert p.sizes((one, 7 * one - 1), shape) == (1, 6)
    with pytest.raises(PotstillError):
        p.sizes((one - 1, one), shape)


def test_automatic_widths_begin_with_the_published_one_and_grow() -> None:
    def width(pictures: int) -> int:
        prob = problem(Field(warmup=0), (3, 32, 32), (pictures * 3072,), per_class=1)
        return encoded(prob)["weights/0"].shape[2]

    assert width(1) == 6
    assert Field().sizes((3072,), (3, 32, 32)) == (37,)
    assert 6 <= width(10) <= 7
    assert width(50) == 20
    assert Field().sizes((50 * 3072,), (3, 32, 32)) == (282,)
    sizes = [Field().sizes((n, 2 * n), (1, 8, 8)) for n in range(10, 40000, 91)]
    for a, b in itertools.pairwise(sizes):
        assert b[0] >= a[0]
        assert b[1] >= a[1]


@settings(max_examples=40, deadline=None)
@given(MANY, st.sampled_from(SHAPES), st.integers(0, 9), st.integers(1, 3))
def test_what_is_paid_is_what_is_stored(
    numbers: tuple[int, ...], shape: tuple[int, ...], width: int, layers: int
) -> None:
    p = Field(width=width, layers=layers, warmup=0)

    def cost(d: int) -> int:
        return 2 * d + d + (layers - 1) * (d * d + d) + d * shape[0] + shape[0]

    numbers = tuple(n + cost(max(1, width)) for n in numbers)
    prob = problem(p, shape, numbers)
    payload = encoded(prob)
    found = payload["weights/0"].shape[2]
    assert stored(payload) == 4 * sum(prob.sizes) * cost(found) <= 4 * sum(numbers)
    if width:
        assert found == width
        assert prob.sizes == tuple(n // cost(width) for n in numbers)
    assert all(size * cost(found) <= n for size, n in zip(prob.sizes, numbers, strict=True))
    assert prob.decode(payload).shape == (sum(prob.sizes), *shape)


def test_it_is_grouped_by_class_with_unequal_budgets() -> None:
    prob = problem(Field(width=3, warmup=300), (1, 6, 11), (60, 150, 100))
    labels = torch.arange(3).repeat_interleave(torch.tensor(prob.sizes))
    x = labels.float()[:, None, None, None].expand(-1, 1, 6, 11)
    assert torch.equal(prob.decode(encoded(prob, x)).mean((1, 2, 3)).round().long(), labels)


def test_seeds_and_gradients() -> None:
    prob = problem(Field(width=2, warmup=3), (2, 5, 4), (40, 31))
    x = inputs(prob)
    rng = generator(9, "encode")
    torch.rand(3)
    before = torch.get_rng_state()
    a = prob.parametrization.encode(x, prob, rng)
    assert torch.equal(before, torch.get_rng_state())
    assert same(a, encoded(prob, x, seed=9))
    assert not same(a, encoded(prob, x, seed=10))
    assert gradcheck(prob, a)


@pytest.mark.parametrize(
    ("spelled", "shape", "numbers", "message"),
    [
        ("field:width=6", (1, 8, 8), (66, 80), "width 6 has 67 numbers, .* leaves 66 .* lower width"),
        ("field", (1, 8, 8), (6, 80), "a network of width 1 has 7 numbers, .* leaves 6 to a class; raise it$"),
        ("field", (6,), (64,), r"field needs images .* \[6\]; take pixels"),
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
        ("width=-1", "width and warmup at least 0"),
        ("layers=0", "layers must be at least 1"),
        ("omega=0", "above 0"),
        ("omega0=inf", "above 0"),
        ("lr=0", "above 0"),
    ):
        with pytest.raises(PotstillError, match=message):
            create("parametrizations", f"field:{spelled}")
