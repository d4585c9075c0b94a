"""Mosaics: every picture comes back from its place, lossless kinds lose nothing, and hostile files are refused."""

import io
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import AvifImagePlugin, Image, features
from torch import Tensor

from potstill.codecs import decode, encoded_bytes, parse_codec
from potstill.codecs import mosaic as module
from potstill.codecs.mosaic import Mosaic
from potstill.core import Encoded
from potstill.errors import PotstillError
from potstill.rng import generator

needs_avif = pytest.mark.skipif(not features.check("avif"), reason="this Pillow has no AVIF")
AVIF_WORST = pytest.param("avif", 0.06, marks=needs_avif)


def pictures(n: int, c: int, h: int, w: int, seed: int = 0) -> Tensor:
    rng = generator(seed, "mosaic")
    smooth = torch.rand(n, c, 3, 3, generator=rng)
    return torch.nn.functional.interpolate(smooth, size=(h, w), mode="bilinear", align_corners=True)


@settings(max_examples=40, deadline=None)
@given(
    n=st.integers(1, 9), c=st.sampled_from([1, 3]), h=st.integers(1, 9), w=st.integers(1, 9),
    kind=st.sampled_from(["png", "webp-lossless"]), columns=st.integers(0, 12), bits=st.sampled_from([1, 2, 4, 8]),
)  # fmt: skip
def test_lossless_kinds_give_the_bits_back(n: int, c: int, h: int, w: int, kind: str, columns: int, bits: int) -> None:
    parts = (1 << bits) - 1
    x = torch.randint(0, parts + 1, (n, c, h, w), generator=generator(n, "bits")).float() / parts
    kept = Mosaic(kind=kind, columns=columns, bits=bits).pack(x)
    torch.testing.assert_close(decode(kept), x, rtol=0, atol=1e-6)
    assert decode(kept).dtype == torch.float32


@pytest.mark.parametrize(
    ("kind", "worst"), [("png", 0.002), ("webp-lossless", 0.002), ("webp", 0.06), ("jpeg", 0.06), AVIF_WORST]
)
@pytest.mark.parametrize("c", [1, 3])
def test_every_picture_comes_back_from_its_place(kind: str, worst: float, c: int) -> None:
    x = pictures(7, c, 16, 24)
    x[:, :, 8:] = x[:, :, 8:].roll(3, 0)
    back = decode(Mosaic(kind=kind, quality=95).pack(x))
    assert back.shape == x.shape
    far = (back[:, None] - x[None]).square().mean((2, 3, 4))
    assert far.argmin(1).tolist() == list(range(7))
    assert float(far.diagonal().max()) ** 0.5 < worst


def test_one_header_for_all() -> None:
    """A naive reader: the picture at row r and column k is that of number r · columns + k."""
    x = (pictures(10, 1, 6, 5) * 255).round() / 255
    kept = Mosaic(columns=4).pack(x)
    whole = torch.from_numpy(np.array(Image.open(io.BytesIO(kept.tensors[""].numpy().tobytes()))))
    assert whole.shape == (18, 20)
    for i in range(10):
        r, k = divmod(i, 4)
        cell = whole[r * 6 : r * 6 + 6, k * 5 : k * 5 + 5].float() / 255
        assert torch.equal(cell, decode(kept)[i, 0])
    one_by_one = sum(encoded_bytes(Mosaic().pack(x[i : i + 1])) for i in range(10))
    assert encoded_bytes(kept) < one_by_one / 2


def test_lower_quality_takes_less() -> None:
    x = (pictures(16, 3, 16, 16) + 0.05 * torch.randn(16, 3, 16, 16, generator=generator(1, "noise"))).clamp(0, 1)
    for kind in ("webp", "jpeg", *(["avif"] if features.check("avif") else [])):
        assert encoded_bytes(Mosaic(kind=kind, quality=10).pack(x)) < encoded_bytes(
            Mosaic(kind=kind, quality=90).pack(x)
        )
    assert encoded_bytes(Mosaic(bits=2).pack(x)) < encoded_bytes(Mosaic().pack(x))


