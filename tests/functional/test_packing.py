"""Codes of few bits: the bytes that the format names, every number of bits, every length, and what is refused."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from potstill.functional.packing import pack_bits, packed_bytes, unpack_bits


def test_the_bytes_are_those_that_the_format_names() -> None:
    assert pack_bits(torch.tensor([1, 2, 15, 0]), 4).tolist() == [0x21, 0x0F]
    assert pack_bits(torch.tensor([3, 0, 1, 2]), 2).tolist() == [0x93]
    assert pack_bits(torch.tensor([1, 0, 1]), 1).tolist() == [0b101]
    assert pack_bits(torch.tensor([0x1234]), 16).tolist() == [0x34, 0x12]
    assert pack_bits(torch.tensor([7, 0, 5]), 3).tolist() == [0b01000111, 0b1]


@settings(deadline=None)
@given(st.integers(1, 16), st.data())
def test_what_is_packed_comes_back(bits: int, data: st.DataObject) -> None:
    codes = torch.tensor(data.draw(st.lists(st.integers(0, 2**bits - 1), max_size=70)), dtype=torch.int64)
    packed = pack_bits(codes, bits)
    assert packed.dtype == torch.uint8
    assert len(packed) == packed_bytes(len(codes), bits)
    naive = sum(int(c) << (bits * i) for i, c in enumerate(codes))
    assert bytes(packed.tolist()) == naive.to_bytes(len(packed), "little")
    assert torch.equal(unpack_bits(packed, bits, len(codes)), codes)


def test_longer_than_a_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("potstill.functional.packing._CHUNK", 16)
    codes = torch.arange(101) % 8
    packed = pack_bits(codes, 3)
    assert len(packed) == packed_bytes(101, 3)
    assert torch.equal(unpack_bits(packed, 3, 101), codes)


@pytest.mark.parametrize(
    ("what", "said"),
    [
        (lambda: pack_bits(torch.tensor([4]), 2), "codes must be in 0…3"),
        (lambda: pack_bits(torch.tensor([-1]), 2), "codes must be in 0…3"),
        (lambda: pack_bits(torch.tensor([1]), 0), "1 to 16 bits, not 0"),
        (lambda: unpack_bits(torch.zeros(2, dtype=torch.uint8), 4, 5), "need 3 bytes"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(what: object, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        what()  # type: ignore[operator]
