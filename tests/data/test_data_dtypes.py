"""A training and a test part of different types: each read by its own range, or refused, never one by the other's."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import Dataset

from potstill.data import load
from potstill.errors import PotstillError

RNG = np.random.default_rng(5)
GREY = RNG.integers(0, 256, (24, 6, 5), dtype=np.uint8)
GREY[:, 0, :2] = 0, 255
LABELS = np.arange(24) % 2
AS = {
    "uint8": GREY,
    "uint16": GREY.astype(np.uint16) * np.uint16(257),
    "int64": GREY.astype(np.int64),
    "int16": GREY.astype(np.int16),
    "float32 in [0,1]": GREY.astype(np.float32) / np.float32(255),
    "float64 in [0,1]": GREY / 255,
    "float32 up to 255": GREY.astype(np.float32),
}
"""The same pictures, as people store them."""
BLACK_AND_WHITE = {"bool": GREY > 127, "int 0 and 1": (GREY > 127).astype(np.int64), "floats": (GREY > 127) * 1.0}


def parts(train, test):
    return load((train, LABELS, test, LABELS))


def raw(source):
    return source.raw(torch.arange(len(source)))


def refuse(train, test, message):
    with pytest.raises(PotstillError, match=message) as caught:
        parts(train, test)
    assert "\n" not in str(caught.value)


TOLD = [pair for pair in itertools.permutations(AS, 2) if not all("float" in name for name in pair)]
SAME_TYPE = [p for p in itertools.permutations(AS, 2) if all("float" in n for n in p) and any("255" in n for n in p)]


@pytest.mark.parametrize(("first", "second"), TOLD)
def test_each_part_is_scaled_by_its_own_type(first, second):
    s = parts(AS[first], AS[second])
    assert torch.allclose(raw(s.train), raw(s.test), atol=1e-6)
    assert raw(s.train).max() == raw(s.test).max() == 1
    assert s.train.input.units == "pixels in [0,1]"
    assert any("each was read by its own type" in note for note in s.notes)


@pytest.mark.parametrize(("first", "second"), SAME_TYPE)
def test_floats_on_two_scales_are_refused(first, second):
    refuse(AS[first], AS[second], "both floats: the scale is unclear; give both parts on one scale")


@pytest.mark.parametrize(("mask", "other"), list(itertools.product(BLACK_AND_WHITE, ["uint8", "uint16"])))
def test_black_and_white_beside_shades(mask, other):
    for train, test in ((BLACK_AND_WHITE[mask], AS[other]), (AS[other], BLACK_AND_WHITE[mask])):
        s = parts(train, test)
        assert raw(s.train).max() == raw(s.test).max() == 1
        assert any("each was read by its own type" in note for note in s.notes)


@pytest.mark.parametrize(
    ("train", "test", "message"),
    [
        (GREY, GREY * 0.9, "the floats values, from 0 to 229.5, are neither in .* cannot be told; give both parts"),
        (GREY * 0.9, GREY, "training pixels are floats, test pixels uint8"),
        (GREY, (GREY - 127.5) / 64, "the floats values, from -1.99"),
        (GREY, GREY.astype(np.int32) * 9, "the int32 values, from 0 to 2295"),
        (GREY.astype(np.int32) * 9, (GREY - 127.5) / 64, "cannot be told"),
        (GREY, (GREY > 127).astype(np.uint8), "training values go from 0 to 255, test values from 0 to 1, both uint8"),
        (AS["uint16"], GREY.astype(np.uint16), "both uint16: the scale is unclear"),
    ],
)  # fmt: skip
def test_what_cannot_be_told_is_refused(train, test, message):
    refuse(train, test, message)


def test_parts_of_one_type_are_read_together():
    dark = np.minimum(GREY, 20)
    assert raw(parts(GREY, dark).test).max() == pytest.approx(20 / 255)
    assert raw(parts(GREY / 255, dark / 255).test).max() == pytest.approx(20 / 255)
    assert raw(parts(AS["uint16"], AS["uint16"] // np.uint16(9)).test).max() == pytest.approx(1 / 9, abs=1e-4)
    assert raw(parts(GREY, np.zeros_like(GREY)).test).max() == 0


KINDS = {
    "bool": lambda u: u > 0.5,
    "uint8": lambda u: np.rint(u * 255).astype(np.uint8),
    "uint16": lambda u: np.rint(u * 65535).astype(np.uint16),
    "int32": lambda u: np.rint(u * 255).astype(np.int32),
    "float16": lambda u: u.astype(np.float16),
    "float32": lambda u: u.astype(np.float32),
    "float64": lambda u: u,
}


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted(KINDS)), st.sampled_from(sorted(KINDS)), st.integers(0, 2**32 - 1))
def test_no_pair_of_types_puts_the_parts_on_two_scales(first, second, seed):
    u = np.random.default_rng(seed).random((6, 4, 4))
    u[0, 0, :2] = 0, 1
    s = load((KINDS[first](u), [0, 1] * 3, KINDS[second](u), [0, 1] * 3))
    tolerance = 0.51 if "bool" in (first, second) else 0.005
    assert (raw(s.train) - raw(s.test)).abs().max() <= tolerance


def test_an_npz_of_two_types_learns_as_well(tmp_path):
    from sklearn.datasets import load_digits
    from sklearn.linear_model import LogisticRegression

    digits = load_digits()
    x, y = (digits.images * 15).astype(np.uint8), digits.target
    np.savez(tmp_path / "two.npz", x_train=x[:1200], y_train=y[:1200], x_test=x[1200:] / 255, y_test=y[1200:])
    s = load(tmp_path / "two.npz")
    train, test = (p.fetch(torch.arange(len(p))) for p in (s.train, s.test))
    model = LogisticRegression(max_iter=200).fit(train.x.flatten(1), train.y)
    assert model.score(test.x.flatten(1), test.y) > 0.8
    assert s.notes[0] == (
        "two: training pixels are uint8 (0 … 255: 8-bit pixels, divided by 255), test pixels floats (in [0,1] as they "
        "are); each was read by its own type"
    )


class Pairs(Dataset):
    def __init__(self, samples):
        self.samples = samples

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, i):
        return self.samples[i]


def test_samples_of_two_types_in_one_set_are_refused():
    mixed = Pairs([(GREY[0] if i % 2 else AS["float64 in [0,1]"][0], i % 2) for i in range(8)])
    with pytest.raises(PotstillError, match=r"^Pairs: input 0 is float64, input 1 uint8; give all in one type$"):
        load(mixed)
    listed = [GREY[0], AS["float64 in [0,1]"][0]] * 2
    with pytest.raises(PotstillError, match=r"^arrays: input 0 is uint8, input 1 float64; give all in one type$"):
        load((listed, [0, 1, 0, 1]))
