"""Statistics of distribution matching: against loops, against numbers worked by hand, and where they could break."""

import cmath
import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from potstill.functional.distribution import (
    amplitude_phase_gap,
    attention,
    characteristic_function,
    class_means,
    covariance_factors,
    covariance_gap,
    gaussian_kernel,
    mean_gap,
    membership,
    mmd,
    row_membership,
)
from potstill.rng import generator

LIKE = torch.zeros((), dtype=torch.float64)
SIZES = st.lists(st.integers(1, 4), min_size=1, max_size=4)
some = settings(max_examples=25, deadline=None)
"""Few examples and no time limit: the machine is shared."""


def draw(*shape: int, path: str | int = 0) -> Tensor:
    return torch.randn(shape, generator=generator(0, "distribution", path), dtype=torch.float64)


# --- weights and means ------------------------------------------------------------------------------------------------


def test_membership_of_known_sizes() -> None:
    expected = torch.tensor([[1.0, 0, 0, 0], [0, 0.5, 0.5, 0], [0, 0, 0, 1]], dtype=torch.float64)
    assert torch.equal(membership((1, 2, 1), LIKE), expected)
    assert membership((1, 2), torch.zeros(1)).dtype == torch.float32
    # a third is rounded once, to the type that is asked for
    assert float(membership((3,), torch.zeros(1))[0, 0]) == float(torch.tensor(1 / 3))


@pytest.mark.parametrize("sizes", [(), (0,), (2, 0, 1)])
def test_a_class_without_samples_is_refused(sizes: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="at least one sample"):
        membership(sizes, LIKE)


@some
@given(SIZES)
def test_rows_of_zeros_and_ones_weigh_as_groups_do(sizes: list[int]) -> None:
    labels = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    rows = torch.eye(len(sizes), dtype=torch.float64)[labels]
    torch.testing.assert_close(row_membership(rows), membership(sizes, LIKE), rtol=1e-15, atol=0)


def test_row_membership_of_known_rows() -> None:
    rows = torch.tensor([[0.75, 0.25, 0], [0.25, 0.75, 0]], dtype=torch.float64, requires_grad=True)
    expected = torch.tensor([[0.75, 0.25], [0.25, 0.75], [0, 0]], dtype=torch.float64)
    torch.testing.assert_close(row_membership(rows), expected, rtol=1e-15, atol=0)
    # the class that nobody is in has a slope too, and a finite one
    (slope,) = torch.autograd.grad((row_membership(rows) * draw(3, 2)).sum(), rows)
    assert torch.isfinite(slope).all()
    assert torch.autograd.gradcheck(row_membership, (draw(4, 3).softmax(1).requires_grad_(),))


@some
@given(SIZES, st.integers(0, 99))
def test_means_agree_with_a_loop_in_any_order(sizes: list[int], seed: int) -> None:
    features = draw(sum(sizes), 2, 3, path=seed)
    labels = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    naive = torch.stack([sum(f.flatten() for f in features[labels == c]) / n for c, n in enumerate(sizes)])
    torch.testing.assert_close(class_means(membership(sizes, features), features), naive)
    shuffle = torch.randperm(len(labels), generator=generator(seed))
    weights = row_membership(torch.eye(len(sizes), dtype=torch.float64)[labels[shuffle]])
    torch.testing.assert_close(class_means(weights, features[shuffle]), naive)
    order = torch.randperm(len(sizes), generator=generator(seed, "classes"))
    torch.testing.assert_close(class_means(weights[order], features[shuffle]), naive[order])


def test_means_of_known_numbers_and_their_slope() -> None:
    features = torch.tensor([[1.0, 2.0], [3.0, 6.0], [0.0, 1.0]], dtype=torch.float64)
    weights = row_membership(torch.tensor([[1.0, 0], [0.5, 0.5], [0, 1.0]], dtype=torch.float64))
    expected = torch.tensor([[2.5 / 1.5, 5 / 1.5], [1.5 / 1.5, 4 / 1.5]], dtype=torch.float64)
    torch.testing.assert_close(class_means(weights, features), expected)
    assert torch.autograd.gradcheck(class_means, (weights.requires_grad_(), features.requires_grad_()))


# --- DM's distance ----------------------------------------------------------------------------------------------------


def test_gap_of_known_numbers() -> None:
    real = torch.tensor([[1.0, 2.0], [3.0, 6.0]])
    syn = torch.tensor([[0.0, 1.0]])
    assert float(mean_gap(real.mean(0), syn.mean(0))) == 2.0**2 + 3.0**2


