"""Lossless codecs and floats; encoding of whole numbers, classes and probabilities."""

from dataclasses import dataclass

import torch
from torch import Tensor

from potstill.core import Encoded
from potstill.errors import PotstillError
from potstill.functional.packing import MOST_BITS, pack_bits, packed_bytes

__all__ = ["Exact", "Float", "encode_classes", "encode_ints", "encode_probabilities"]

_PARTS = (1, 2, 3, 4, 7, 8, 15, 16, 31, 32, 63, 64, 127, 128, 255, 1023, 4095, 65535)
"""Grids of pixels: 2^b − 1 parts, or 2^b where values count from 0 to a power of two."""


@dataclass(frozen=True, kw_only=True)
class Float:
    """Floating-point values in 32 or 16 bits.

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
        """Encode ``x``.

        Raises:
            PotstillError: a value is beyond float16.
        """
        values = x.detach().cpu().to(torch.float32 if self.bits == 32 else torch.float16).contiguous()
        if not bool(torch.isfinite(values).all()) and bool(torch.isfinite(x).all()):
            raise PotstillError(
                f"float16 holds values up to 65,504, but these reach {float(x.abs().max()):g}; take float32"
            )
        return Encoded({"": values}, {"codec": "float", "shape": list(x.shape), "bits": self.bits})


@dataclass(frozen=True, kw_only=True)
class Exact:
    """The fewest bits that lose nothing: 8 for 8-bit pixels, 1 for black and white, else float32.

    The smallest of a grid of equal parts of [0, 1], numbered levels, float16 and float32 that gives the same bits back.
    """

    @property
    def label_bits(self) -> int:
        """Bits of a soft label's number: float32."""
        return 32

    def pack(self, x: Tensor, /) -> Encoded:
        """Encode ``x`` without loss."""
        x = x.detach().cpu().float().contiguous()
        candidates = [Float().pack(x)]
        if torch.equal(x.half().float(), x):
            candidates.append(Float(bits=16).pack(x))
        if (grid := _on_grid(x)) is not None:
            candidates.append(grid)
        if (numbered := _numbered(x)) is not None:
            candidates.append(numbered)
        return min(candidates, key=lambda e: sum(t.numel() * t.element_size() for t in e.tensors.values()))


def _on_grid(x: Tensor) -> Encoded | None:
    """Encode ``x`` on the coarsest grid that it lies on; ``None``: there is none."""
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
    """Encode ``x`` as indices of its distinct values; ``None``: they are too many."""
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
    """Encode whole numbers in the fewest bits of their range; beyond 16 bits as two halves.

    Raises:
        PotstillError: their range is 2^32 or more.
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
    """Encode int64 classes (n,): as counts if they are sorted and that is smaller, else each in few bits."""
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
    """Encode probabilities (n, k), rows that sum to 1, in ``bits`` up to 16, or above as float32.

    q = round(p / max p · (2^b − 1)); decoding divides a row by its sum, so no range is stored and no row is empty.
    """
    rows = rows.detach().cpu().float()
    if bits > MOST_BITS:
        return Float().pack(rows)
    top = rows.amax(1, keepdim=True).clamp_min(torch.finfo(torch.float32).tiny)
    q = (rows.double() / top.double() * ((1 << bits) - 1)).round().long()
    return Encoded({"": pack_bits(q.flatten(), bits)}, {"codec": "rows", "shape": list(rows.shape), "bits": bits})
