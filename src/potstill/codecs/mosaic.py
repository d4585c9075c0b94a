"""All images of a tensor in one PNG, WebP, JPEG or AVIF, so that headers are paid once.

A PNG of one 28×28 digit has about 60 bytes besides its pixels. Images lie edge to edge, so that blocks of an encoder
may cross a border.
"""

import io
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import PIL
import torch
from PIL import Image, features
from torch import Tensor

from potstill.codecs.container import get_tensor, parse_int, parse_shape
from potstill.core import Encoded
from potstill.errors import PotstillError, unknown_name

__all__ = ["Mosaic", "can_write", "decode_mosaic"]

_KINDS = ("png", "webp", "webp-lossless", "jpeg", "avif")
_FORMATS = ("PNG", "WEBP", "JPEG", "AVIF")
"""Formats that decoding opens."""
_AVIF_SPEEDS, _AVIF_LARGE = (4, 6), 1 << 20
"""Speeds of the AVIF encoder, 0 … 10, and the pixels from which it is the second. Slower ones write smaller files."""
_MOST_PIXELS = 1 << 26
"""Below Pillow's warning."""
_MOST_SIDE = {"WEBP": 16383, "JPEG": 65535, "PNG": 1 << 20, "AVIF": 32768}
_SLACK = 0.01
"""Tolerance around [0, 1] for rounding; values are clamped."""


