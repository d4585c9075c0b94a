"""Pictures at a part of their size, packed by another store, and enlarged when they are read.

For real samples it is often the best of all: a picture of half its height and width takes a quarter of the codes, so
four times as many fit.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from potstill.codecs.container import decode, parse_shape
from potstill.codecs.exact import Float
from potstill.codecs.size_estimate import estimate_bytes
from potstill.codecs.uniform import Ranges, Uniform
from potstill.core import Encoded
from potstill.errors import PotstillError
from potstill.functional.transforms import resize, shrink

__all__ = ["Half", "enlarged"]

_MOST_FACTOR = 16
"""How much larger reading makes a side at most, so that a small file does not fill the memory."""


@dataclass(frozen=True, kw_only=True)
class Half:
    """Pictures made smaller by means of areas, then written as ``uint``, or as ``float`` from 16 bits on.

    Raises:
        PotstillError: a setting is out of its range.
    """

    bits: int = 4
    """Of a value of the smaller picture: 1 … 8 as codes, 16 or 32 as floats."""
    factor: int = 2
    """How much smaller a side is, 1 … 16."""
    labels: int = 8
    """Bits of a soft label's number, 1 … 16."""
    aware: bool = False
    """Make smaller and round during distillation too, straight through."""
    learned: bool = False
    """With ``aware``: ranges are optimised with the set."""

    def __post_init__(self) -> None:
        if not 1 <= self.factor <= _MOST_FACTOR:
            raise PotstillError(f"half: factor must be from 1 to {_MOST_FACTOR}, not {self.factor}")
        if self.bits not in (*range(1, 9), 16, 32):
            raise PotstillError(f"half: bits must be from 1 to 8, 16 or 32, not {self.bits}")
        self._within()

    @property
    def label_bits(self) -> int:
        """Bits of a soft label's number."""
        return self.labels

    def _within(self) -> Float | Uniform:
        return Float(bits=self.bits) if self.bits >= 16 else Uniform(bits=self.bits, labels=self.labels)

    @staticmethod
    def _check(shape: Sequence[int]) -> None:
        if len(shape) < 4:
            raise PotstillError(
                f"half needs pictures (…, channels, height, width), but a tensor has shape {list(shape)}; take uint"
            )

    def _shrunk(self, x: Tensor) -> Tensor:
        self._check(x.shape)
        h, w = x.shape[-2:]
        return shrink(x, (math.ceil(h / self.factor), math.ceil(w / self.factor)))

    def size(self, shape: tuple[int, ...], /) -> int:
        """Bytes of pictures of ``shape``."""
        self._check(shape)
        small = (*shape[:-2], *(math.ceil(side / self.factor) for side in shape[-2:]))
        return estimate_bytes(self._within(), small)

    def pack(self, x: Tensor, /) -> Encoded:
        """Pictures ``x`` (…, c, h, w), smaller.

        Raises:
            PotstillError: they are no pictures.
        """
        x = x.detach().cpu().float()
        return self.pack_with_ranges(x, self.fit_ranges(x))

    def fake_quantize(self, x: Tensor, /) -> Tensor:
        """What reading back gives, to the last bit, with the gradient of both changes of size.

        Raises:
            PotstillError: they are no pictures.
        """
        small, within = self._shrunk(x), self._within()
        small = within.fake_quantize(small) if isinstance(within, Uniform) else self._cast(small)
        return resize(small, (x.shape[-2], x.shape[-1]))

    def _cast(self, small: Tensor) -> Tensor:
        return small.detach().half().to(small) + (small - small.detach()) if self.bits == 16 else small

    def fit_ranges(self, x: Tensor) -> Ranges:
        """Levels of the smaller pictures; none where they are floats."""
        within = self._within()
        return within.fit_ranges(self._shrunk(x)) if isinstance(within, Uniform) else {}

    def pack_with_ranges(self, x: Tensor, ranges: Ranges) -> Encoded:
        """Smaller pictures by these levels."""
        small, within = self._shrunk(x.detach().cpu().float()), self._within()
        kept = within.pack_with_ranges(small, ranges) if isinstance(within, Uniform) else within.pack(small)
        return Encoded(kept.tensors, {"codec": "small", "shape": list(x.shape), "within": dict(kept.metadata)})

    def fake_quantize_with_ranges(self, x: Tensor, ranges: Ranges) -> Tensor:
        """What reading `packed` gives, with gradients by ``x`` and by the levels."""
        small, within = self._shrunk(x), self._within()
        small = within.fake_quantize_with_ranges(small, ranges) if isinstance(within, Uniform) else self._cast(small)
        return resize(small, (x.shape[-2], x.shape[-1]))


def enlarged(stored: Encoded) -> Tensor:
    """What the codec ``small`` stands for.

    Raises:
        PotstillError: what is within is no smaller picture of that shape, or too small a one.
    """
    shape, within = parse_shape(stored.metadata), stored.metadata.get("within")
    if not isinstance(within, dict) or within.get("codec") == "small" or len(shape) < 4:
        raise PotstillError("its codec small must say how smaller pictures are stored within it")
    size = parse_shape(within)
    fits = len(size) == len(shape) and size[:-2] == shape[:-2]
    if not fits or any(
        not small <= side <= small * _MOST_FACTOR for small, side in zip(size[-2:], shape[-2:], strict=True)
    ):
        raise PotstillError(
            f"pictures of {list(size)} are enlarged to {list(shape)}, but only height and width may grow, by up to "
            f"{_MOST_FACTOR}"
        )
    found = decode(Encoded(stored.tensors, within))
    if tuple(found.shape) != size:
        raise PotstillError(f"the smaller pictures are said to be {list(size)}, but they are {list(found.shape)}")
    return resize(found.float(), (shape[-2], shape[-1])).to(torch.float32)
