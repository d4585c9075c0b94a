"""The estimate of coded bits: against its density, the noise that it stands for, and a coder that counts."""

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from potstill.functional.rate import geometric_bits, group_bits, noisy_magnitude, picture_bits
from potstill.rng import generator


def adaptive_code_length(q: Tensor, groups: int = 1) -> float:
    """Return the bits of an adaptive binary code of whole numbers: what a coder without mixing pays, learning counted.

    Each number is coded as ``q = 0``?, its sign, and whether its magnitude exceeds 1, 2, …; after 14 by an Elias gamma
    code. A decision's probability is by the counts before it plus ½ (Krichevsky and Trofimov), one context for each
    decision and group.

    Args:
        q: whole numbers; the last axis has the positions.
        groups: number of groups that positions are sorted into by their mean magnitude, of equal counts.
    """
    rows = q.detach().long().reshape(-1, q.shape[-1] if q.ndim > 1 else 1)
    order = rows.abs().double().mean(0).argsort(descending=True, stable=True)
    total = 0.0
    for columns in order.tensor_split(max(1, min(groups, len(order)))):
        values = rows[:, columns].flatten()
        size = values.abs()
        total += _binary(int((values != 0).sum()), int((values == 0).sum()))
        total += _binary(int((values > 0).sum()), int((values < 0).sum()))
        for above in range(1, 15):
            total += _binary(int((size > above).sum()), int((size == above).sum()))
        total += sum(2 * math.floor(math.log2(s - 14)) + 1 for s in size[size > 14].tolist())
    return total


def _binary(a: int, b: int) -> float:
    """Return the bits of ``a`` and ``b`` decisions, coded by the counts before each plus ½; of any order."""
    if not a + b:
        return 0.0
    log = math.lgamma(a + 0.5) + math.lgamma(b + 0.5) - 2 * math.lgamma(0.5) - math.lgamma(a + b + 1)
    return -log / math.log(2)


def values(*shape: int, scale: float = 2.0, seed: int = 0) -> Tensor:
    return scale * torch.randn(*shape, generator=generator(seed, "rate"), dtype=torch.float64)


def density(q: int, m: float) -> float:
    theta = (math.sqrt(1 + m * m) - 1) / m
    return (1 - theta) / (1 + theta) * theta ** abs(q)


@pytest.mark.parametrize("m", [0.01, 0.3, 1.0, 7.5])
def test_the_density_has_its_mean_magnitude_and_entropy(m: float) -> None:
    codes = range(-2000, 2001)
    assert math.isclose(sum(density(q, m) for q in codes), 1, rel_tol=1e-9)
    assert math.isclose(sum(abs(q) * density(q, m) for q in codes), m, rel_tol=1e-6)
    entropy = -sum(p * math.log2(p) for q in codes if (p := density(q, m)) > 0)
    assert math.isclose(float(geometric_bits(torch.tensor(m, dtype=torch.float64))), entropy, rel_tol=1e-6)


def test_bits_are_the_code_lengths_of_the_rounded_values() -> None:
    v = values(30, 2, 5)
    total = 0.0
    for column in v.round().reshape(30, 10).T:
        m = (float(column.abs().sum()) + 0.5) / 31
        total += sum(-math.log2(density(int(q), m)) for q in column)
    # The values' own mean differs a little from m, which has one value more.
    assert math.isclose(float(group_bits(v)), total, rel_tol=0.01)
    assert math.isclose(float(group_bits(v)), 925.5624426869229, rel_tol=1e-9)


def test_pictures_are_coded_as_what_neighbours_do_not_predict() -> None:
    v = values(7, 2, 4, 5)
    q = v.round()
    rest: dict[int, list[float]] = {0: [], 1: []}
    for n in range(7):
        for c in range(2):
            for i in range(4):
                for j in range(5):
                    near = [q[n, c, i, j - 1]] * (j > 0) + [q[n, c, i - 1, j]] * (i > 0)
                    predicted = round(float(sum(near)) / len(near)) if near else 0
                    rest[c].append(abs(float(q[n, c, i, j]) - predicted))
    expected = sum(
        140 * float(geometric_bits(torch.tensor((sum(r) + 0.5) / 141, dtype=torch.float64))) for r in rest.values()
    )
    assert math.isclose(float(picture_bits(v)), expected, rel_tol=1e-9)
    flat = torch.ones(7, 2, 4, 5).double()
    assert float(picture_bits(flat)) < 0.4 * float(picture_bits(v))


