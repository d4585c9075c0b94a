"""Palettes of few colours, as AutoPalette stores sets (Yuan et al., NeurIPS 2024).

Each image, or all together, have K colours; a pixel of c channels takes ⌈log2 K⌉ bits instead of c values. The palette
is written and counted, 2 · K · c bytes; the published count leaves it out (64 colours: 384 bytes beside the 768 of a
32×32 image).

Colours are k-means centres of the pixels, started from farthest points; AutoPalette trains a small network to assign
them. With ``learned`` colours are optimised with the set, in place of that network.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from potstill.codecs.container import get_tensor, parse_int, parse_shape
from potstill.codecs.uniform import Ranges
from potstill.core import Encoded
from potstill.errors import PotstillError
from potstill.functional.packing import pack_bits, packed_bytes, unpack_bits

__all__ = ["Palette", "decode_palette"]

_ROUNDS = 12
_MOST_PIXELS = 1 << 16
"""Maximum number of pixels, evenly spaced, that a palette is fitted to."""
_CHUNK = 1 << 23
"""Distances computed at once."""


@dataclass(frozen=True, kw_only=True)
class Palette:
    """K colours, and the index of one for each pixel (AutoPalette; NeurIPS 2024).

    Raises:
        PotstillError: a setting is out of its range.
    """

    colours: int = 64
    """K, 2 … 256 (published: 64 for CIFAR-10 at 4 images in the place of one)."""
    shared: bool = False
    """One palette for all images of a tensor; else one for each (published)."""
    labels: int = 8
    """Bits of a soft label's number, 1 … 16."""
    aware: bool = False
    """Quantize to the colours during distillation too (straight-through)."""
    learned: bool = False
    """With ``aware``: optimise the colours with the set."""

    def __post_init__(self) -> None:
        for name, least, most in (("colours", 2, 256), ("labels", 1, 16)):
            if not least <= getattr(self, name) <= most:
                raise PotstillError(f"palette: {name} must be from {least} to {most}, not {getattr(self, name)}")

    @property
    def label_bits(self) -> int:
        """Bits of a soft label's number."""
        return self.labels

    @property
    def bits(self) -> int:
        """Bits of a pixel."""
        return (self.colours - 1).bit_length()

    def size(self, shape: tuple[int, ...], /) -> int:
        """Return the bytes of images of ``shape``, with float16 colours."""
        _check(shape)
        palettes, pixels = math.prod(shape[:-3]), math.prod(shape[:-3]) * shape[-2] * shape[-1]
        colours = (1 if self.shared else palettes) * self.colours * shape[-3]
        return packed_bytes(pixels, self.bits) + 2 * colours

    def pack(self, x: Tensor, /) -> Encoded:
        """Encode images ``x`` (…, c, h, w).

        Raises:
            PotstillError: ``x`` has another shape.
        """
        x = x.detach().cpu().float()
        return self.pack_with_ranges(x, self.fit_ranges(x))

    def fake_quantize(self, x: Tensor, /) -> Tensor:
        """Return ``decode(pack(x))`` to the last bit, with gradient 1 between the extreme colours and 0 beyond.

        See `potstill.codecs.uniform.Uniform.fake_quantize` for the reason.
        """
        with torch.no_grad():
            ranges = self.fit_ranges(x)
            read = self.fake_quantize_with_ranges(x, ranges)
            colours = ranges["colours"].to(x)
            inside = (x >= colours.min()) & (x <= colours.max())
        return read + (x - x.detach()) * inside

    def fit_ranges(self, x: Tensor) -> Ranges:
        """Return ``colours`` (palettes, K, c), float32: k-means centres of each palette's pixels."""
        pixels = self._pixels(x.detach().float())
        m = pixels.shape[1]
        if m > _MOST_PIXELS:
            pixels = pixels[:, torch.arange(_MOST_PIXELS, device=x.device) * m // _MOST_PIXELS]
        return {"colours": fit_colours(pixels, self.colours)}

    def pack_with_ranges(self, x: Tensor, ranges: Ranges) -> Encoded:
        """Encode images ``x`` in given colours."""
        x = x.detach().cpu().float()
        colours = ranges["colours"].detach().cpu().float()
        q = nearest_colours(self._pixels(x), colours)
        said = {"codec": "palette", "shape": list(x.shape), "bits": self.bits}
        return Encoded({"": pack_bits(q.flatten(), self.bits), ".colours": _stored_colours(colours)}, said)

    def fake_quantize_with_ranges(self, x: Tensor, ranges: Ranges) -> Tensor:
        """Return what `pack_with_ranges` decodes to, to the last bit, with gradients by ``x`` and the colours.

        The gradient of a colour is the sum over its pixels, scaled by 1 / √(n · Q) as the ranges of ``uint`` are.
        """
        colours = ranges["colours"]
        fixed = colours.detach()
        q = nearest_colours(self._pixels(x.detach().float()), fixed.float())
        read = _to_images(_stored_colours(fixed.float()).to(x), q, tuple(x.shape))
        if not torch.is_grad_enabled():
            return read
        scale = 1 / math.sqrt(max(1, q.shape[1]) * (self.colours - 1))
        moved = _to_images((colours - fixed).to(x) * scale, q, tuple(x.shape))
        return read + (x - x.detach()) + moved

    def _pixels(self, x: Tensor) -> Tensor:
        """Return the pixels of each palette (palettes, m, c)."""
        _check(x.shape)
        c, h, w = x.shape[-3:]
        rows = x.reshape(-1, c, h * w).mT
        return rows.reshape(1, -1, c) if self.shared else rows


def _check(shape: Sequence[int]) -> None:
    if len(shape) < 4:
        raise PotstillError(
            f"palette needs pictures (…, channels, height, width), but a tensor has shape {list(shape)}; take uint"
        )


def _stored_colours(colours: Tensor) -> Tensor:
    return colours.half() if bool(torch.isfinite(colours.half()).all()) else colours


def _to_images(colours: Tensor, q: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Return images of ``shape`` from colours (palettes, K, c) and indices (palettes, m)."""
    c, h, w = shape[-3:]
    pixels = torch.gather(colours, 1, q[..., None].expand(-1, -1, c))
    return pixels.reshape(-1, h * w, c).mT.reshape(shape)


def _distances(pixels: Tensor, colours: Tensor) -> Tensor:
    """Return squared distances (palettes, m, K); by channel, so that bits do not depend on the number of pixels."""
    distances = torch.zeros(*pixels.shape[:2], colours.shape[1], device=pixels.device)
    for channel in range(pixels.shape[2]):
        distances += (pixels[:, :, None, channel] - colours[:, None, :, channel]).square_()
    return distances


def nearest_colours(pixels: Tensor, colours: Tensor) -> Tensor:
    """Return the index of the nearest colour (palettes, m), int64; the first of equally near ones."""
    at_once = max(1, _CHUNK // (len(pixels) * colours.shape[1]))
    return torch.cat([_distances(part, colours).argmin(2) for part in torch.split(pixels, at_once, 1)], 1)


def fit_colours(pixels: Tensor, count: int) -> Tensor:
    """Return k-means centres (palettes, count, c): farthest points from the mean on, then Lloyd's algorithm."""
    first = _distances(pixels, pixels.mean(1, keepdim=True)).argmin(1)
    chosen = [first[:, 0]]
    rows = torch.arange(len(pixels), device=pixels.device)
    near = _distances(pixels, pixels[rows, chosen[0]][:, None])[..., 0]
    for _ in range(count - 1):
        chosen.append(near.argmax(1))
        near = torch.minimum(near, _distances(pixels, pixels[rows, chosen[-1]][:, None])[..., 0])
    colours = torch.stack([pixels[rows, at] for at in chosen], 1)
    last = None
    for _ in range(_ROUNDS):
        q = nearest_colours(pixels, colours)
        if last is not None and torch.equal(q, last):
            break
        last = q
        sums = torch.zeros_like(colours).scatter_add_(1, q[..., None].expand_as(pixels), pixels)
        counts = torch.zeros_like(colours[..., 0]).scatter_add_(1, q, torch.ones_like(pixels[..., 0]))[..., None]
        colours = torch.where(counts > 0, sums / counts.clamp_min(1), colours)
    return colours


def decode_palette(stored: Encoded) -> Tensor:
    """Decode codec ``palette``.

    Raises:
        PotstillError: colours or codes are missing, or of another number.
    """
    shape = parse_shape(stored.metadata)
    bits = parse_int(stored.metadata, "bits", 1, 8)
    colours = get_tensor(stored, ".colours", (torch.float32, torch.float16)).float()
    pictures = math.prod(shape[:-3])
    if len(shape) < 4 or colours.ndim != 3 or colours.shape[2] != shape[-3] or len(colours) not in (1, pictures):
        raise PotstillError(
            f"palettes of pictures {list(shape)} are (1 or {pictures}, colours, channels), not {list(colours.shape)}"
        )
    pixels = pictures * shape[-2] * shape[-1]
    try:
        q = unpack_bits(get_tensor(stored, "", (torch.uint8,)), bits, pixels)
    except ValueError as error:
        raise PotstillError(str(error)) from error
    if pixels and int(q.max()) >= colours.shape[1]:
        raise PotstillError(f"its codes number more colours than the {colours.shape[1]} that there are")
    return _to_images(colours, q.reshape(len(colours), -1), shape)