def test_gap_sums_over_classes_and_features() -> None:
    real, syn = draw(3, 7, 5, path="real"), draw(3, 2, 5, path="syn")
    naive = sum(
        (float(real[c, :, d].sum()) / 7 - float(syn[c, :, d].sum()) / 2) ** 2 for c in range(3) for d in range(5)
    )
    assert float(mean_gap(real.mean(1), syn.mean(1))) == pytest.approx(naive, rel=1e-12)
    grouped = mean_gap(
        class_means(membership([7] * 3, LIKE), real.flatten(0, 1)),
        class_means(membership([2] * 3, LIKE), syn.flatten(0, 1)),
    )
    assert float(grouped) == pytest.approx(naive, rel=1e-12)
    assert float(mean_gap(real.mean(1), real.flip(1).mean(1))) == pytest.approx(0.0, abs=1e-25)


def test_gap_derivative() -> None:
    real, syn = draw(2, 4, 3, path="real"), draw(2, 2, 3, path="syn")
    assert torch.autograd.gradcheck(lambda s: mean_gap(real.mean(1), s.mean(1)), (syn.requires_grad_(),))


# --- attention --------------------------------------------------------------------------------------------------------


def test_attention_of_known_numbers() -> None:
    f = torch.tensor([[[[1.0, -2.0]], [[3.0, 4.0]]]], dtype=torch.float64)
    a, b = 4 / math.sqrt(52), 6 / math.sqrt(52)
    torch.testing.assert_close(attention(f, 1), torch.tensor([[a, b]], dtype=torch.float64))
    # |1|⁴ + |3|⁴ and |2|⁴ + |4|⁴
    c, d = 82 / math.hypot(82, 272), 272 / math.hypot(82, 272)
    torch.testing.assert_close(attention(f, 4), torch.tensor([[c, d]], dtype=torch.float64))


@pytest.mark.parametrize("power", [1.0, 2.0, 3.0, 4.0, 8.0])
def test_attention_agrees_with_a_loop(power: float) -> None:
    f = draw(3, 4, 2, 3, path="activation")
    for n, row in enumerate(attention(f, power)):
        folded = [sum(abs(float(f[n, c, h, w])) ** power for c in range(4)) for h in range(2) for w in range(3)]
        naive = torch.tensor([v / math.sqrt(sum(u * u for u in folded)) for v in folded], dtype=torch.float64)
        torch.testing.assert_close(row, naive, rtol=1e-12, atol=1e-14)
        assert float(row.norm()) == pytest.approx(1, rel=1e-12)
    # neither the order of channels nor the size of an activation counts
    torch.testing.assert_close(attention(3 * f.flip(1), power), attention(f, power))
    assert torch.autograd.gradcheck(lambda x: attention(x, power), (f.requires_grad_(),))


@pytest.mark.parametrize("power", [1.0, 4.0])
def test_attention_of_nothing_is_zero_with_a_finite_slope(power: float) -> None:
    f = torch.zeros(2, 3, 2, 2, requires_grad=True)
    z = attention(f, power)
    assert torch.equal(z, torch.zeros(2, 4))
    assert torch.isfinite(torch.autograd.grad(z.sum(), f)[0]).all()


# --- kernels ----------------------------------------------------------------------------------------------------------


def naive_kernel(x: Tensor, y: Tensor, bandwidths: Tensor) -> Tensor:
    def one(a: Tensor, b: Tensor) -> float:
        square = sum((p - q) ** 2 for p, q in zip(a.tolist(), b.tolist(), strict=True))
        return sum(math.exp(-square / (2 * w * w)) for w in bandwidths.tolist())

    return torch.tensor([[one(a, b) for b in y] for a in x], dtype=torch.float64)


def test_gaussian_kernel_of_known_points() -> None:
    x, y = torch.zeros(1, 2, dtype=torch.float64), torch.tensor([[3.0, 4.0]], dtype=torch.float64)
    made = gaussian_kernel(x, y, torch.tensor([5.0, 2.5], dtype=torch.float64))
    assert float(made) == pytest.approx(0.6065306597126334 + 0.1353352832366127, rel=1e-14)
    widths = torch.tensor([1.0, 2.0, 7.0], dtype=torch.float64)
    torch.testing.assert_close(gaussian_kernel(y, y, widths), torch.full((1, 1), 3.0, dtype=torch.float64))