@needs_avif
@settings(max_examples=12, deadline=None)
@given(
    n=st.integers(1, 7), c=st.sampled_from([1, 3]), h=st.integers(1, 9), w=st.integers(1, 9),
    columns=st.integers(0, 8), bits=st.sampled_from([1, 4, 8]), quality=st.integers(1, 100),
)  # fmt: skip
def test_avif_of_every_size_is_read_back_alike_with_any_threads(
    n: int, c: int, h: int, w: int, columns: int, bits: int, quality: int
) -> None:
    x = pictures(n, c, h, w, seed=n)
    codec, found = Mosaic(kind="avif", columns=columns, bits=bits, quality=quality), list[tuple[bytes, Tensor]]()
    with pytest.MonkeyPatch.context() as patch:
        for threads in (1, 3):
            patch.setattr(AvifImagePlugin, "DEFAULT_MAX_THREADS", threads)
            kept = codec.pack(x)
            found.append((kept.tensors[""].numpy().tobytes(), decode(kept)))
    (bytes_1, back_1), (bytes_3, back_3) = found
    assert bytes_1 == bytes_3
    assert torch.equal(back_1, back_3)
    assert back_1.shape == x.shape
    assert 0 <= float(back_1.min()) <= float(back_1.max()) <= 1
    assert quality < 100 or float((back_1 - x).abs().max()) < 0.5 / ((1 << bits) - 1) + 0.05


@needs_avif
def test_a_large_avif_is_written_faster_and_read_back(monkeypatch: pytest.MonkeyPatch) -> None:
    x, given = pictures(4, 3, 16, 16), list[int]()
    save = AvifImagePlugin._save
    monkeypatch.setitem(
        Image.SAVE, "AVIF", lambda im, fp, name: (given.append(im.encoderinfo["speed"]), save(im, fp, name))
    )
    for least in (32 * 32 + 1, 32 * 32):
        monkeypatch.setattr(module, "_AVIF_LARGE", least)
        assert float((decode(Mosaic(kind="avif", quality=90).pack(x)) - x).abs().mean()) < 0.03
    assert given[0] < given[1]


@needs_avif
def test_avif_keeps_the_colours_of_small_pictures() -> None:
    """Stripes a pixel wide in colours of equal brightness: half the resolution of colour would leave one colour."""
    x = torch.zeros(4, 3, 8, 8)
    x[:, 0, :, ::2] = 1.0
    x[:, 1, :, 1::2] = 0.6
    back = decode(Mosaic(kind="avif", quality=90).pack(x))
    assert float((back - x).abs().mean()) < 0.05


@needs_avif
def test_damaged_avif_is_refused_or_other_pixels() -> None:
    kept = Mosaic(kind="avif").pack(pictures(4, 3, 6, 5))
    whole, rng, refused = kept.tensors[""], generator(3, "damage"), 0
    for n in range(300):
        blob = whole.clone()
        if n % 3 == 0:
            blob = blob[: int(torch.randint(0, len(whole), (), generator=rng))]
        else:
            blob[torch.randint(0, len(whole), (1 + n % 4,), generator=rng)] ^= int(
                torch.randint(1, 256, (), generator=rng)
            )
        try:
            assert decode(Encoded({"": blob}, kept.metadata)).shape == (4, 3, 6, 5)
        except PotstillError:
            refused += 1
    assert refused > 150


