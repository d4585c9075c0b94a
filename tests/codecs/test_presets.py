"""What is published on bits: additive powers of two, palettes, ranges for patches. By hand, naively, and broken."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from potstill.codecs import decode, encoded_bytes, estimate_bytes, parse_codec
from potstill.codecs.apot import LEVELS, APoT
from potstill.codecs.palette import Palette
from potstill.codecs.patches import Patches
from potstill.core import Encoded
from potstill.errors import PotstillError
from potstill.functional.packing import unpack_bits
from potstill.rng import generator


def pictures(shape: tuple[int, ...], seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=generator(seed, "presets")).cumsum(-1) / 4


SHAPES = st.tuples(st.integers(1, 5), st.sampled_from([1, 2, 3]), st.integers(1, 13), st.integers(1, 13))


# Additive powers of two


def test_apot_levels_are_the_published_ones() -> None:
    assert LEVELS[2] == (-1, 0, 1)
    assert LEVELS[3] == (-1, -0.5, -0.25, 0, 0.25, 0.5, 1)
    assert LEVELS[4] == (-1, -0.8, -0.6, -0.4, -0.3, -0.2, -0.1, 0, 0.1, 0.2, 0.3, 0.4, 0.6, 0.8, 1)


@given(st.sampled_from([2, 3, 4]), st.integers(0, 200), st.booleans())
@settings(max_examples=60, deadline=None)
def test_apot_takes_the_nearest_level(bits: int, seed: int, centred: bool) -> None:
    made = APoT(bits=bits, centred=centred)
    x = pictures((3, 1, 4, 5), seed) + (2 if centred else 0)
    kept = made.pack(x)
    levels = kept.tensors[".levels"].float()
    assert len(levels) == 2**bits - 1
    assert encoded_bytes(kept) == -(-60 * bits // 8) + 2 * len(levels)
    back = decode(kept)
    middle = levels[len(levels) // 2]
    clip = float((levels[-1] - levels[0]) / 2)
    torch.testing.assert_close(levels, middle + clip * torch.tensor(LEVELS[bits]), rtol=0, atol=2e-3 * (clip + 2))
    if not centred:
        assert float(middle) == 0
    naive = torch.stack([min((abs(v - x_i), v) for v in levels)[1] for x_i in x.flatten()]).reshape(x.shape)
    assert float((naive - x).abs().sum()) >= float((back - x).abs().sum()) * (1 - 5e-3)
    ends = [(levels[0], levels[-1])]
    assert all(a <= float(v) <= b for (a, b), v in itertools.product(ends, back.flatten()))


def test_apot_fits_no_worse_than_the_widest_clip() -> None:
    for bits, seed in itertools.product((2, 3, 4), range(20)):
        x = pictures((2, 1, 6, 6), seed) ** 3
        wide = {"centre": x.mean()[None], "clip": (x - x.mean()).abs().max()[None]}
        made = APoT(bits=bits)
        error, by_ends = ((decode(k) - x).square().sum() for k in (made.pack(x), made.pack_with_ranges(x, wide)))
        assert float(error) <= 1.001 * float(by_ends)


def test_apot_gradients_by_hand() -> None:
    """With α = 2 and levels 0, ±½, ±1 (3 bits: ±¼ too): inside v − u by α and 1 by x, outside the sign and 0."""
    made = APoT(bits=3)
    x = torch.tensor([0.3, 1.2, -1.6, 5.0, -7.0], requires_grad=True)
    ranges = {"centre": torch.zeros(1, requires_grad=True), "clip": torch.full((1,), 2.0, requires_grad=True)}
    back = made.fake_quantize_with_ranges(x, ranges)
    assert back.tolist() == [0.5, 1.0, -2.0, 2.0, -2.0]
    assert torch.equal(back, decode(made.pack_with_ranges(x, ranges)))
    gx, centre, clip = torch.autograd.grad(back.sum(), (x, ranges["centre"], ranges["clip"]))
    assert gx.tolist() == [1, 1, 1, 0, 0]
    scale = 1 / math.sqrt(5 * 7)
    assert clip.item() == pytest.approx(scale * ((0.25 - 0.15) + (0.5 - 0.6) + (-1 + 0.8) + 1 - 1), rel=1e-5)
    assert centre.item() == pytest.approx(scale * 2, rel=1e-5)


# Palettes


def naive_palette(x: Tensor, colours: Tensor) -> Tensor:
    """Of each pixel the nearest colour of its picture, one pixel after the other."""
    made = torch.empty_like(x)
    for n, i, j in itertools.product(range(len(x)), range(x.shape[2]), range(x.shape[3])):
        palette = colours[n % len(colours)]
        made[n, :, i, j] = palette[(palette - x[n, :, i, j]).square().sum(1).argmin()]
    return made


@given(SHAPES, st.integers(2, 9), st.booleans(), st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_palette_takes_the_nearest_colour(shape: tuple[int, int, int, int], k: int, shared: bool, seed: int) -> None:
    x = pictures(shape, seed)
    kept = Palette(colours=k, shared=shared).pack(x)
    n, c, h, w = shape
    palettes = 1 if shared else n
    assert tuple(kept.tensors[".colours"].shape) == (palettes, k, c)
    assert encoded_bytes(kept) == -(-n * h * w * (k - 1).bit_length() // 8) + 2 * palettes * k * c
    naive = naive_palette(x, kept.tensors[".colours"].float())
    torch.testing.assert_close((decode(kept) - x).square().sum(), (naive - x).square().sum(), rtol=1e-2, atol=1e-3)


def test_palette_finds_the_colours_that_there_are() -> None:
    colours = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0.25, 0.5, 1]])
    q = torch.randint(0, 4, (6, 5, 7), generator=generator(0, "q"))
    x = colours[q].permute(0, 3, 1, 2).contiguous()
    for shared in (False, True):
        kept = Palette(colours=4, shared=shared).pack(x)
        assert torch.equal(decode(kept), x)
        assert len(unpack_bits(kept.tensors[""], 2, 210)) == 210


def test_a_palette_of_greys_by_hand() -> None:
    """{0, 0.1} and {0.9, 1} with two colours: their means, and one bit for each pixel."""
    x = torch.tensor([0.0, 0.1, 0.9, 1.0]).reshape(1, 1, 2, 2)
    kept = Palette(colours=2).pack(x)
    assert sorted(kept.tensors[".colours"].flatten().tolist()) == pytest.approx([0.05, 0.95], abs=1e-3)
    assert len(kept.tensors[""]) == 1
    assert decode(kept).flatten().tolist() == pytest.approx([0.05, 0.05, 0.95, 0.95], abs=1e-3)


def test_colours_learn_with_the_sum_over_their_pixels() -> None:
    made = Palette(colours=2)
    x = torch.tensor([0.0, 0.1, 0.9, 1.0]).reshape(1, 1, 2, 2).requires_grad_()
    colours = torch.tensor([[[0.0], [1.0]]], requires_grad=True)
    back = made.fake_quantize_with_ranges(x, {"colours": colours})
    assert back.flatten().tolist() == [0, 0, 1, 1]
    gx, gc = torch.autograd.grad((back * torch.tensor([1.0, 2, 3, 4]).reshape(1, 1, 2, 2)).sum(), (x, colours))
    assert gx.flatten().tolist() == [1, 2, 3, 4]
    assert gc.flatten().tolist() == pytest.approx([3 / 2, 7 / 2])  # 1 / √(4 · 1)


# Ranges for patches


def naive_patches(x: Tensor, bits: int, side: int) -> Tensor:
    """Every patch in a range of its own, as published, one after the other."""
    made, most = x.clone(), 2**bits - 1
    h, w = x.shape[-2:]
    for n, i, j in itertools.product(range(len(x)), range(0, h, side), range(0, w, side)):
        patch = x[n, :, i : i + side, j : j + side]
        a = (patch.max() - patch.min()) / most
        if a > 0:
            z = torch.round(-patch.min() / a)
            q = torch.round(patch / a + z).clamp(0, most)
            made[n, :, i : i + side, j : j + side] = (q - z) * a
    return made


@given(SHAPES, st.integers(1, 8), st.integers(1, 6), st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_patches_of_a_group_each_are_the_published_formula(
    shape: tuple[int, int, int, int], bits: int, side: int, seed: int
) -> None:
    x = pictures(shape, seed)
    n, c, h, w = shape
    patches = n * -(-h // side) * -(-w // side)
    made = Patches(bits=bits, side=side, groups=min(256, patches))
    kept = made.pack(x)
    each = made._quantize_patches(x)
    torch.testing.assert_close(each, naive_patches(x, bits, side), rtol=1e-4, atol=1e-4)
    back = decode(kept)
    assert back.shape == x.shape
    if patches <= 256:  # as many groups as patches: only what float16 rounds differs, and it can move one code
        step, rounding = float((x.max() - x.min()) / (2**bits - 1)), 2e-3 * float(x.abs().max())
        apart = (back - each).abs()
        assert float(apart.max()) <= step + 2 * rounding
        assert float(apart.mean()) <= max(0.02, 1 / x.numel()) * step + rounding
    group_bits = (len(kept.tensors[".low"]) - 1).bit_length()
    assert encoded_bytes(kept) == sum([
        -(-n * c * h * w * bits // 8), -(-patches * group_bits // 8), 4 * len(kept.tensors[".low"])
    ])  # fmt: skip


def test_groups_take_a_tenth_of_the_codes() -> None:
    for shape in [(100, 1, 28, 28), (10, 3, 32, 32), (1, 1, 28, 28), (2000, 3, 32, 32)]:
        kept = Patches().pack(pictures(shape))
        codes = len(kept.tensors[""])
        assert encoded_bytes(kept) - codes <= max(4, 0.1 * codes)
        assert encoded_bytes(Patches().pack(torch.zeros(shape))) == encoded_bytes(kept)
    assert len(Patches().pack(pictures((100, 1, 28, 28))).tensors[".low"]) == 16
    assert ".group" not in Patches(groups=1).pack(pictures((3, 1, 8, 8))).tensors


def test_grouping_by_hand() -> None:
    """Dark patches and bright ones, two groups: each has the range of its own kind, and constants stay."""
    x = torch.zeros(1, 1, 4, 8)
    x[..., 4:] = 1
    x[0, 0, 0, 0], x[0, 0, 0, 7] = 0.3, 1.6
    kept = Patches(bits=2, side=4, groups=2).pack(x)
    assert sorted(kept.tensors[".low"].tolist()) == [0, 1.0]
    assert sorted(kept.tensors[".step"].tolist()) == pytest.approx([0.1, 0.2], abs=1e-3)
    torch.testing.assert_close(decode(kept), x, rtol=0, atol=2e-3)
    constant = torch.full((2, 3, 7, 6), -0.375)
    assert torch.equal(decode(Patches().pack(constant)), constant)


def test_refining_brings_features_nearer() -> None:
    x = pictures((12, 1, 15, 15), 3)
    weight = torch.randn(225, 24, generator=generator(4, "features"))

    def features(p: Tensor) -> Tensor:
        return torch.tanh(p.flatten(1) @ weight / 8)

    made = Patches(bits=2, groups=256)
    before = float((features(decode(made.pack(x))) - features(x)).square().sum())
    kept = made.pack_refined(x, features, torch.Generator().manual_seed(0), steps=150, batch=5)
    after = float((features(decode(kept)) - features(x)).square().sum())
    assert after < 0.7 * before
    assert encoded_bytes(kept) == encoded_bytes(made.pack(x))
    again = made.pack_refined(x, features, torch.Generator().manual_seed(0), steps=150, batch=5)
    assert torch.equal(decode(again), decode(kept))
    none = made.pack_refined(x, features, torch.Generator().manual_seed(0), steps=0)
    assert torch.equal(decode(none), decode(made.pack(x)))


@given(
    st.tuples(st.integers(1, 40), st.sampled_from([1, 3]), st.integers(1, 40), st.integers(1, 40)),
    st.sampled_from([
        "patches", "patches:groups=7,bits=3,side=4", "palette", "palette:colours=5,shared=true", "apot",
        "half:bits=2", "half:bits=16,factor=3", "half:factor=16",
    ]),
)  # fmt: skip
@settings(max_examples=40, deadline=None)
def test_the_shape_alone_says_the_bytes(shape: tuple[int, int, int, int], spelled: str) -> None:
    made = parse_codec(spelled)
    kept = encoded_bytes(made.pack(pictures(shape, sum(shape))))
    assert estimate_bytes(made, shape) == kept
    two = (2, shape[0], *shape[1:])
    assert estimate_bytes(made, two) == encoded_bytes(made.pack(torch.zeros(two)))


# What is broken

X = pictures((2, 3, 8, 8), 7)


@pytest.mark.parametrize(
    ("spelled", "change", "tensors", "said"),
    [
        ("palette:colours=4", {"shape": [2, 2, 8, 8]}, {}, "palettes of pictures"),
        ("palette:colours=4", {"shape": [4, 3, 8, 8]}, {}, "palettes of pictures"),
        ("palette:colours=4", {"shape": [2, 3, 64]}, {}, "palettes of pictures"),
        ("palette:colours=4", {"bits": 9}, {}, "its bits must be"),
        ("palette:colours=4", {"bits": 3}, {}, "need 48 bytes"),
        ("palette:colours=4", {}, {".colours": torch.zeros(2, 2, 3)}, "more colours than the 2"),
        ("palette:colours=4", {}, {".colours": torch.zeros(2, 4, 3, dtype=torch.int64)}, "does not write"),
        ("palette:colours=4", {}, {"": torch.zeros(32)}, "does not write"),
        ("patches:groups=3", {"shape": [128, 3]}, {}, "patches are of pictures"),
        ("patches:groups=3", {"side": 0}, {}, "its side must be"),
        ("patches:groups=3", {"side": 2}, {}, "need 8 bytes"),
        ("patches:groups=3", {"group_bits": 9}, {}, "its group_bits must be"),
        ("patches:groups=3", {"group_bits": 1}, {}, "need as many ranges"),
        ("patches:groups=3", {}, {".low": torch.zeros(2).half()}, "need as many ranges"),
        ("patches:groups=3", {}, {".low": torch.zeros(2).half(), ".step": torch.ones(2).half()}, "more groups than"),
        ("patches:groups=3", {}, {".group": torch.zeros(9)}, "does not write"),
        ("patches:groups=3", {"shape": [2**20, 3, 8, 8]}, {}, "need"),
        ("apot", {"bits": 4}, {}, "need 192 bytes"),
        ("apot", {}, {".levels": torch.zeros(2)}, "more levels than"),
    ],
)
def test_what_contradicts_itself_is_refused(
    spelled: str, change: dict[str, object], tensors: dict[str, Tensor], said: str
) -> None:
    kept = parse_codec(spelled).pack(X)
    assert decode(kept).shape == X.shape
    with pytest.raises(PotstillError, match=said):
        decode(Encoded({**kept.tensors, **tensors}, {**kept.metadata, **change}))


@pytest.mark.parametrize(
    ("spelled", "said"),
    [
        ("apot:bits=5", "bits must be 2, 3 or 4"), ("apot:labels=0", "labels must be"),
        ("palette:colours=1", "colours must be"), ("palette:colours=257", "colours must be"),
        ("patches:bits=9", "bits must be"), ("patches:side=0", "side must be"), ("patches:groups=257", "groups must"),
    ],
)  # fmt: skip
def test_settings_out_of_range_are_refused(spelled: str, said: str) -> None:
    with pytest.raises(PotstillError, match=said):
        parse_codec(spelled)


@pytest.mark.parametrize("spelled", ["palette", "patches"])
def test_only_pictures_have_colours_and_patches(spelled: str) -> None:
    with pytest.raises(PotstillError, match=r"needs pictures .* \[9, 30\]"):
        parse_codec(spelled).pack(torch.rand(9, 30))
