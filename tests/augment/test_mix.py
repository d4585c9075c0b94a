"""MixUp and CutMix: labels follow the pixels, and Beta is Beta."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from potstill.augment.mix import CutMix, MixParams, MixUp, beta, label_rows
from potstill.errors import PotstillError
from potstill.rng import generator


@pytest.mark.parametrize("alpha", [0.2, 0.7, 1.0, 2.0, 8.0])
def test_beta_has_its_distribution(alpha: float) -> None:
    rng = generator(0, "beta")
    draws = [beta(alpha, rng) for _ in range(3000)]
    assert stats.kstest(draws, stats.beta(alpha, alpha).cdf).pvalue > 1e-4


def test_beta_of_a_tiny_alpha_is_a_coin_and_of_none_an_error() -> None:
    rng = generator(1, "beta")
    draws = [beta(1e-3, rng) for _ in range(200)]
    assert all(min(d, 1 - d) < 1e-3 or 0 < d < 1 for d in draws)
    assert 60 < sum(d > 0.5 for d in draws) < 140
    with pytest.raises(PotstillError, match="alpha must be above 0"):
        beta(0.0, rng)


def test_mixup_by_hand() -> None:
    x, y = torch.tensor([[1.0], [5.0]]), torch.tensor([0, 2])
    made, labels = MixUp().apply(x, y, MixParams(torch.tensor([1, 0]), 0.75), 3)
    assert made.flatten().tolist() == [2.0, 4.0]
    assert labels.tolist() == [[0.75, 0, 0.25], [0.25, 0, 0.75]]


def test_cutmix_by_hand_with_soft_rows() -> None:
    x = torch.stack([torch.zeros(1, 2, 2), torch.ones(1, 2, 2)])
    y = torch.tensor([[0.5, 0.5], [0.0, 1.0]])
    made, labels = CutMix().apply(x, y, MixParams(torch.tensor([1, 0]), 0.75, (0, 1, 1, 2)), 2)
    assert made[0].flatten().tolist() == [0, 1, 0, 0]
    assert made[1].flatten().tolist() == [1, 0, 1, 1]
    assert labels.tolist() == [[0.375, 0.625], [0.125, 0.875]]


@given(st.integers(0, 10_000), st.integers(2, 9), st.integers(2, 9))
@settings(max_examples=60, deadline=None)
def test_the_share_of_cutmix_is_the_part_of_the_area_left(seed: int, h: int, w: int) -> None:
    mix = CutMix(prob=1.0)
    params = mix.draw(3, (1, h, w), generator(seed, "cut"))
    x = torch.arange(3.0).reshape(3, 1, 1, 1).expand(3, 1, h, w).contiguous()
    before = x.clone()
    made, labels = mix.apply(x, torch.arange(3), params, 3)
    assert torch.equal(x, before)
    assert 0.0 <= params.share <= 1.0
    for i, own in enumerate(params.partner.tolist()):
        parts = torch.bincount(made[i].flatten().long(), minlength=3) / (h * w)
        torch.testing.assert_close(labels[i], parts, rtol=0, atol=1e-6)
        assert set(made[i].flatten().tolist()) <= {float(i), float(own)}


def test_probability_shapes_and_repeats() -> None:
    rng = generator(0, "prob")
    mixed = sum(CutMix().draw(4, (1, 8, 8), rng).box is not None for _ in range(400))
    assert 140 < mixed < 260
    never = MixUp(prob=0.0).draw(4, (3,), rng)
    x = torch.ones(4, 3)
    made, labels = MixUp().apply(x, torch.tensor([0, 1, 0, 1]), never, 2)
    assert made is x
    assert torch.equal(labels, label_rows(torch.tensor([0, 1, 0, 1]), 2, torch.float32))
    one, two = (MixUp().draw(4, (3,), generator(5, "again")) for _ in range(2))
    assert torch.equal(one.partner, two.partner)
    assert one.share == two.share
    with pytest.raises(PotstillError, match="use MixUp"):
        CutMix().draw(4, (3,), rng)


def test_gradients_reach_both_partners() -> None:
    x = torch.randn(3, 1, 3, 3, generator=generator(0, "x"), dtype=torch.float64, requires_grad=True)
    y = torch.tensor([0, 1, 1])
    for mix in (MixUp(), CutMix(prob=1.0)):
        params = mix.draw(3, (1, 3, 3), generator(2, "draw"))
        assert torch.autograd.gradcheck(lambda t, m=mix, p=params: m.apply(t, y, p, 2)[0], (x,))