@dataclass(frozen=True, kw_only=True)
class Mosaic:
    """Grey or RGB images with values in [0, 1] as one image file.

    Raises:
        PotstillError: a setting is out of its range.
    """

    kind: str = "png"
    """``png`` and ``webp-lossless`` keep the 8 bits (or fewer) of a value; ``webp``, ``jpeg`` and ``avif`` do not.
    ``avif`` needs Pillow 11.3."""
    quality: int = 75
    """Quality of ``webp``, ``jpeg`` and ``avif``, 1 … 100."""
    columns: int = 0
    """Images in a row; 0: a mosaic that is about square."""
    bits: int = 8
    """Bits of a value, 1 … 8, before the image format: equal steps from 0 to 1."""
    labels: int = 8
    """Bits of a soft label's number, 1 … 16."""

    def __post_init__(self) -> None:
        if self.kind not in _KINDS:
            raise unknown_name("kind of mosaic", self.kind, _KINDS)
        for name, least, most in (("quality", 1, 100), ("columns", 0, 1 << 20), ("bits", 1, 8), ("labels", 1, 16)):
            if not least <= getattr(self, name) <= most:
                raise PotstillError(f"mosaic: {name} must be from {least} to {most}, not {getattr(self, name)}")

    @property
    def label_bits(self) -> int:
        """Bits of a soft label's number."""
        return self.labels

    def pack(self, x: Tensor, /) -> Encoded:
        """Encode images ``x`` (n, 1 or 3, h, w) with values in [0, 1].

        Raises:
            PotstillError: ``x`` has another shape or range, or is too large for one image file, or this Pillow does
                not write the format.
        """
        if x.ndim != 4 or x.shape[1] not in (1, 3) or 0 in x.shape:
            raise PotstillError(
                f"mosaic needs pictures (n, 1 or 3 channels, height, width), but a tensor has shape {list(x.shape)}; "
                "take uint"
            )
        x = x.detach().cpu().float()
        if not bool(torch.isfinite(x).all()) or float(x.min()) < -_SLACK or float(x.max()) > 1 + _SLACK:
            raise PotstillError(
                f"mosaic needs values in [0, 1], but these go from {float(x.min()):.3g} to {float(x.max()):.3g}; "
                "take uint, or pictures in data units"
            )
        most = (1 << self.bits) - 1
        pixels = ((x.clamp(0, 1) * most).round() * (255 / most)).round().to(torch.uint8)
        n, c, h, w = x.shape
        columns = min(n, self.columns or max(1, round(math.sqrt(n * h / w))))
        rows = -(-n // columns)
        written = "WEBP" if self.kind.startswith("webp") else self.kind.upper()
        _check_supported(written)
        _check_size(written, rows * h, columns * w)
        canvas = torch.zeros(rows * columns, c, h, w, dtype=torch.uint8)
        canvas[:n] = pixels
        canvas[n:] = pixels[-1:]
        whole = canvas.reshape(rows, columns, c, h, w).permute(0, 3, 1, 4, 2).reshape(rows * h, columns * w, c)
        blob = io.BytesIO()
        picture = Image.fromarray(whole.numpy()[..., 0] if c == 1 else whole.numpy())
        picture.save(blob, written, **self._options(c, picture.width * picture.height))
        said = {"codec": "mosaic", "shape": list(x.shape), "columns": columns}
        return Encoded({"": torch.frombuffer(bytearray(blob.getvalue()), dtype=torch.uint8)}, said)

    def _options(self, channels: int, pixels: int) -> dict[str, Any]:
        """Return the encoder's options for a small file."""
        if self.kind == "png":
            return {"optimize": True}
        if self.kind == "jpeg":
            return {"quality": self.quality, "optimize": True}
        if self.kind == "avif":  # one thread and no tiles: the same bytes everywhere
            colour = "4:0:0" if channels == 1 else "4:4:4"  # pictures are small: colour at full resolution
            return {
                "quality": self.quality, "speed": _AVIF_SPEEDS[pixels >= _AVIF_LARGE], "subsampling": colour,
                "max_threads": 1, "autotiling": False,
            }  # fmt: skip
        if self.kind == "webp-lossless":  # quality 100 searches a hundred times as long for a hundredth of the bytes
            return {"quality": 90, "method": 4, "lossless": True}
        return {"quality": self.quality, "method": 6}


def can_write(kind: str) -> bool:
    """Return whether this Pillow reads and writes a kind of mosaic."""
    name = kind.lower().partition("-")[0]
    return name not in ("webp", "avif") or (name in features.modules and bool(features.check(name)))


def _check_supported(written: str) -> None:
    """
    Raises:
        PotstillError: this Pillow does not have the format.
    """
    if not can_write(written):
        raise PotstillError(
            f"mosaic: {written} needs a Pillow that has it (AVIF from 11.3 on), but Pillow {PIL.__version__} is "
            "installed; run pip install -U pillow, or take kind=jpeg"
        )


def _check_size(written: str, height: int, width: int) -> None:
    side = _MOST_SIDE[written]
    if height > side or width > side or height * width > _MOST_PIXELS:
        raise PotstillError(
            f"one {written} holds {side:,} pixels along a side and {_MOST_PIXELS:,} in all, but the mosaic needs "
            f"{height:,} × {width:,}; take fewer pictures or uint"
        )


def decode_mosaic(stored: Encoded) -> Tensor:
    """Decode codec ``mosaic``: images (n, c, h, w), float32 in [0, 1].

    The size in the image's header is checked before a pixel is decoded.

    Raises:
        PotstillError: it is no PNG, WebP, JPEG or AVIF of that size.
    """
    shape = parse_shape(stored.metadata)
    if len(shape) != 4 or shape[1] not in (1, 3) or 0 in shape:
        raise PotstillError(f"a mosaic holds pictures (n, 1 or 3, h, w), not {list(shape)}")
    n, c, h, w = shape
    columns = parse_int(stored.metadata, "columns", 1, n)
    rows = -(-n // columns)
    blob = get_tensor(stored, "", (torch.uint8,)).contiguous().numpy().tobytes()
    if blob[4:12] == b"ftypavif":
        _check_supported("AVIF")
    if rows * h * columns * w > _MOST_PIXELS:
        raise PotstillError(
            f"a mosaic of {rows * h:,} × {columns * w:,} pixels is refused: it has over {_MOST_PIXELS:,}"
        )
    try:
        with Image.open(io.BytesIO(blob), formats=[name for name in _FORMATS if can_write(name)]) as picture:
            size, mode, frames = picture.size, picture.mode, getattr(picture, "n_frames", 1)
            if size != (columns * w, rows * h) or frames != 1:
                raise PotstillError(
                    f"its mosaic must have {rows * h} × {columns * w} pixels in one frame, but it has {size[1]} × "
                    f"{size[0]} in {frames}"
                )
            if mode not in ("L", "RGB"):
                raise PotstillError(f"its mosaic must be grey or RGB of 8 bits, not {mode}")
            whole = np.array(picture.convert("L" if c == 1 else "RGB"))
    except (OSError, SyntaxError, ValueError, RuntimeError, Image.DecompressionBombError) as error:
        said = str(error)[:80]
        raise PotstillError(f"its mosaic is not a PNG, WebP, JPEG or AVIF that can be read: {said}") from error
    cut = torch.from_numpy(whole).reshape(rows, h, columns, w, c).permute(0, 2, 4, 1, 3).reshape(-1, c, h, w)
    return cut[:n].contiguous().float() / 255
