"""Entropy-coded sizes are lengths of bytes that decode again."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from potstill.codecs import encoded_bytes, parse_codec
from potstill.codecs.entropy import compress_tensor, decompress_tensor, entropy_coded_bytes
from potstill.core import Encoded
from potstill.rng import generator

RNG = "coded"


def back(tensor: Tensor, bits: int | None) -> Tensor:
    way, coded = compress_tensor(tensor, bits)
    return decompress_tensor(way, coded, torch.empty_like(tensor), bits)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 16), st.integers(1, 300), st.integers(0, 99), st.booleans())
def test_codes_come_back(bits: int, n: int, seed: int, flat: bool) -> None:
    x = torch.rand(n, 3, generator=generator(seed, RNG)) ** (9 if flat else 1)
    kept = parse_codec(f"uint{bits}").pack(x)
    for suffix, t in kept.tensors.items():
        assert torch.equal(back(t, bits if suffix == "" else None), t)
    assert (entropy_coded_bytes(kept) or 0) <= encoded_bytes(kept)


@pytest.mark.parametrize("spelled", ["float32", "float16", "exact", "half:bits=3", "uint12"])
def test_numbers_come_back_and_take_no_more(spelled: str) -> None:
    x = torch.rand(6, 1, 9, 7, generator=generator(1, RNG)).cumsum(0) / 6
    kept = parse_codec(spelled).pack(x)
    for suffix, t in kept.tensors.items():
        bits = kept.metadata.get("bits") or kept.metadata.get("within", {}).get("bits")
        assert torch.equal(back(t, bits if suffix == "" else None), t)
    assert 0 < (entropy_coded_bytes(kept) or 0) <= encoded_bytes(kept)


def test_what_repeats_gets_small_and_noise_does_not() -> None:
    noise = torch.randint(0, 16, (4000,), generator=generator(2, RNG)).float()
    kept = parse_codec("uint4").pack(noise)
    assert 0.99 * encoded_bytes(kept) < (entropy_coded_bytes(kept) or 0) <= encoded_bytes(kept)
    again = parse_codec("uint4").pack(torch.arange(4000.0) % 16)
    assert (entropy_coded_bytes(again) or 0) < 0.02 * encoded_bytes(again)
    # A biased coin comes near its entropy: 0.47 bits a toss. LZMA learns as it goes, so it takes a little more.
    coin = parse_codec("uint1").pack((torch.rand(80_000, generator=generator(3, RNG)) < 0.1).float())
    entropy = -(0.1 * math.log2(0.1) + 0.9 * math.log2(0.9)) * 80_000 / 8
    assert 0.97 * entropy < (entropy_coded_bytes(coin) or 0) < 1.15 * entropy


def test_it_is_the_same_each_time_and_nothing_is_lost_when_empty() -> None:
    kept = parse_codec("uint4").pack(torch.rand(50, 20, generator=generator(4, RNG)))
    assert entropy_coded_bytes(kept) == entropy_coded_bytes(kept)
    assert entropy_coded_bytes(Encoded({"": torch.zeros(0)}, {"codec": "float", "shape": [0]})) == 0
    assert entropy_coded_bytes(Encoded({}, {})) == 0


def test_large_ones_are_left_alone() -> None:
    large = Encoded({"": torch.zeros(1 << 23 | 1)}, {"codec": "float", "shape": [1 << 23 | 1]})
    assert entropy_coded_bytes(large) is None