@pytest.mark.parametrize("kind", ["webp", "avif"])
def test_a_pillow_without_the_format_is_said(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    x = pictures(2, 1, 5, 5)
    kept = Mosaic(kind="avif").pack(x) if kind == "avif" and features.check("avif") else None
    check = features.check
    monkeypatch.setattr(module.features, "check", lambda name: name != kind and check(name))
    with pytest.raises(PotstillError, match=rf"mosaic: {kind.upper()} needs a Pillow .*, or take kind=jpeg"):
        Mosaic(kind=kind).pack(x)
    if kept is not None:
        with pytest.raises(PotstillError, match="mosaic: AVIF needs a Pillow that has it"):
            decode(kept)
    assert decode(Mosaic(kind="jpeg").pack(x)).shape == x.shape


@pytest.mark.parametrize(
    ("x", "said"),
    [
        (torch.rand(4, 30), r"needs pictures .* \[4, 30\]"),
        (torch.rand(2, 2, 5, 5), "1 or 3 channels"),
        (torch.rand(0, 1, 5, 5), "needs pictures"),
        (torch.rand(2, 1, 5, 5) * 3 - 1, r"values in \[0, 1\]"),
        (torch.full((1, 1, 2, 2), math.nan), r"values in \[0, 1\]"),
    ],
)
def test_what_is_no_picture_is_refused(x: Tensor, said: str) -> None:
    with pytest.raises(PotstillError, match=said):
        Mosaic().pack(x)


def test_too_many_pixels_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(PotstillError, match="16,383 pixels along a side"):
        Mosaic(kind="webp", columns=1).pack(torch.zeros(17000, 1, 1, 1))
    if features.check("avif"):
        with pytest.raises(PotstillError, match="32,768 pixels along a side"):
            Mosaic(kind="avif", columns=1).pack(torch.zeros(33000, 1, 1, 1))
    monkeypatch.setattr(module, "_MOST_PIXELS", 100)
    with pytest.raises(PotstillError, match="take fewer pictures"):
        Mosaic().pack(torch.zeros(2, 1, 8, 8))
    with pytest.raises(PotstillError, match="is refused"):
        decode(
            Encoded({"": torch.zeros(9, dtype=torch.uint8)}, {"codec": "mosaic", "shape": [2, 1, 8, 8], "columns": 2})
        )


def blob(kind: str, size: tuple[int, int], mode: str = "L", **more: object) -> Tensor:
    made = io.BytesIO()
    Image.new(mode, size).save(made, kind, **more)
    return torch.frombuffer(bytearray(made.getvalue()), dtype=torch.uint8)


def avif_hostile() -> list[tuple[Tensor, dict[str, object], str]]:
    two = {"save_all": True, "append_images": [Image.new("RGB", (10, 10), "red")]}
    return [
        (blob("AVIF", (12, 10), "RGB"), {}, "but it has 10 × 12"),
        (blob("AVIF", (10, 10), "RGBA"), {}, "not RGBA"),
        (blob("AVIF", (10, 10), "RGB", **two), {}, "in 2"),
        (blob("AVIF", (10, 10), "RGB")[:200], {}, "is not a PNG, WebP, JPEG or AVIF"),
    ]


AVIF_HOSTILE = avif_hostile() if features.check("avif") else []
GOOD = {"codec": "mosaic", "shape": [4, 1, 5, 5], "columns": 2}


@pytest.mark.parametrize(
    ("tensor", "change", "said"),
    [
        (blob("PNG", (10, 10)), {"columns": 5}, "its columns must be"),
        (blob("PNG", (10, 10)), {"columns": 4}, "must have 5 × 20 pixels"),
        (blob("PNG", (4000, 4000)), {}, "but it has 4000 × 4000"),
        (blob("PNG", (10, 10)), {"shape": [4, 2, 5, 5]}, "a mosaic holds pictures"),
        (blob("PNG", (10, 10)), {"shape": [0, 1, 5, 5]}, "a mosaic holds pictures"),
        (blob("PNG", (10, 10)), {"shape": [2**20, 3, 500, 500]}, "refused"),
        (blob("PNG", (10, 10), "RGBA"), {}, "not RGBA"),
        (blob("GIF", (10, 10)), {}, "is not a PNG, WebP, JPEG or AVIF"),
        (blob("TIFF", (10, 10)), {}, "is not a PNG, WebP, JPEG or AVIF"),
        (blob("PNG", (10, 10))[:40], {}, "is not a PNG, WebP, JPEG or AVIF"),
        (torch.zeros(40, dtype=torch.uint8), {}, "is not a PNG, WebP, JPEG or AVIF"),
        (blob("WEBP", (10, 10), "RGB", save_all=True, append_images=[Image.new("RGB", (10, 10), "red")]), {}, "in 2"),
        (torch.zeros(40), {}, "which its codec does not write"),
        *AVIF_HOSTILE,
    ],
)
def test_hostile_files_are_refused(tensor: Tensor, change: dict[str, object], said: str) -> None:
    with pytest.raises(PotstillError, match=said):
        decode(Encoded({"": tensor}, {**GOOD, **change}))
    assert decode(Encoded({"": blob("PNG", (10, 10))}, GOOD)).shape == (4, 1, 5, 5)


@pytest.mark.parametrize("spelled", ["mosaic:quality=0", "mosaic:bits=9", "mosaic:columns=-1", "mosaic:labels=17"])
def test_settings_out_of_range_are_refused(spelled: str) -> None:
    with pytest.raises(PotstillError, match="must be from"):
        parse_codec(spelled)
    with pytest.raises(PotstillError, match="kind of mosaic"):
        parse_codec("mosaic:kind=tiff")