def test_gaussian_kernel_agrees_with_a_loop() -> None:
    x, y, widths = draw(4, 3, path="x"), draw(5, 3, path="y"), torch.tensor([0.5, 2.0], dtype=torch.float64)
    made = gaussian_kernel(x, y, widths)
    torch.testing.assert_close(made, naive_kernel(x, y, widths), rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(gaussian_kernel(y, x, widths), made.T)
    assert torch.autograd.gradcheck(gaussian_kernel, (x.requires_grad_(), y.requires_grad_(), widths.requires_grad_()))


def test_gaussian_kernel_keeps_to_its_range_far_from_the_origin() -> None:
    # the expanded square cancels here; without the bound from below the kernel would rise above its number of widths
    x = 1e3 + torch.randn(20, 64, generator=generator(3))
    made = gaussian_kernel(x, x, torch.ones(1))
    assert float(made.max()) <= 1.0


def naive_mmd(real: Tensor, syn: Tensor, wr: Tensor, ws: Tensor, widths: Tensor) -> float:
    total = 0.0
    for p, q in zip(wr.tolist(), ws.tolist(), strict=True):
        rr, rs, ss = (naive_kernel(a, b, widths).tolist() for a, b in ((real, real), (real, syn), (syn, syn)))
        total += sum(p[i] * p[j] * rr[i][j] for i in range(len(p)) for j in range(len(p)))
        total -= 2 * sum(p[i] * q[j] * rs[i][j] for i in range(len(p)) for j in range(len(q)))
        total += sum(q[i] * q[j] * ss[i][j] for i in range(len(q)) for j in range(len(q)))
    return total


def all_classes(real: Tensor, syn: Tensor, wr: Tensor, ws: Tensor, widths: Tensor) -> Tensor:
    parts = [
        mmd(real[p > 0], syn, q, widths, gaussian_kernel(real[p > 0], real[p > 0], widths).mean())
        for p, q in zip(wr, ws, strict=True)
    ]
    return torch.stack(parts).sum()


@pytest.mark.parametrize("sizes", [((3, 2), (1, 1)), ((1, 4), (2, 3))])
def test_mmd_agrees_with_a_loop(sizes: tuple[tuple[int, int], tuple[int, int]]) -> None:
    real, syn, widths = draw(5, 3, path="real"), draw(sum(sizes[1]), 3, path="syn"), torch.tensor([0.7, 3.0]).double()
    wr, ws = membership(sizes[0], LIKE), membership(sizes[1], LIKE)
    assert float(all_classes(real, syn, wr, ws, widths)) == pytest.approx(
        naive_mmd(real, syn, wr, ws, widths), rel=1e-12
    )
    rows = draw(len(syn), 2, path="rows").softmax(1)  # learned labels: all weights count in every class
    soft = row_membership(rows)
    assert float(all_classes(real, syn, wr, soft, widths)) == pytest.approx(
        naive_mmd(real, syn, wr, soft, widths), rel=1e-12
    )
    assert torch.autograd.gradcheck(
        lambda s, y: all_classes(real, s, wr, row_membership(y), widths), (syn.requires_grad_(), rows.requires_grad_())
    )


def test_mmd_of_known_points_and_of_equal_sides() -> None:
    real, syn = torch.zeros(1, 2, dtype=torch.float64), torch.tensor([[3.0, 4.0]], dtype=torch.float64)
    one, widths = torch.ones(1, 1, dtype=torch.float64), torch.tensor([5.0], dtype=torch.float64)
    # 1 − 2 exp(−1/2) + 1
    assert float(all_classes(real, syn, one, one, widths)) == pytest.approx(2 - 2 * 0.6065306597126334, rel=1e-14)
    some_of, weights = draw(6, 4), membership((2, 4), LIKE)
    assert float(all_classes(some_of, some_of, weights, weights, widths)) == pytest.approx(0, abs=1e-14)


# --- characteristic functions -----------------------------------------------------------------------------------------


def test_characteristic_agrees_with_complex_numbers() -> None:
    h, t, weights = draw(6, 3, path="h"), draw(5, 3, path="t"), row_membership(draw(6, 2, path="w").softmax(1))
    re, im = characteristic_function(h, t, weights)
    for c in range(2):
        for f in range(5):
            phi = sum(float(weights[c, i]) * cmath.exp(1j * float(t[f] @ h[i])) for i in range(6))
            assert float(re[c, f]) == pytest.approx(phi.real, abs=1e-13)
            assert float(im[c, f]) == pytest.approx(phi.imag, abs=1e-13)
    assert (re**2 + im**2 <= 1 + 1e-12).all()
    assert torch.autograd.gradcheck(
        characteristic_function, (h.requires_grad_(), t.requires_grad_(), weights.requires_grad_())
    )


def test_characteristic_of_known_angles() -> None:
    h = torch.tensor([[0.0], [math.pi / 2]], dtype=torch.float64)
    t, weights = torch.tensor([[1.0], [0.0]], dtype=torch.float64), torch.full((1, 2), 0.5, dtype=torch.float64)
    re, im = characteristic_function(h, t, weights)
    torch.testing.assert_close(re, torch.tensor([[0.5, 1.0]], dtype=torch.float64))  # at t = 0 it is 1
    torch.testing.assert_close(im, torch.tensor([[0.5, 0.0]], dtype=torch.float64))


Phi = tuple[Tensor, Tensor]


def naive_phase_gap(real: Phi, syn: Phi, alpha: float, beta: float) -> float:
    total = 0.0
    for a, b, c, d in zip(*(part.tolist() for part in (*real, *syn)), strict=True):
        values = []
        for z, w in zip(map(complex, a, b), map(complex, c, d), strict=True):
            angle = cmath.phase(z) - cmath.phase(w)
            values.append(
                math.sqrt(alpha * (abs(z) - abs(w)) ** 2 + 2 * beta * abs(z) * abs(w) * (1 - math.cos(angle)))
            )
        total += sum(values) / len(values)
    return total


def phi(path: str, k: int = 2) -> Phi:
    t = draw(6, 3, path="t")
    return characteristic_function(draw(4 * k, 3, path=path), t, membership([4] * k, LIKE))


@pytest.mark.parametrize(("alpha", "beta"), [(0.5, 0.5), (0.2, 0.9), (1.0, 0.0)])
def test_amplitude_and_phase_agree_with_complex_numbers(alpha: float, beta: float) -> None:
    real, syn = phi("real"), phi("syn")
    expected = naive_phase_gap(real, syn, alpha, beta)
    assert float(amplitude_phase_gap(real, syn, alpha, beta)) == pytest.approx(expected, rel=1e-9)
    assert torch.autograd.gradcheck(
        lambda re, im: amplitude_phase_gap(real, (re, im), alpha, beta), [p.requires_grad_() for p in syn]
    )


def test_halves_of_amplitude_and_phase_are_the_distance_of_complex_numbers() -> None:
    # α = β = ½: ½ (|z| − |w|)² + |z||w| − Re z w̄ = ½ |z − w|², whatever the angle
    real, syn = phi("real"), phi("syn")
    gap = ((real[0] - syn[0]) ** 2 + (real[1] - syn[1]) ** 2).div(2).sqrt().mean(1).sum()
    assert float(amplitude_phase_gap(real, syn)) == pytest.approx(float(gap), rel=1e-9)


def test_amplitude_and_phase_of_known_numbers() -> None:
    def number(*values: complex) -> Phi:
        parts = ([v.real for v in values], [v.imag for v in values])
        return torch.tensor([parts[0]], dtype=torch.float64), torch.tensor([parts[1]], dtype=torch.float64)

    # equal amplitudes at a right angle: √(½ · 2); half the amplitude at the same angle: √(½ · ¼), up to the floor
    assert float(amplitude_phase_gap(number(1), number(1j))) == pytest.approx(1, rel=1e-12)
    assert float(amplitude_phase_gap(number(1), number(0.5))) == pytest.approx(0.3535533905932738, rel=1e-9)
    assert float(amplitude_phase_gap(number(1, 1), number(1j, 0.5))) == pytest.approx(0.6767766952966369, rel=1e-9)
    # 3-4-5: amplitudes 0.5 and 1, cosine 0.6: √(0.3 · 0.25 + 0.7 · 2 · 0.5 · 0.4)
    value = amplitude_phase_gap(number(0.3 + 0.4j), number(1), 0.3, 0.7)
    assert float(value) == pytest.approx(math.sqrt(0.075 + 0.28), rel=1e-12)


def test_equal_characteristics_are_as_near_as_the_floor_lets_them() -> None:
    assert float(amplitude_phase_gap(phi("real"), phi("real"))) == pytest.approx(2 * math.sqrt(0.5e-12), rel=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("both", [True, False])
def test_a_characteristic_of_exactly_zero_has_a_finite_slope(dtype: torch.dtype, both: bool) -> None:
    # the published root of re² + im² has an infinite slope here, which times zero is NaN
    real = (torch.zeros(1, 3, dtype=dtype) if both else torch.full((1, 3), 0.5, dtype=dtype),) * 2
    syn = [torch.zeros(1, 3, dtype=dtype, requires_grad=True) for _ in range(2)]
    value = amplitude_phase_gap(real, (syn[0], syn[1]))
    assert torch.isfinite(value)
    assert all(torch.isfinite(g).all() for g in torch.autograd.grad(value, syn))


# --- covariances ------------------------------------------------------------------------------------------------------


def explicit(features: Tensor, weights: Tensor) -> Tensor:
    """The d × d covariance, sample by sample."""
    mu = sum(w * f for w, f in zip(weights, features, strict=True))
    scatter = sum(w * torch.outer(f - mu, f - mu) for w, f in zip(weights, features, strict=True))
    return scatter / (1 - weights.square().sum())


@pytest.mark.parametrize("equal", [True, False])
def test_spread_is_the_covariance(equal: bool) -> None:
    x, y = draw(5, 7, path="x"), draw(3, 7, path="y")
    wx, wy = ((torch.full((n,), 1 / n, dtype=torch.float64) if equal else draw(n, path=n).softmax(0)) for n in (5, 3))
    for f, w in ((x, wx), (y, wy)):
        made = covariance_factors(f, w)
        covariance = torch.einsum("i,ia,ib->ab", made.weights, made.centred, made.centred)
        torch.testing.assert_close(covariance, explicit(f, w), rtol=1e-11, atol=1e-12)
        if equal:
            torch.testing.assert_close(covariance, torch.cov(f.T), rtol=1e-11, atol=1e-12)
    naive = float((explicit(x, wx) - explicit(y, wy)).square().sum())
    assert float(covariance_gap(covariance_factors(x, wx), covariance_factors(y, wy))) == pytest.approx(
        naive, rel=1e-11
    )
    assert torch.autograd.gradcheck(
        lambda f, w: covariance_gap(covariance_factors(x, wx), covariance_factors(f, w)),
        (y.requires_grad_(), wy.requires_grad_()),
    )


def test_spread_gap_of_known_points() -> None:
    half = torch.full((2,), 0.5, dtype=torch.float64)
    a = torch.tensor([[0.0, 0.0], [2.0, 2.0]], dtype=torch.float64)  # covariance [[2, 2], [2, 2]]
    b = torch.tensor([[1.0, 9.0], [-1.0, 9.0]], dtype=torch.float64)  # covariance [[2, 0], [0, 0]]
    assert float(covariance_gap(covariance_factors(a, half), covariance_factors(b, half))) == pytest.approx(
        12, rel=1e-14
    )


@some
@given(st.integers(2, 6), st.integers(0, 99))
def test_spread_gap_knows_neither_place_nor_order(n: int, seed: int) -> None:
    x, w = draw(n, 4, path=seed), torch.full((n,), 1 / n, dtype=torch.float64)
    shuffled = x[torch.randperm(n, generator=generator(seed))] + 3
    scale = float(explicit(x, w).square().sum())
    assert abs(float(covariance_gap(covariance_factors(x, w), covariance_factors(shuffled, w)))) <= 1e-11 * scale


def test_one_sample_has_no_spread_and_no_bad_slope() -> None:
    x, one = draw(1, 4), torch.ones(1, dtype=torch.float64)
    made = covariance_factors(x, one)
    assert float(made.weights) == 0
    y, w = draw(3, 4, path="y"), torch.full((3,), 1 / 3, dtype=torch.float64)
    alone = x.clone().requires_grad_()
    value = covariance_gap(covariance_factors(y, w), covariance_factors(alone, one))
    assert float(value.detach()) == pytest.approx(float(explicit(y, w).square().sum()), rel=1e-12)
    assert torch.equal(torch.autograd.grad(value, alone)[0], torch.zeros_like(alone))
    # learned weights that all but name one sample must not divide by almost nothing
    weights = torch.tensor([1 - 2e-8, 1e-8, 1e-8], dtype=torch.float64, requires_grad=True)
    value = covariance_gap(covariance_factors(y, w), covariance_factors(y, weights))
    assert torch.isfinite(torch.autograd.grad(value, weights)[0]).all()


# --- all --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [
    lambda f, w: class_means(w, f).square().sum(),
    lambda f, w: class_means(w, attention(f.reshape(len(f), 1, 2, 2), 4)).sum(),
    lambda f, w: mmd(torch.zeros(2, 4).double(), f, w[0], torch.ones(1).double(), torch.tensor(1.0).double()),
    lambda f, w: amplitude_phase_gap(
        characteristic_function(f.detach(), draw(3, 4), w), characteristic_function(f, draw(3, 4), w)
    ),
    lambda f, w: covariance_gap(covariance_factors(f.detach(), w[0]), covariance_factors(f, w[0])),
])  # fmt: skip
def test_features_of_zeros_give_finite_values_and_slopes(make: Callable[[Tensor, Tensor], Tensor]) -> None:
    features = torch.zeros(4, 4, dtype=torch.float64, requires_grad=True)
    value = make(features, membership((3, 1), LIKE))
    assert torch.isfinite(value)
    assert torch.isfinite(torch.autograd.grad(value, features)[0]).all()
