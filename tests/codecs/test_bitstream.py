"""Arithmetic-coded streams: lossless, equal in C and Python, near the ideal length, and safe to read."""

import hashlib
import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from potstill.codecs import decode, encode_classes, encode_ints, encode_probabilities, encoded_bytes, parse_codec
from potstill.codecs.bitstream import (
    LAYOUTS,
    compress_encoded,
    decode_codes,
    encode_codes,
    expand_encoded,
    is_compressed,
    stream,
)
from potstill.codecs.bitstream.layouts import COLUMNS, PICTURE, SEQUENCE, SORTED, Feature, Layout
from potstill.codecs.bitstream.tables import coder_tables, log2_table
from potstill.core import Encoded
from potstill.errors import PotstillError
from potstill.native import has_kernel
from potstill.rng import generator

Codes = NDArray[np.int64]
RNG = "bitstream"
ROOM = 1 << 20


def smooth(shape: tuple[int, ...], bits: int, seed: int) -> Codes:
    """Codes that resemble their neighbours."""
    x = torch.randn(shape, generator=generator(seed, RNG)).cumsum(-1)
    x = (x - x.min()) / (x.max() - x.min()).clamp_min(1e-6)
    return (x * ((1 << bits) - 1)).round().long().numpy()


def golden() -> Iterator[tuple[str, Codes, int, Layout, tuple[int, ...]]]:
    """One small case for each layout, made by whole numbers alone."""
    place = np.arange(6 * 2 * 9 * 7).reshape(6, 2, 9, 7)
    yield "picture", place * place // 7 % 13 % 4, 2, PICTURE, (2, 4)
    yield "coarse", place * place // 7 % 251, 8, PICTURE, (3, 3)
    yield "grey", (place * place // 7 % 13 % 4)[:, :1], 2, PICTURE, (2, 4)
    rows = np.arange(40 * 5).reshape(40, 5)
    yield "columns", (rows * rows // 11 % 17) * 3 % 32, 5, COLUMNS, (30, 10)
    yield "folded", (rows * rows % 7 % 3) + 20, 6, COLUMNS, ()
    yield "sequence", np.arange(300) ** 2 % 19 % 8, 3, SEQUENCE, ()
    yield "sorted", np.arange(100) ** 2 // 3, 12, SORTED, ()


CASES = tuple(golden())
GOLDEN = {
    "picture": (103, "2fbd74679ec5"),
    "coarse": (694, "e9eac1b73e70"),
    "grey": (63, "2045c7cc7d47"),
    "columns": (118, "10406c976b6f"),
    "folded": (16, "729d3b472d85"),
    "sequence": (17, "63694cbe8cc6"),
    "sorted": (46, "ca39704508b7"),
}
"""Bytes of each stream, and the first digits of their SHA-256."""


@pytest.fixture
def twin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The coder in Python."""
    with monkeypatch.context() as patched:
        patched.setattr(stream, "has_kernel", lambda name: False)
        yield


def coded(codes: Codes, bits: int, layout: Layout, groups: tuple[int, ...] = ()) -> bytes:
    found = encode_codes(codes, bits, layout, groups, ROOM)
    assert found is not None
    return found


@pytest.mark.parametrize("case", CASES, ids=lambda case: case[0])
def test_bytes_of_small_streams_never_change(case: tuple[str, Codes, int, Layout, tuple[int, ...]]) -> None:
    name, codes, bits, layout, groups = case
    found = coded(codes, bits, layout, groups)
    assert (len(found), hashlib.sha256(found).hexdigest()[:12]) == GOLDEN[name]
    assert np.array_equal(decode_codes(found, codes.shape, bits, layout), codes)


@pytest.mark.usefixtures("twin")
@pytest.mark.parametrize("case", CASES, ids=lambda case: case[0])
def test_the_twin_writes_and_reads_the_same_bytes(case: tuple[str, Codes, int, Layout, tuple[int, ...]]) -> None:
    name, codes, bits, layout, groups = case
    found = coded(codes, bits, layout, groups)
    assert (len(found), hashlib.sha256(found).hexdigest()[:12]) == GOLDEN[name]
    assert np.array_equal(decode_codes(found, codes.shape, bits, layout), codes)


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(sorted(LAYOUTS)), st.integers(1, 16), st.lists(st.integers(1, 6), min_size=1, max_size=5),
    st.integers(0, 99), st.booleans(),
)  # fmt: skip
def test_codes_of_every_layout_and_shape_come_back(
    name: str, bits: int, shape: list[int], seed: int, noise: bool
) -> None:
    codes = smooth(tuple(shape), bits, seed)
    if noise:
        codes = torch.randint(0, 1 << bits, shape, generator=generator(seed, RNG)).numpy()
    codes = np.sort(codes, -1) if name == "sorted" else codes
    found = encode_codes(codes, bits, LAYOUTS[name], [shape[0]], ROOM)
    if found is None:
        assert LAYOUTS[name].plane(tuple(shape)) is None
    else:
        assert np.array_equal(decode_codes(found, tuple(shape), bits, LAYOUTS[name]), codes)


@settings(max_examples=4, deadline=None)
@given(st.integers(1, 16), st.sampled_from([(3, 1, 4, 5), (2, 3, 3, 3), (9, 4), (4, 2, 3), (17,)]), st.integers(0, 99))
def test_the_twin_agrees_for_all_bits(bits: int, shape: tuple[int, ...], seed: int) -> None:
    if not has_kernel("coder"):
        pytest.skip("there is no C compiler")
    codes = smooth(shape, bits, seed)
    layout = PICTURE if len(shape) == 4 else COLUMNS if len(shape) > 1 else SEQUENCE
    native = coded(codes, bits, layout)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(stream, "has_kernel", lambda name: False)
        assert coded(codes, bits, layout) == native
        assert np.array_equal(decode_codes(native, shape, bits, layout), codes)


@pytest.mark.parametrize("bits", [3, 8, 12])
@pytest.mark.parametrize("shape", [(5, 2, 6, 7), (40, 9)])
def test_many_codes_take_one_context_each(bits: int, shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "MOST_MIXED", 100)
    codes, layout = smooth(shape, bits, 3), PICTURE if len(shape) == 4 else COLUMNS
    found = coded(codes, bits, layout)
    assert found[0] & 7 == 2
    assert np.array_equal(decode_codes(found, shape, bits, layout), codes)
    monkeypatch.setattr(stream, "has_kernel", lambda name: False)
    assert coded(codes, bits, layout) == found
    assert np.array_equal(decode_codes(found, shape, bits, layout), codes)


def test_long_sequences_are_coded() -> None:
    text = torch.tensor(list(b"texts of many letters have few of them, " * 6600))  # 264,000: more than one picture's
    coded = compress_encoded(encode_ints(text))
    assert encoded_bytes(coded) < 2000  # packed: 231,000
    assert torch.equal(decode(coded).long(), text)


def test_what_is_remembered_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    codes = np.arange(300) % 7
    mixed = encode_codes(codes, 3, SEQUENCE)
    monkeypatch.setattr(stream, "_REMEMBERED", 100)
    fast = encode_codes(codes, 3, SEQUENCE, room=1000)
    assert mixed is not None
    assert fast is not None
    assert fast != mixed
    assert np.array_equal(decode_codes(fast, (300,), 3, SEQUENCE), codes)
    with pytest.raises(PotstillError):
        decode_codes(mixed, (300,), 3, SEQUENCE)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case[0])
def test_streams_have_the_length_that_their_probabilities_say(
    case: tuple[str, Codes, int, Layout, tuple[int, ...]],
) -> None:
    _, codes, bits, layout, groups = case
    found = coded(codes, bits, layout, groups)
    used: list[int] = []
    plane = layout.plane(codes.shape)
    assert plane is not None
    values = np.zeros(codes.size, np.int32)
    assert stream._code(found, values, plane, bits, layout, found, np.zeros(1, np.uint8), used.append) is not None
    ideal = -sum(math.log2(p / 65536) for p in used) / 8
    assert ideal - 1 <= len(found) <= 1.01 * ideal + 12  # the head, and the last byte


def test_tables_are_those_of_the_formulas() -> None:
    tables = coder_tables().tolist()
    for x in range(-2816, 2816, 7):
        assert abs(tables[x + 2816] - min(65535, max(1, 65536 / (1 + math.exp(-x / 256))))) <= 0.501
    for p in range(0, 4096, 5):
        logit = 256 * math.log((p + 0.5) / (4095.5 - p))
        assert abs(tables[5632 + p] - min(2047, max(-2047, logit))) <= 6
    assert tables[9728 : 9728 + 3] == [43691, 26214, 18725]
    weighed = log2_table(300)
    assert all(abs(int(weighed[n]) - 256 * n * math.log2(n)) <= 1 + n / 12 for n in range(1, 301))


def test_features_are_numbered_without_gaps() -> None:
    assert sorted(Feature) == list(range(50))
    for layout in LAYOUTS.values():
        for lists in (layout.fine, layout.coarse, layout.bands, layout.folded):
            assert len(lists) <= 15


SPELLED = [
    "exact", "float32", "float16", "uint1", "uint4", "uint12", "half:bits=2", "half:bits=4,factor=4",
    "palette:colours=4", "palette:colours=4,shared=True", "patches:bits=2", "mosaic:kind=png",
]  # fmt: skip


@pytest.mark.parametrize("spelled", SPELLED)
@pytest.mark.parametrize("shape", [(0, 1, 8, 8), (1, 1, 1, 1), (12, 1, 8, 8), (30, 3, 12, 8)])
def test_every_codec_decodes_to_the_same_bits(spelled: str, shape: tuple[int, ...]) -> None:
    x = torch.rand(shape, generator=generator(1, RNG)).cumsum(-1) / max(1, shape[-1])
    try:
        packed = parse_codec(spelled).pack(x)
    except (PotstillError, RuntimeError, ValueError, IndexError, ZeroDivisionError):
        pytest.skip("this codec does not write such pictures")
    found = compress_encoded(packed, [shape[0] // 3] * 3)
    assert encoded_bytes(found) <= encoded_bytes(packed)
    assert torch.equal(decode(found), decode(packed))
    again = expand_encoded(found)
    assert again.metadata == packed.metadata
    assert all(torch.equal(t, again.tensors[suffix]) for suffix, t in packed.tensors.items())
    assert compress_encoded(found) is found


def test_whole_numbers_classes_and_probabilities_are_coded() -> None:
    rng = generator(2, RNG)
    index = torch.randperm(60000, generator=rng)[:200].sort().values
    wide = torch.randint(0, 2**20, (500,), generator=rng) // 2**14 * 2**14
    rows = torch.softmax(4 * torch.randn(100, 10, generator=rng), 1)
    classes = (torch.rand(2000, generator=rng) < 0.1).long()
    for packed in (
        encode_ints(index), encode_ints(wide), encode_probabilities(rows, 8), encode_classes(classes, 2),
    ):  # fmt: skip
        found = compress_encoded(packed)
        assert is_compressed(found)
        assert encoded_bytes(found) < 0.9 * encoded_bytes(packed)
        assert torch.equal(decode(found), decode(packed))
    assert not is_compressed(compress_encoded(encode_classes(torch.arange(10).repeat_interleave(5), 10)))


def test_noise_stays_packed_and_a_biased_coin_comes_near_its_entropy() -> None:
    noise = torch.randint(0, 16, (4000,), generator=generator(2, RNG))
    assert not is_compressed(compress_encoded(encode_ints(noise)))
    coin = encode_ints((torch.rand(80_000, generator=generator(3, RNG)) < 0.1).long())
    entropy = -(0.1 * math.log2(0.1) + 0.9 * math.log2(0.9)) * 80_000 / 8
    assert 0.97 * entropy < encoded_bytes(compress_encoded(coin)) < 1.03 * entropy


@pytest.mark.parametrize("seed", range(6))
def test_flipped_bits_are_refused_or_decode_to_codes_in_range(seed: int) -> None:
    rng = generator(seed, RNG)
    for _, codes, bits, layout, groups in CASES:
        found = bytearray(coded(codes, bits, layout, groups))
        at = int(torch.randint(len(found), (1,), generator=rng))
        found[at] ^= 1 << int(torch.randint(8, (1,), generator=rng))
        cut = bytes(found[: int(torch.randint(len(found), (1,), generator=rng))])
        for damaged in (bytes(found), cut, bytes(found) + b"x", b"", bytes(cut) * 2):
            try:
                read = decode_codes(damaged, codes.shape, bits, layout)
            except PotstillError:
                continue
            assert read.min() >= 0
            assert read.max() < 1 << bits


def test_damage_is_nearly_always_seen() -> None:
    rng, seen, tried = generator(9, RNG), 0, 0
    for _, codes, bits, layout, groups in CASES:
        found = coded(codes, bits, layout, groups)
        with pytest.raises(PotstillError, match="its stream of codes is damaged"):
            decode_codes(found + b"\0", codes.shape, bits, layout)
        for at in torch.randint(len(found), (12,), generator=rng).tolist():
            for damaged in (found[:at], found[:at] + bytes([found[at] ^ 16]) + found[at + 1 :]):
                tried += 1
                try:
                    decode_codes(damaged, codes.shape, bits, layout)
                except PotstillError:
                    seen += 1
    assert seen > 0.95 * tried


def test_sizes_are_checked_before_memory_is_taken() -> None:
    with pytest.raises(PotstillError, match="its stream must hold"):
        decode_codes(b"\0\0abc", (1 << 30, 4), 8, COLUMNS)
    with pytest.raises(PotstillError, match="its stream must hold"):
        decode_codes(b"\0\0abc", (2, 1 << 20), 8, COLUMNS)
    with pytest.raises(PotstillError, match="damaged"):
        decode_codes(b"\0\0", (1 << 14, 1 << 10), 8, COLUMNS)
    for head in (b"\0\7\1", b"\0" + b"\xff" * 12, b"\1" + b"\xff" * 9, b"\4\0" + b"\5" * 9, b"\7", b"\0\6\2\2\2"):
        with pytest.raises(PotstillError, match="damaged"):
            decode_codes(head + b"abcdefgh", (4, 3), 3, COLUMNS)


@pytest.mark.parametrize(
    ("streams", "match"),
    [
        (["picture"], "must name the layouts"), ({"": 3}, "must name the layouts"), ({".no": "picture"}, "must name"),
        ({"": "spiral"}, "has no stream 'spiral'"), ({"": "columns:float32:3"}, "does not know"),
        ({"": "sequence:float16:99999999"}, "does not know"),
        ({"": "sequence:float16:3000x3000"}, "its stream of numbers must hold"),
        ({"": "sorted"}, "damaged"),
    ],
)  # fmt: skip
def test_descriptions_of_streams_that_say_something_else_are_refused(streams: object, match: str) -> None:
    packed = parse_codec("uint4").pack(torch.rand(20, 1, 8, 8, generator=generator(5, RNG)).cumsum(-1))
    found = compress_encoded(packed)
    assert is_compressed(found)
    with pytest.raises(PotstillError, match=match):
        decode(Encoded(found.tensors, {**found.metadata, "stream": streams}))
    bad = found.tensors | {"": found.tensors[""].float()}
    with pytest.raises(PotstillError, match="must be one row of bytes"):
        decode(Encoded(bad, found.metadata))
