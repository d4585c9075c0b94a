"""Stores that lose nothing, or what floats of 16 bits lose; and how whole numbers, classes and rows are written."""

from dataclasses import dataclass

import torch
from torch import Tensor

from potstill.core import Encoded
from potstill.errors import PotstillError
from potstill.functional.packing import MOST_BITS, pack_bits, packed_bytes

__all__ = ["Exact", "Float", "encode_classes", "encode_ints", "encode_probabilities"]

_PARTS = (1, 2, 3, 4, 7, 8, 15, 16, 31, 32, 63, 64, 127, 128, 255, 1023, 4095, 65535)
"""Grids that pixels come on: 2^b − 1 parts, and 2^b of those that count from 0 to a power of two."""


@dataclass(frozen=True, kw_only=True)
class Float:
    """Floating numbers as they are, in 32 or 16 bits.

    Raises:
        PotstillError: another number of bits.
    """

    bits: int = 32
    """32, or 16."""

    def __post_init__(self) -> None:
        if self.bits not in (16, 32):
            raise PotstillError(f"floats are stored in 16 or 32 bits, not {self.bits}; take uint{self.bits} for codes")

    @property
    def label_bits(self) -> int:
        """Bits of a soft label's number."""
        return self.bits

    def pack(self, x: Tensor, /) -> Encoded:
        """``x`` in that many bits.

        Raises:
            PotstillError: a value is beyond what 16 bits hold.
        """
        kept = x.detach().cpu().to(torch.float32 if self.bits == 32 else torch.float16).contiguous()
        if not bool(torch.isfinite(kept).all()) and bool(torch.isfinite(x).all()):
            raise PotstillError(
                f"float16 holds values up to 65,504, but these reach {float(x.abs().max()):g}; take float32"
            )
        return Encoded({"": kept}, {"codec": "float", "shape": list(x.shape), "bits": self.bits})


@dataclass(frozen=True, kw_only=True)
class Exact:
    """In as few bits as lose nothing: pixels of 8 bits take 8, black and white takes 1, anything else float32.

    It is found by trying: a grid of equal parts between 0 and 1, then numbered levels, then floats of 16 bits, then of
    32; the first of those that gives the same bits back and takes the least.
    """

    @property
    def label_bits(self) -> int:
        """Bits of a soft label's number: they are kept as they are."""
        return 32

    def pack(self, x: Tensor, /) -> Encoded:
        """``x`` without a loss."""
        x = x.detach().cpu().float().contiguous()
        tried = [Float().pack(x)]
        if torch.equal(x.half().float(), x):
            tried.append(Float(bits=16).pack(x))
        if (grid := _on_grid(x)) is not None:
            tried.append(grid)
        if (numbered := _numbered(x)) is not None:
            tried.append(numbered)
        return min(tried, key=lambda s: sum(t.numel() * t.element_size() for t in s.tensors.values()))


def _on_grid(x: Tensor) -> Encoded | None:
    """``x`` on the coarsest grid that it lies on."""
    if x.numel() == 0 or float(x.min()) < 0 or float(x.max()) > 1:
        return None
    for parts in _PARTS:
        q = (x * parts).round()
        if torch.equal(q / parts, x) and not bool(((x == 0) & torch.signbit(x)).any()):
            bits = max(1, parts.bit_length())
            said = {"codec": "grid", "shape": list(x.shape), "bits": bits, "parts": parts}
            return Encoded({"": pack_bits(q.long().flatten(), bits)}, said)
    return None


def _numbered(x: Tensor) -> Encoded | None:
    """``x`` as numbers of the values that occur in it, where they are few."""
    head = x.flatten()[: 1 << 16]
    if x.numel() < 8 or len(torch.unique(head)) > min(1 << 12, x.numel() // 4):
        return None
    levels, q = torch.unique(x, return_inverse=True)
    bits = max(1, (len(levels) - 1).bit_length())
    if bits > MOST_BITS or packed_bytes(x.numel(), bits) + 4 * len(levels) >= 4 * x.numel():
        return None
    if not torch.equal(torch.signbit(levels[q]), torch.signbit(x)):
        return None
    said = {"codec": "levels", "shape": list(x.shape), "bits": bits}
    return Encoded({"": pack_bits(q.flatten(), bits), ".levels": levels}, said)


def encode_ints(values: Tensor) -> Encoded:
    """Whole numbers in as few bits as their range needs; beyond 16 bits as two halves in one row after another.

    Raises:
        PotstillError: they span 2^32 or more.
    """
    values = values.detach().cpu().long()
    least = int(values.min()) if values.numel() else 0
    span = (int(values.max()) - least if values.numel() else 0).bit_length()
    if span > 2 * MOST_BITS:
        raise PotstillError(f"whole numbers are stored in up to 32 bits, but these need {span}")
    rest = values - least
    if span > MOST_BITS:
        rest = torch.stack([rest & 0xFFFF, rest >> 16])
        bits = MOST_BITS
        said = {"codec": "halves", "shape": list(values.shape), "bits": bits, "least": least}
        return Encoded({"": pack_bits(rest.flatten(), bits)}, said)
    bits = max(1, span)
    said = {"codec": "ints", "shape": list(values.shape), "bits": bits, "least": least}
    return Encoded({"": pack_bits(rest.flatten(), bits)}, said)


def encode_classes(labels: Tensor, classes: int) -> Encoded:
    """int64 classes (n,): how many of each where they are sorted and that takes less, else each in few bits."""
    labels = labels.detach().cpu().long()
    each = encode_ints(labels)
    if len(labels) and bool((labels[1:] >= labels[:-1]).all()):
        counts = torch.bincount(labels, minlength=classes)
        most = int(counts.max())
        kind = torch.uint8 if most < 1 << 8 else torch.int16 if most < 1 << 15 else torch.int32
        runs = Encoded({"": counts.to(kind)}, {"codec": "runs", "shape": [len(labels)]})
        if runs.tensors[""].numel() * runs.tensors[""].element_size() < each.tensors[""].numel():
            return runs
    return each


def encode_probabilities(rows: Tensor, bits: int) -> Encoded:
    """Rows (n, k) of probabilities that sum to 1: as they are, or in codes of up to 16 bits.

    Codes are of parts of the row's largest: q = round(p / max p · (2^b − 1)), and reading divides a row by its sum. So
    no range is kept, and no row is empty.
    """
    rows = rows.detach().cpu().float()
    if bits > MOST_BITS:
        return Float().pack(rows)
    top = rows.amax(1, keepdim=True).clamp_min(torch.finfo(torch.float32).tiny)
    q = (rows.double() / top.double() * ((1 << bits) - 1)).round().long()
    return Encoded({"": pack_bits(q.flatten(), bits)}, {"codec": "rows", "shape": list(rows.shape), "bits": bits})
