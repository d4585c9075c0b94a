"""Rows of zeros and ones: what decodes, the gradient, the noise that fades, and settings that are refused."""

import pytest
import torch

import potstill
from potstill.core import DecodeContext, InputSpec
from potstill.errors import PotstillError
from potstill.parametrize.multi_hot import MultiHot
from tests.ratings_data import write_shop

CONTEXT = DecodeContext(input=InputSpec(kind="ratings", shape=(4,)))


def payload(z, seed=1, done=0, fade=600):
    return {"inputs": z, "draw": torch.tensor([seed, done, fade])}


def test_decoded_rows_are_zeros_and_ones_with_the_gradient_of_a_sigmoid():
    z = torch.tensor([[-2.0, -0.1, 0.1, 2.0], [0.0, 1.0, -1.0, 3.0]], requires_grad=True)
    rows = MultiHot(noise=0, temperature=2.0).decode(payload(z), CONTEXT)
    assert rows.tolist() == [[0, 0, 1, 1], [0, 1, 0, 1]]
    rows.sum().backward()
    soft = (z / 2).sigmoid()
    torch.testing.assert_close(z.grad, (soft * (1 - soft) / 2).detach())


def test_noise_flips_near_values_and_is_gone_at_the_end():
    z = torch.full((50, 4), 0.2)
    part = MultiHot(noise=1.0)
    first = part.decode(payload(z), CONTEXT)
    share = float((first == 0).float().mean())
    assert 0.3 < share < 0.6  # P(logistic < -0.2) = 0.45
    assert torch.equal(first, part.decode(payload(z), CONTEXT))
    assert not torch.equal(first, part.decode(payload(z, done=1), CONTEXT))
    assert bool((part.decode(payload(z, done=600), CONTEXT) == 1).all())
    assert torch.equal(part.stored(payload(z)), torch.ones(50, 4))


def test_an_update_is_counted_and_nothing_else():
    held = payload(torch.zeros(1, 4), seed=9, done=3)
    assert MultiHot().after_update(held)["draw"].tolist() == [9, 4, 600]


def test_a_set_holds_lists_and_a_run_repeats(tmp_path):
    splits = potstill.load_data(write_shop(tmp_path / "shop.csv"), kind="ratings")
    first, again = (potstill.distill(splits, "distill-cf", items=5, steps=30, seed=4, progress=None) for _ in range(2))
    assert set(first.inputs.unique().tolist()) == {0.0, 1.0}
    assert torch.equal(first.inputs, again.inputs)
    other = potstill.distill(splits, "distill-cf", items=5, steps=30, seed=5, progress=None)
    assert not torch.equal(first.inputs, other.inputs)


def test_settings_and_other_data_are_refused():
    with pytest.raises(PotstillError, match="noise must be at least 0, temperature above 0 and fade at least 1"):
        MultiHot(temperature=0.0)
    with pytest.raises(PotstillError, match="multi-hot is for users with lists of items"):
        MultiHot().bind(potstill.load_data("digits").train)
    with pytest.raises(PotstillError, match="method distill-cf does recommendation, but digits is classification"):
        potstill.distill("digits", "distill-cf", ipc=1, progress=None)