def test_the_gradient_is_that_of_noise() -> None:
    """Against the mean over a fine grid of noise, by finite differences: rounding itself has no gradient."""
    v = values(40, 3, scale=0.8)
    noise = (torch.arange(4000, dtype=torch.float64) + 0.5) / 4000 - 0.5
    mean = (v[..., None] + noise).abs().mean(-1)
    torch.testing.assert_close(noisy_magnitude(v), mean, atol=1e-6, rtol=0)
    leaf = v.clone().requires_grad_()
    (found,) = torch.autograd.grad(group_bits(leaf), leaf)
    m = ((v.round().abs().sum(0) + 0.5) / 41).requires_grad_()
    (slope,) = torch.autograd.grad((40 * geometric_bits(m)).sum(), m)
    step = 1e-3
    by_noise = ((v[..., None] + noise + step).abs() - (v[..., None] + noise - step).abs()).mean(-1) / (2 * step)
    torch.testing.assert_close(found, slope / 41 * by_noise, atol=1e-3, rtol=1e-3)
    theta = m.detach() / (1 + (1 + m.detach().square()).sqrt())
    torch.testing.assert_close(slope / 40, -theta.log2())


@pytest.mark.parametrize("rate", [group_bits, picture_bits])
def test_smooth_parts_pass_gradcheck(rate: Callable[[Tensor], Tensor]) -> None:
    m = (values(9).abs() + 0.1).requires_grad_()
    assert torch.autograd.gradcheck(geometric_bits, m)
    assert torch.autograd.gradcheck(noisy_magnitude, values(9, scale=1.0).requires_grad_())
    leaf = values(3, 1, 4, 4).requires_grad_()
    (found,) = torch.autograd.grad(rate(leaf), leaf)
    assert torch.isfinite(found).all()
    for _ in range(60):  # descent lowers the bits, and ends at none but what learning costs
        (found,) = torch.autograd.grad(rate(leaf), leaf)
        leaf = (leaf - 0.05 * found).detach().requires_grad_()
    assert float(rate(leaf.detach())) < 0.6 * float(rate(values(3, 1, 4, 4)))


@given(st.integers(0, 5), st.integers(1, 6), st.integers(0, 9))
@settings(max_examples=30, deadline=None)
def test_any_shape_has_finite_bits(n: int, columns: int, seed: int) -> None:
    for v in (values(n, columns, seed=seed), values(n, seed=seed), torch.zeros(n, columns)):
        bits = group_bits(v)
        assert torch.isfinite(bits)
        assert float(bits) >= 0
    assert torch.isfinite(picture_bits(values(n, 2, columns, 3, seed=seed)))


def test_the_estimate_is_near_what_an_adaptive_code_takes() -> None:
    scale = torch.linspace(0.3, 4, 16).double()
    v = values(400, 16, scale=1.0) * scale
    counted = adaptive_code_length(v.round(), groups=16)
    assert 0.9 < float(group_bits(v)) / counted < 1.1
    assert counted < adaptive_code_length(v.round(), groups=1)


def test_the_adaptive_code_length_is_that_of_decisions_one_by_one() -> None:
    q = torch.tensor([0, 1, 0, -2, 0, 0, 17, 0])[:, None]
    bits, counts = 0.0, dict[str, list[int]]()

    def decide(context: str, outcome: bool) -> float:
        seen = counts.setdefault(context, [0, 0])
        bits = -math.log2((seen[outcome] + 0.5) / (sum(seen) + 1))
        seen[outcome] += 1
        return bits

    for value in q.flatten().tolist():
        bits += decide("zero", value == 0)
        if value:
            bits += decide("sign", value > 0)
            for above in range(1, 15):
                bits += decide(f"above {above}", abs(value) > above)
                if abs(value) == above:
                    break
            if abs(value) > 14:
                bits += 2 * math.floor(math.log2(abs(value) - 14)) + 1
    assert math.isclose(adaptive_code_length(q), bits, rel_tol=1e-9)
