"""Downsampled images, written by another codec and enlarged when decoded.

Often the best codec for real samples: at half the height and width four times as many fit.
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

__all__ = ["Downsample", "decode_downsampled"]

_MOST_FACTOR = 16
"""Maximum factor of a side in decoding, so that a small file cannot fill the memory."""


@dataclass(frozen=True, kw_only=True)
class Downsample:
    """Images downsampled by area means, then written as ``uint``, or as ``float`` from 16 bits on.

    Raises:
        PotstillError: a setting is out of its range.
    """

    bits: int = 4
    """Bits of a value of the smaller image: 1 … 8 as codes, 16 or 32 as floats."""
    factor: int = 2
    """Factor of a side, 1 … 16."""
    labels: int = 8
    """Bits of a soft label's number, 1 … 16."""
    aware: bool = False
    """Downsample and quantize during distillation too (straight-through)."""
    learned: bool = False
    """With ``aware``: optimise the ranges with the set."""

    def __post_init__(self) -> None:
        if not 1 <= self.factor <= _MOST_FACTOR:
            raise PotstillError(f"half: factor must be from 1 to {_MOST_FACTOR}, not {self.factor}")
        if self.bits not in (*range(1, 9), 16, 32):
            raise PotstillError(f"half: bits must be from 1 to 8, 16 or 32, not {self.bits}")
        self._inner_codec()

    @property
    def label_bits(self) -> int:
        """Bits of a soft label's number."""
        return self.labels

    def _inner_codec(self) -> Float | Uniform:
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
        """Return the bytes of images of ``shape``."""
        self._check(shape)
        small = (*shape[:-2], *(math.ceil(side / self.factor) for side in shape[-2:]))
        return estimate_bytes(self._inner_codec(), small)

    def pack(self, x: Tensor, /) -> Encoded:
        """Encode images ``x`` (…, c, h, w).

        Raises:
            PotstillError: ``x`` has another shape.
        """
        x = x.detach().cpu().float()
        return self.pack_with_ranges(x, self.fit_ranges(x))

    def fake_quantize(self, x: Tensor, /) -> Tensor:
        """Return ``decode(pack(x))`` to the last bit, with the gradient of both resizings."""
        small, inner = self._shrunk(x), self._inner_codec()
        small = inner.fake_quantize(small) if isinstance(inner, Uniform) else self._cast(small)
        return resize(small, (x.shape[-2], x.shape[-1]))

    def _cast(self, small: Tensor) -> Tensor:
        return small.detach().half().to(small) + (small - small.detach()) if self.bits == 16 else small

    def fit_ranges(self, x: Tensor) -> Ranges:
        """Return the ranges of the smaller images; none for floats."""
        inner = self._inner_codec()
        return inner.fit_ranges(self._shrunk(x)) if isinstance(inner, Uniform) else {}

    def pack_with_ranges(self, x: Tensor, ranges: Ranges) -> Encoded:
        """Encode images ``x`` with given ranges."""
        small, inner = self._shrunk(x.detach().cpu().float()), self._inner_codec()
        encoded = inner.pack_with_ranges(small, ranges) if isinstance(inner, Uniform) else inner.pack(small)
        return Encoded(encoded.tensors, {"codec": "small", "shape": list(x.shape), "within": dict(encoded.metadata)})

    def fake_quantize_with_ranges(self, x: Tensor, ranges: Ranges) -> Tensor:
        """Return what `pack_with_ranges` decodes to, with gradients by ``x`` and the ranges."""
        small, inner = self._shrunk(x), self._inner_codec()
        small = inner.fake_quantize_with_ranges(small, ranges) if isinstance(inner, Uniform) else self._cast(small)
        return resize(small, (x.shape[-2], x.shape[-1]))


def decode_downsampled(stored: Encoded) -> Tensor:
    """Decode codec ``small``: smaller images, enlarged.

    Raises:
        PotstillError: the inner tensor is no smaller image of that shape, or too small.
    """
    shape, within = parse_shape(stored.metadata), stored.metadata.get("within")
    if not isinstance(within, dict) or within.get("codec") == "small" or len(shape) < 4:
        raise PotstillError("its codec small must describe the smaller images in within")
    size = parse_shape(within)
    fits = len(size) == len(shape) and size[:-2] == shape[:-2]
    if not fits or any(
        not small <= side <= small * _MOST_FACTOR for small, side in zip(size[-2:], shape[-2:], strict=True)
    ):
        raise PotstillError(
            f"pictures of {list(size)} are enlarged to {list(shape)}, but only height and width may grow, by up to "
            f"{_MOST_FACTOR}"
        )
    images = decode(Encoded(stored.tensors, within))
    if tuple(images.shape) != size:
        raise PotstillError(f"the smaller images must be {list(size)}, but they are {list(images.shape)}")
    return resize(images.float(), (shape[-2], shape[-1])).to(torch.float32)
