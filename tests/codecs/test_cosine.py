"""Codec ``cosine``: by hand, naively, in the file's bounds, and broken."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from potstill.codecs import decode, encoded_bytes, format_codec, parse_codec
from potstill.codecs.bitstream import compress_encoded, is_compressed
from potstill.codecs.cosine import Cosine
from potstill.core import Encoded
from potstill.errors import PotstillError
from potstill.functional.transforms import low_frequencies
from potstill.rng import generator

SHAPES = st.tuples(st.integers(1, 4), st.sampled_from([1, 2, 3]), st.integers(1, 12), st.integers(1, 12))


def pictures(shape: tuple[int, ...], seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=generator(seed, "cosine")).cumsum(-1).mul(0.2).clamp(0, 1)


def naive(x: Tensor, positions: int, width: float) -> Tensor:
    """One picture of one channel after another, by the sums that define the transform, in float64."""
    n, c, h, w = x.shape
    mean = x.double().mean((0, 2, 3)).half().double()
    read = torch.zeros(n, c, h, w, dtype=torch.float64)
    turn = torch.eye(c, dtype=torch.float64)
    if c == 3:
        turn = torch.tensor([[1.0, 1, 1], [1, 0, -1], [1, -2, 1]], dtype=torch.float64)
        turn = turn / turn.norm(dim=1, keepdim=True)
    order = sorted((u / h + v / w, u * w + v) for u in range(h) for v in range(w))[:positions]
    for i in range(n):
        turned = torch.einsum("dc,chw->dhw", turn, x[i].double() - mean[:, None, None])
        for d in range(c):
            step = width * (2 if c == 3 and d else 1)
            for _, at in order:
                u, v = divmod(at, w)
                wave = torch.tensor([
                    [math.cos(math.pi * (a + 0.5) * u / h) * math.cos(math.pi * (b + 0.5) * v / w) for b in range(w)]
                    for a in range(h)
                ], dtype=torch.float64)  # fmt: skip
                wave = wave * math.sqrt((2 if u else 1) / h * (2 if v else 1) / w)
                q = round(float((turned[d] * wave).sum()) / step)
                read[i] += turn[d][:, None, None] * (q * step * wave)
    return read + mean[:, None, None]


@pytest.mark.parametrize("shape", [(2, 1, 6, 5), (2, 3, 4, 6)])
def test_it_is_the_rounded_transform(shape: tuple[int, ...]) -> None:
    x = pictures(shape, 3)
    read = decode(Cosine(positions=7, width=0.3).pack(x))
    torch.testing.assert_close(read.double(), naive(x, 7, 0.3), atol=1e-5, rtol=0)


def test_golden() -> None:
    x = torch.arange(16.0).reshape(1, 1, 4, 4) / 16
    kept = Cosine(positions=3, width=0.25).pack(x)
    assert kept.metadata == {
        "codec": "cosine", "shape": [1, 1, 4, 4], "bits": 3, "least": -4, "positions": 3,
    }  # fmt: skip
    # -4 steps down, -1 step to the right of a ramp whose mean is taken off
    assert kept.tensors[""].numel() == 2
    assert float(kept.tensors[".mean"]) == float(x.mean())
    read = decode(kept)
    assert read[0, 0, 0, 0] < read[0, 0, 0, 3] < read[0, 0, 3, 3]


@given(SHAPES, st.integers(1, 200), st.floats(0.01, 4), st.integers(0, 50))
@settings(max_examples=60, deadline=None)
def test_a_finer_step_and_all_positions_lose_less_than_the_step(
    shape: tuple[int, ...], positions: int, width: float, seed: int
) -> None:
    x = pictures(shape, seed)
    kept = Cosine(positions=positions, width=width).pack(x)
    read = decode(kept)
    assert read.shape == x.shape
    again = decode(compress_encoded(kept, [len(x)]))
    assert torch.equal(again, read)
    whole = decode(Cosine(positions=shape[2] * shape[3], width=width).pack(x))
    step = width * (2 if shape[1] == 3 else 1)
    # every coefficient is at most half a step off, and the transform keeps lengths
    most = step / 2 * math.sqrt(shape[1] * shape[2] * shape[3])
    assert float((whole - x).flatten(1).norm(dim=1).max()) <= most + 1e-3
    if positions >= shape[2] * shape[3]:
        assert torch.equal(read, whole)


def test_codes_become_a_stream_of_columns() -> None:
    x = pictures((40, 3, 16, 16))
    kept = Cosine(positions=16).pack(x)
    coded = compress_encoded(kept, [20, 20])
    assert is_compressed(coded)
    assert coded.metadata["stream"][""] == "columns"
    assert encoded_bytes(coded) < 0.8 * encoded_bytes(kept)


def test_lowest_frequencies_come_first() -> None:
    assert low_frequencies(2, 2).tolist() == [0, 1, 2, 3]
    assert low_frequencies(4, 2).tolist() == [0, 2, 1, 4, 3, 6, 5, 7]


def test_settings_come_back() -> None:
    assert format_codec(parse_codec("cosine:positions=16,width=0.25")) == "cosine:positions=16,width=0.25"
    assert parse_codec("cosine").label_bits == 4


@pytest.mark.parametrize("spelled", ["cosine:positions=0", "cosine:width=0", "cosine:width=inf", "cosine:labels=17"])
def test_out_of_range_is_refused(spelled: str) -> None:
    with pytest.raises(PotstillError, match="cosine: "):
        parse_codec(spelled)


@pytest.mark.parametrize("value", [1e6, math.inf, math.nan])
def test_values_without_a_mean_colour_are_refused(value: float) -> None:
    """They were written as codes of 63 bits, or as a file that no reader took."""
    with pytest.raises(PotstillError, match="cosine holds mean colours up to 65,504, but values reach"):
        Cosine(positions=4).pack(torch.full((2, 1, 8, 8), value))


def test_other_than_pictures_are_refused() -> None:
    with pytest.raises(PotstillError, match=r"cosine needs pictures"):
        Cosine().pack(torch.zeros(3, 4))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"positions": 0}, "positions"),
        ({"positions": 37}, "positions"),
        ({"positions": 9}, "bytes|codes"),
        ({"least": "0"}, "least"),
        ({"shape": [2, 1, 6]}, "pictures"),
        ({"shape": [2, 2, 6, 6]}, "mean|values"),
        ({"shape": [9, 1, 6, 6]}, "bytes|codes"),
    ],
)
def test_what_contradicts_itself_is_refused(change: dict[str, Any], said: str) -> None:
    kept = Cosine(positions=8).pack(pictures((2, 1, 6, 6)))
    with pytest.raises(PotstillError, match=said):
        decode(Encoded(kept.tensors, {**kept.metadata, **change}))


@pytest.mark.parametrize("lost", ["", ".step", ".mean"])
def test_a_missing_tensor_is_refused(lost: str) -> None:
    kept = Cosine(positions=8).pack(pictures((2, 1, 6, 6)))
    with pytest.raises(PotstillError, match="missing"):
        decode(Encoded({name: t for name, t in kept.tensors.items() if name != lost}, kept.metadata))
