"""What decoding gives back exactly, what approximately, and on which side it errs."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from potstill.errors import PotstillError
from potstill.labels.codec import LabelCodec
from potstill.rng import generator


@st.composite
def logits(draw: st.DrawFn, least: int = 2) -> Tensor:
    m, k = draw(st.integers(1, 6)), draw(st.integers(least, 40))
    z = torch.randn(m, k, generator=generator(draw(st.integers(0, 10**6)))) * draw(st.floats(0.01, 8.0))
    return z + draw(st.floats(-50, 50))


def kept(z: Tensor, k: int) -> Tensor:
    return z.sort(dim=1, descending=True, stable=True).indices[:, :k]


@given(logits(3), st.data())
@settings(max_examples=60, deadline=None)
def test_at_its_own_temperature_the_kept_classes_are_exact_and_the_rest_is_even(z: Tensor, data: st.DataObject) -> None:
    k = data.draw(st.integers(1, z.shape[1] - 1))
    temperature = data.draw(st.sampled_from([1.0, 4.0, 20.0]))
    coding = LabelCodec(classes=z.shape[1], top_k=k, temperature=temperature)
    rows, true = coding.rows(coding.encode(z), temperature), (z.double() / temperature).softmax(1)
    assert rows.dtype == torch.float32
    torch.testing.assert_close(rows.sum(1), torch.ones(len(z)))
    index = kept(z, k)
    # Rounding to 16 bits is all that is lost: |a| · 2**-11 of each log-probability, divided by the temperature.
    slack = 2.0**-10 * (z.max(1).values - z.min(1).values + 4).double() / temperature + 1e-5
    error = (rows.double() - true).abs() / true
    assert bool((error.gather(1, index) <= slack[:, None].expm1()).all())
    rest = torch.ones_like(true).scatter(1, index, 0.0).bool()
    mean = (true * rest).sum(1) / rest.sum(1)
    found = (rows * rest).sum(1) / rest.sum(1)
    torch.testing.assert_close(found.double(), mean, rtol=float(slack.max().expm1()), atol=1e-7)
    for row, others in zip(rows, rest, strict=True):
        assert len(row[others].unique()) == 1


@given(logits(3), st.data())
@settings(max_examples=40, deadline=None)
def test_at_other_temperatures_ratios_are_exact_and_the_rest_errs_to_one_side(z: Tensor, data: st.DataObject) -> None:
    k, base = data.draw(st.integers(1, z.shape[1] - 1)), data.draw(st.sampled_from([1.0, 3.0]))
    coding = LabelCodec(classes=z.shape[1], top_k=k, temperature=base)
    stored, index = coding.encode(z), kept(z, k)
    slack = float((z.max() - z.min() + 4) * 2.0**-9)
    for temperature in (base / 2, base * 5):
        rows, true = coding.rows(stored, temperature).double(), (z.double() / temperature).softmax(1)
        ratio = (rows.gather(1, index).log() - true.gather(1, index).log()) * temperature
        assert float((ratio - ratio[:, :1]).abs().max()) <= slack + 1e-3
        rest, exact = (1 - p.gather(1, index).sum(1) for p in (rows, true))
        if temperature > base:
            assert bool((rest >= exact - slack / temperature - 1e-6).all())
        else:
            assert bool((rest <= exact + slack / temperature + 1e-6).all())


@given(logits())
@settings(max_examples=40, deadline=None)
def test_with_all_classes_everything_comes_back(z: Tensor) -> None:
    coding = LabelCodec(classes=z.shape[1], top_k=z.shape[1], level=True)
    stored = coding.encode(z)
    assert set(stored) == {"values", "level"}
    span = float(z.max() - z.min()) + float(z.abs().max()) + 4
    torch.testing.assert_close(coding.logits(stored), z.float(), rtol=0, atol=span * 2.0**-10)
    for temperature in (0.5, 1.0, 20.0):
        torch.testing.assert_close(
            coding.rows(stored, temperature), (z / temperature).softmax(1), rtol=0, atol=1e-3 / min(1.0, temperature)
        )


@given(logits(3), st.data())
@settings(max_examples=40, deadline=None)
def test_few_bits_are_off_by_half_a_step(z: Tensor, data: st.DataObject) -> None:
    k, bits = data.draw(st.integers(1, z.shape[1])), data.draw(st.sampled_from([4, 8]))
    fine, coarse = (LabelCodec(classes=z.shape[1], top_k=k, dtype=d) for d in ("float16", f"uint{bits}"))
    exact, stored = fine.decode(fine.encode(z)), coarse.encode(z)
    assert stored["values"].dtype == np.uint8
    assert stored["values"].shape[1] == ((k + (k < z.shape[1])) * bits + 7) // 8
    step = torch.from_numpy(stored["scale"][:, 1].astype(np.float32))[:, None]
    rounding = exact.abs() * 2.0**-10 + 1e-4
    assert bool(((coarse.decode(stored) - exact).abs() <= step / 2 + rounding).all())


def test_by_hand() -> None:
    z = torch.log(torch.tensor([[0.5, 0.2, 0.2, 0.1]]))
    coding = LabelCodec(classes=4, top_k=2)
    stored = coding.encode(z)
    assert stored["index"].tolist() == [[0b0011]]  # one bit for each class; of equals the first
    torch.testing.assert_close(coding.kept_mass(stored, 1.0), torch.tensor([0.7]), rtol=1e-3, atol=0)
    assert stored["values"].shape == (1, 3)
    torch.testing.assert_close(coding.rows(stored, 1.0), torch.tensor([[0.5, 0.2, 0.15, 0.15]]), rtol=1e-3, atol=0)
    # at temperature 2 the even rest weighs 2 √0.15, a little more than √0.2 + √0.1
    weights = torch.tensor([0.5, 0.2, 0.15, 0.15]).sqrt()
    torch.testing.assert_close(coding.rows(stored, 2.0)[0], weights / weights.sum(), rtol=1e-3, atol=0)


def test_equal_logits_and_extreme_ones_are_stored() -> None:
    for dtype in ("float16", "uint8", "uint4"):
        coding = LabelCodec(classes=5, top_k=3, dtype=dtype)
        torch.testing.assert_close(coding.rows(coding.encode(torch.full((2, 5), 7.0)), 1.0), torch.full((2, 5), 0.2))
        sharp = torch.tensor([[0.0, 3e5, 0.0, -3e5, 0.0]])
        assert coding.rows(coding.encode(sharp), 1.0)[0, 1] == 1.0


def test_damage_and_bad_settings_are_refused() -> None:
    coding = LabelCodec(classes=5, top_k=2)
    stored = coding.encode(torch.randn(3, 5, generator=generator(0)))
    with pytest.raises(PotstillError, match="2 increasing numbers"):
        coding.decode(stored | {"index": np.full((3, 1), 7, np.uint8)})
    with pytest.raises(PotstillError, match="not finite"):
        coding.decode(stored | {"values": np.full((3, 3), np.nan, np.float16)})
    with pytest.raises(PotstillError, match="level=True"):
        coding.logits(stored)
    with pytest.raises(PotstillError, match="temperature must be above 0"):
        coding.rows(stored, 0.0)
    with pytest.raises(PotstillError, match="store without level"):
        LabelCodec(classes=2, top_k=2, level=True).encode(torch.full((1, 2), 1e5))
    for wrong in ({"top_k": 0}, {"top_k": 6}, {"classes": 1}, {"dtype": "int4"}, {"temperature": 0.0}):
        with pytest.raises(PotstillError):
            LabelCodec(**({"classes": 5, "top_k": 2} | wrong))


@given(logits(3), st.data())
@settings(max_examples=40, deadline=None)
def test_the_mass_is_that_of_the_kept_classes(z: Tensor, data: st.DataObject) -> None:
    k = data.draw(st.integers(1, z.shape[1]))
    for temperature in (1.0, 20.0):
        coding = LabelCodec(classes=z.shape[1], top_k=k, temperature=temperature)
        true = (z.double() / temperature).softmax(1).topk(k, 1).values.sum(1)
        torch.testing.assert_close(coding.kept_mass(coding.encode(z), temperature).double(), true, rtol=0.05, atol=1e-3)
