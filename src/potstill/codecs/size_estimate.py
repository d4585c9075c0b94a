"""Bytes of encoded values before they are written, for plans and size budgets."""

import math
from collections.abc import Callable
from typing import Protocol, runtime_checkable

from torch import Tensor

from potstill.codecs.container import encoded_bytes
from potstill.codecs.exact import Float
from potstill.codecs.uniform import Uniform, choose_range_axis
from potstill.core import Codec
from potstill.functional.packing import MOST_BITS, packed_bytes

__all__ = [
    "FixedSize",
    "PlannedBits",
    "bits_per_value",
    "estimate_bytes",
    "has_fixed_size",
    "index_bytes",
    "label_bytes",
    "largest_fitting",
]


@runtime_checkable
class FixedSize(Protocol):
    """A codec whose bytes depend on the shape alone."""

    def size(self, shape: tuple[int, ...], /) -> int:
        """Return the bytes of values of ``shape``.

        Raises:
            PotstillError: the codec cannot write such values.
        """
        ...


@runtime_checkable
class PlannedBits(Protocol):
    """A codec whose bytes are known once the values are: it says by how many bits to plan."""

    @property
    def planned_bits(self) -> float:
        """Bits of a value that a size budget is shared out by."""
        ...

    def coarser(self) -> Codec:
        """Return the codec that loses a little more, in fewer bytes."""
        ...


def has_fixed_size(codec: Codec) -> bool:
    """Return whether `estimate_bytes` is exact by the shape alone, but for ranges beyond float16."""
    return isinstance(codec, Float | Uniform | FixedSize)


def estimate_bytes(codec: Codec, shape: tuple[int, ...], sample: Tensor | None = None) -> int:
    """Return the bytes of values of ``shape``: exact where the shape alone decides.

    Args:
        sample: values of the same kind (m, …), for codecs whose bytes depend on them: of fewer than m rows the first
            are coded, of more their bytes are scaled.
    """
    count = math.prod(shape)
    if isinstance(codec, Float):
        return count * codec.bits // 8
    if isinstance(codec, Uniform):
        axis = choose_range_axis(shape, codec.bits)
        ranges = 1 if axis is None else shape[axis]
        return packed_bytes(count, codec.bits) + ranges * (4 if codec.bits <= 8 else 8)
    if isinstance(codec, FixedSize):
        return codec.size(shape)
    if isinstance(codec, PlannedBits):
        return math.ceil(count * codec.planned_bits / 8) + 4
    if sample is not None and sample.shape[1:] == shape[1:]:
        sample = sample[: shape[0]]  # a list of the levels of more rows is longer
    if sample is None or sample.numel() == 0:
        return 4 * count
    encoded = codec.pack(sample)
    if encoded.metadata.get("codec") in ("grid", "levels", "float") and "bits" in encoded.metadata:
        overhead = encoded_bytes(encoded) - encoded.tensors[""].nbytes
        return packed_bytes(count, encoded.metadata["bits"]) + overhead
    return math.ceil(encoded_bytes(encoded) * count / sample.numel())


def bits_per_value(codec: Codec, shape: tuple[int, ...], sample: Tensor | None = None) -> float:
    """Return the bits per value, ranges included."""
    return 8 * estimate_bytes(codec, shape, sample) / max(1, math.prod(shape))


def label_bytes(n: int, classes: int, bits: int | None, *, scores: bool = False) -> int:
    """Return the maximum bytes of ``n`` labels in the order of classes.

    Args:
        bits: of a soft label's number; ``None``: hard labels.
        scores: rows are real numbers, whose codes have ranges.
    """
    if scores and bits is not None and bits <= MOST_BITS:
        return estimate_bytes(Uniform(bits=bits), (n, classes))
    if bits is not None:
        return 4 * n * classes if bits >= 32 else packed_bytes(n * classes, bits)
    width = 1 if n < 1 << 8 else 2 if n < 1 << 15 else 4
    return min(packed_bytes(n, max(1, (classes - 1).bit_length())), width * classes)


def index_bytes(n: int, samples: int) -> int:
    """Return the maximum bytes of ``n`` indices into ``samples``."""
    bits = max(1, (samples - 1).bit_length())
    return packed_bytes(n, bits) if bits <= MOST_BITS else packed_bytes(2 * n, MOST_BITS)


def largest_fitting(fits: Callable[[int], bool], most: int) -> int:
    """Return the largest number up to ``most`` that fits, by bisection; 0: none. All below a fitting one fit."""
    low, high = 0, most
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low
