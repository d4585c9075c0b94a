"""Codec ``columns``: by hand, in its bounds, beside equal steps, and broken."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from potstill.codecs import decode, encoded_bytes, format_codec, parse_codec
from potstill.codecs.bitstream import compress_encoded, is_compressed
from potstill.codecs.columns import Columns
from potstill.core import Encoded
from potstill.errors import PotstillError
from potstill.functional.packing import unpack_bits


def table(n: int = 300, seed: int = 0) -> Tensor:
    """A category of five, ages, a long tail, a normal column, a flag, and a constant."""
    draw = np.random.default_rng(seed)
    columns = [
        np.eye(5)[draw.integers(0, 5, n)], draw.integers(17, 90, (n, 1)), np.exp(draw.normal(8, 2, (n, 1))),
        draw.normal(size=(n, 1)), draw.integers(0, 2, (n, 1)), np.full((n, 1), 3.5),
    ]  # fmt: skip
    return torch.tensor(np.concatenate(columns, 1), dtype=torch.float32)


def test_golden() -> None:
    x = torch.tensor([[1.0, 0, 0, 17, 0.5], [0, 1, 0, 19, 1.5], [0, 0, 1, 23, 1.0], [1, 0, 0, 31, 0.5]])
    kept = Columns(bits=3).pack(x)
    assert kept.metadata == {"codec": "columns", "shape": [4, 5], "bits": 3, "columns": 3}
    assert kept.tensors[".width"].tolist() == [3, 1, 1]
    assert kept.tensors[".low"].tolist() == [17, 0.5]
    assert kept.tensors[".step"].tolist() == [2, 0.5]
    assert kept.tensors[".low"].dtype == torch.float16
    assert torch.equal(decode(kept), x)
    assert unpack_bits(kept.tensors[""], 3, 12).tolist() == [0, 0, 0, 1, 1, 2, 2, 3, 1, 0, 7, 0]
    assert kept.tensors[".group"].tolist() == [0, 1]
    assert encoded_bytes(kept) == 5 + 2 * 2 * 2 + 3 * 2 + 2


def test_categories_whole_numbers_and_constants_lose_nothing() -> None:
    x = table()
    read = decode(Columns(bits=7).pack(x))
    lossless = [0, 1, 2, 3, 4, 5, 8, 9]
    assert torch.equal(read[:, lossless], x[:, lossless])
    few = Columns(bits=2).pack(x)
    assert torch.equal(decode(few)[:, [0, 1, 2, 3, 4, 8, 9]], x[:, [0, 1, 2, 3, 4, 8, 9]]), "a category is no number"


@pytest.mark.parametrize("bits", [1, 2, 4, 6])
def test_levels_are_those_of_the_definition(bits: int) -> None:
    """Naive: every value goes to its nearest level, column by column."""
    x = table()
    kept = Columns(bits=bits).pack(x)
    read = decode(kept)
    low, step = (kept.tensors[name].double().numpy() for name in (".low", ".step"))
    bent = dict(zip(kept.tensors[".bent"].tolist(), range(9), strict=False)) if ".bent" in kept.tensors else {}
    for number, column in zip(kept.tensors[".group"].tolist(), (5, 6, 7, 8, 9), strict=True):
        for row in range(0, 300, 37):
            value = float(x[row, column])
            levels = [low[number] + step[number] * q for q in range(1 << bits)]
            if number in bent:
                centre, scale = (float(kept.tensors[name][bent[number]]) for name in (".centre", ".scale"))
                at = min(levels, key=lambda level: abs(level - np.arcsinh((value - centre) / scale)))
                expected = centre + scale * np.sinh(at)
            else:
                expected = min(levels, key=lambda level: abs(level - value))
            assert float(read[row, column]) == pytest.approx(expected, rel=1e-5)


def test_a_long_tail_keeps_its_order_where_equal_steps_lose_it() -> None:
    x = table()
    typed, even = decode(Columns(bits=4).pack(x)), decode(parse_codec("uint4").pack(x))
    most = [float(read[:, 6].unique(return_counts=True)[1].max()) / len(x) for read in (typed, even)]
    assert most[0] < 0.25
    assert most[1] > 0.5


@given(st.integers(1, 40), st.integers(1, 6), st.integers(1, 12), st.integers(0, 10_000))
@settings(max_examples=60, deadline=None)
def test_every_value_is_read_within_its_column_or_the_scale_it_shares(n: int, d: int, bits: int, seed: int) -> None:
    draw = np.random.default_rng(seed)
    scale = 10.0 ** draw.integers(-3, 6, d)
    x = torch.tensor(draw.normal(size=(n, d)) * scale + draw.normal(size=d) * scale, dtype=torch.float32)
    kept = Columns(bits=bits).pack(x)
    read = decode(kept)
    spread = (x.amax(0) - x.amin(0)).clamp_min(1e-9)
    assert (read >= x.amin(0) - 0.35 * spread).all()
    assert (read <= x.amax(0) + 0.35 * spread).all()
    if bits == 12 and ".bent" not in kept.tensors:
        assert ((read - x).abs() <= spread / 2000).all()
    streamed = compress_encoded(kept, [n])
    assert torch.equal(decode(streamed), read)


def test_columns_alike_share_a_scale() -> None:
    draw = np.random.default_rng(0)
    x = torch.tensor(draw.integers(0, 16, (200, 9)), dtype=torch.float32)
    kept = Columns(bits=4).pack(x)
    assert kept.tensors[".low"].tolist() == [0]
    assert ".group" not in kept.tensors
    assert torch.equal(decode(kept), x)
    rough = torch.tensor(draw.normal(size=(300, 6)), dtype=torch.float32)
    alike, wide = Columns(bits=3).pack(rough), Columns(bits=3).pack(rough * torch.tensor([1, 1, 1, 9, 9, 9.0]))
    assert len(alike.tensors[".low"]) < len(wide.tensors[".low"]) < 6
    for kept, values in ((alike, rough), (wide, rough * torch.tensor([1, 1, 1, 9, 9, 9.0]))):
        assert ((decode(kept) - values).abs().amax(0) <= 1.4 * (values.amax(0) - values.amin(0)) / 14).all()


def test_streams_are_smaller_and_read_alike() -> None:
    kept = Columns(bits=4).pack(table(600))
    streamed = compress_encoded(kept, [600])
    assert is_compressed(streamed)
    assert encoded_bytes(streamed) < 0.8 * encoded_bytes(kept)
    assert torch.equal(decode(streamed), decode(kept))


def test_no_rows_and_no_columns() -> None:
    for shape in ((0, 3), (3, 0)):
        assert decode(Columns().pack(torch.zeros(shape))).shape == shape


def test_its_name_and_bad_settings() -> None:
    assert format_codec(parse_codec("columns:bits=3")) == "columns:bits=3"
    assert parse_codec("columns").coarser().bits == 3  # type: ignore[attr-defined]
    for spelled in ("columns:bits=0", "columns:bits=13", "columns:labels=17"):
        with pytest.raises(PotstillError, match="columns: "):
            parse_codec(spelled)
    with pytest.raises(PotstillError, match=r"columns needs a table"):
        Columns().pack(torch.zeros(2, 1, 4, 4))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({".width": torch.tensor([4, 1, 1, 1, 1, 1], dtype=torch.int16)}, "columns must be"),
        ({".width": torch.tensor([5, 0, 2, 1, 1, 1], dtype=torch.int16)}, "columns must be"),
        ({".low": torch.zeros(3)}, "step tensor"),
        ({".group": torch.full((5,), 9, dtype=torch.uint8)}, "one of the"),
        ({".low": torch.zeros(0), ".step": torch.zeros(0)}, "one of the"),
        ({".step": None}, "step tensor"),
        ({".bent": torch.tensor([7], dtype=torch.int16)}, "bent"),
        ({".centre": None}, "centre tensor"),
        ({"": None}, "values tensor"),
    ],
)
def test_broken_tensors_are_refused(changed: dict[str, Any], message: str) -> None:
    kept = Columns(bits=4).pack(table())
    tensors = {name: t for name, t in {**kept.tensors, **changed}.items() if t is not None}
    with pytest.raises(PotstillError, match=message):
        decode(Encoded(tensors, kept.metadata))


def test_a_category_beyond_its_column_is_refused() -> None:
    kept = Columns(bits=4).pack(table())
    broken = Encoded({**kept.tensors, "": torch.full_like(kept.tensors[""], 255)}, kept.metadata)
    with pytest.raises(PotstillError, match="more categories"):
        decode(broken)
