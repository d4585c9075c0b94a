"""Few colours, and which of them each pixel has: palettes, as AutoPalette stores sets (Yuan et al., NeurIPS 2024).

Of each picture, or of all together, K colours; a pixel of c channels takes ⌈log2 K⌉ bits in place of c values. The
palette is written and counted: 2 · K · c bytes, which the published count leaves out (64 colours are 384 bytes beside
the 768 of a picture of 32×32).

Colours here are k-means centres of the pixels (least squared error, locally), from farthest points on; there a small
network assigns them, trained with losses that use every colour, balance them and stay near a median cut. With ``aware``
rounding goes straight through, and ``learned`` moves the colours with the set, which takes the place of that network.
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

__all__ = ["Palette", "coloured"]

_ROUNDS = 12
_MOST_PIXELS = 1 << 16
"""Of one palette, evenly spaced, that its colours are fitted to."""
_CHUNK = 1 << 23
"""Distances at once."""


@dataclass(frozen=True, kw_only=True)
class Palette:
    """K colours, and the number of one for each pixel (AutoPalette; NeurIPS 2024).

    Raises:
        PotstillError: a setting is out of its range.
    """

    colours: int = 64
    """K, 2 … 256 (published: 64 for CIFAR-10 at 4 pictures in the place of one)."""
    shared: bool = False
    """One palette for all pictures of a tensor; else one for each (published)."""
    labels: int = 8
    """Bits of a soft label's number, 1 … 16."""
    aware: bool = False
    """Choose among the colours during distillation too, straight through."""
    learned: bool = False
    """With ``aware``: colours are optimised with the set."""

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
        """Of a pixel."""
        return (self.colours - 1).bit_length()

    def size(self, shape: tuple[int, ...], /) -> int:
        """Bytes of pictures of ``shape``, whose colours float16 holds."""
        _check(shape)
        palettes, pixels = math.prod(shape[:-3]), math.prod(shape[:-3]) * shape[-2] * shape[-1]
        colours = (1 if self.shared else palettes) * self.colours * shape[-3]
        return packed_bytes(pixels, self.bits) + 2 * colours

    def pack(self, x: Tensor, /) -> Encoded:
        """Pictures ``x`` (…, c, h, w).

        Raises:
            PotstillError: they are no pictures.
        """
        x = x.detach().cpu().float()
        return self.pack_with_ranges(x, self.fit_ranges(x))

    def fake_quantize(self, x: Tensor, /) -> Tensor:
        """What reading back gives, to the last bit, with a gradient of 1 between the least and the greatest colour of
        all and 0 beyond, as colours follow the values (`potstill.codecs.uniform.Uniform.rounded`)."""
        with torch.no_grad():
            ranges = self.fit_ranges(x)
            read = self.fake_quantize_with_ranges(x, ranges)
            colours = ranges["colours"].to(x)
            inside = (x >= colours.min()) & (x <= colours.max())
        return read + (x - x.detach()) * inside

    def fit_ranges(self, x: Tensor) -> Ranges:
        """``colours`` (palettes, K, c), float32, k-means centres of each palette's pixels."""
        pixels = self._pixels(x.detach().float())
        m = pixels.shape[1]
        if m > _MOST_PIXELS:
            pixels = pixels[:, torch.arange(_MOST_PIXELS, device=x.device) * m // _MOST_PIXELS]
        return {"colours": fit_colours(pixels, self.colours)}

    def pack_with_ranges(self, x: Tensor, ranges: Ranges) -> Encoded:
        """Pictures in these colours."""
        x = x.detach().cpu().float()
        colours = ranges["colours"].detach().cpu().float()
        q = nearest_colours(self._pixels(x), colours)
        said = {"codec": "palette", "shape": list(x.shape), "bits": self.bits}
        return Encoded({"": pack_bits(q.flatten(), self.bits), ".colours": _held(colours)}, said)

    def fake_quantize_with_ranges(self, x: Tensor, ranges: Ranges) -> Tensor:
        """What reading `packed` gives, to the last bit, with gradients by ``x`` and by the colours.

        That of a colour is the sum over its pixels, scaled by 1 / √(n · Q) as the ranges of ``uint`` are.
        """
        colours = ranges["colours"]
        fixed = colours.detach()
        q = nearest_colours(self._pixels(x.detach().float()), fixed.float())
        read = _laid(_held(fixed.float()).to(x), q, tuple(x.shape))
        if not torch.is_grad_enabled():
            return read
        scale = 1 / math.sqrt(max(1, q.shape[1]) * (self.colours - 1))
        moved = _laid((colours - fixed).to(x) * scale, q, tuple(x.shape))
        return read + (x - x.detach()) + moved

    def _pixels(self, x: Tensor) -> Tensor:
        """Pixels of each palette (palettes, m, c)."""
        _check(x.shape)
        c, h, w = x.shape[-3:]
        rows = x.reshape(-1, c, h * w).mT
        return rows.reshape(1, -1, c) if self.shared else rows


def _check(shape: Sequence[int]) -> None:
    if len(shape) < 4:
        raise PotstillError(
            f"palette needs pictures (…, channels, height, width), but a tensor has shape {list(shape)}; take uint"
        )


def _held(colours: Tensor) -> Tensor:
    return colours.half() if bool(torch.isfinite(colours.half()).all()) else colours


def _laid(colours: Tensor, q: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Pictures of ``shape`` from colours (palettes, K, c) and numbers (palettes, m)."""
    c, h, w = shape[-3:]
    pixels = torch.gather(colours, 1, q[..., None].expand(-1, -1, c))
    return pixels.reshape(-1, h * w, c).mT.reshape(shape)


def _distances(pixels: Tensor, colours: Tensor) -> Tensor:
    """Squared distances (palettes, m, K), channel by channel: the same bits however many pixels there are."""
    made = torch.zeros(*pixels.shape[:2], colours.shape[1], device=pixels.device)
    for channel in range(pixels.shape[2]):
        made += (pixels[:, :, None, channel] - colours[:, None, :, channel]).square_()
    return made


def nearest_colours(pixels: Tensor, colours: Tensor) -> Tensor:
    """Number of the nearest colour (palettes, m), int64; of equally near ones the first."""
    at_once = max(1, _CHUNK // (len(pixels) * colours.shape[1]))
    return torch.cat([_distances(part, colours).argmin(2) for part in torch.split(pixels, at_once, 1)], 1)


def fit_colours(pixels: Tensor, count: int) -> Tensor:
    """k-means centres (palettes, count, c): from the mean and the farthest points from there, Lloyd's algorithm."""
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


def coloured(stored: Encoded) -> Tensor:
    """What the codec ``palette`` stands for.

    Raises:
        PotstillError: colours or codes are missing, or not as many.
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
    return _laid(colours, q.reshape(len(colours), -1), shape)
