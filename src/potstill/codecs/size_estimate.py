"""Bytes before anything is written: what a plan and a budget in bytes go by."""

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
    "bits_per_value",
    "estimate_bytes",
    "has_fixed_size",
    "index_bytes",
    "label_bytes",
    "largest_fitting",
]


@runtime_checkable
class FixedSize(Protocol):
    """A store whose bytes depend on the shape alone, and that can say them."""

    def size(self, shape: tuple[int, ...], /) -> int:
        """Bytes of values of ``shape``.

        Raises:
            PotstillError: it takes no such values.
        """
        ...


def has_fixed_size(store: Codec) -> bool:
    """Whether `values_bytes` knows the bytes by the shape alone. Ranges that no float of 16 bits holds take more."""
    return isinstance(store, Float | Uniform | FixedSize)


def estimate_bytes(store: Codec, shape: tuple[int, ...], sample: Tensor | None = None) -> int:
    """Bytes of values of ``shape`` as ``store`` writes them: exact where the shape alone decides.

    Args:
        sample: values of the same kind, at least one, for stores whose bytes depend on them: what these take, scaled.
    """
    count = math.prod(shape)
    if isinstance(store, Float):
        return count * store.bits // 8
    if isinstance(store, Uniform):
        axis = choose_range_axis(shape, store.bits)
        ranges = 1 if axis is None else shape[axis]
        return packed_bytes(count, store.bits) + ranges * (4 if store.bits <= 8 else 8)
    if isinstance(store, FixedSize):
        return store.size(shape)
    if sample is None or sample.numel() == 0:
        return 4 * count
    kept = store.pack(sample)
    if kept.metadata.get("codec") in ("grid", "levels", "float") and "bits" in kept.metadata:
        beside = encoded_bytes(kept) - kept.tensors[""].nbytes
        return packed_bytes(count, kept.metadata["bits"]) + beside
    return math.ceil(encoded_bytes(kept) * count / sample.numel())


def bits_per_value(store: Codec, shape: tuple[int, ...], sample: Tensor | None = None) -> float:
    """Bits that a value takes, ranges included."""
    return 8 * estimate_bytes(store, shape, sample) / max(1, math.prod(shape))


def label_bytes(n: int, classes: int, bits: int | None, *, scores: bool = False) -> int:
    """Bytes of the labels of ``n`` inputs in the order of classes, at most: rows of ``bits`` each, or classes.

    Args:
        scores: the rows are real numbers, so their codes have ranges.
    """
    if scores and bits is not None and bits <= MOST_BITS:
        return estimate_bytes(Uniform(bits=bits), (n, classes))
    if bits is not None:
        return 4 * n * classes if bits >= 32 else packed_bytes(n * classes, bits)
    width = 1 if n < 1 << 8 else 2 if n < 1 << 15 else 4
    return min(packed_bytes(n, max(1, (classes - 1).bit_length())), width * classes)


def index_bytes(n: int, samples: int) -> int:
    """Bytes of ``n`` indices into so many samples, at most."""
    bits = max(1, (samples - 1).bit_length())
    return packed_bytes(n, bits) if bits <= MOST_BITS else packed_bytes(2 * n, MOST_BITS)


def largest_fitting(fits: Callable[[int], bool], most: int) -> int:
    """The largest whole number up to ``most`` that fits, where what fits goes on fitting below; 0: none."""
    low, high = 0, most
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low
