"""Information lost by decoding image files (depth beyond 8 bits, transparency, further frames), and notes on it."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from potstill.errors import PotstillError

__all__ = ["LossCounter", "LossFlags", "header_losses", "to_eight_bits"]


class LossFlags(NamedTuple):
    """Losses of one image."""

    clear: bool = False
    """Transparent somewhere, composited on white."""
    deep: bool = False
    """More than 8 bits per channel, rounded."""
    dim: bool | None = None
    """For 16-bit integer grey that is not all 0: True if no value is above 255; ``None`` for other images."""
    frames: bool = False
    """Several frames in the file; the first was used."""


def header_losses(image: Image.Image) -> LossFlags:
    """Return what is lost as soon as Pillow reads ``image``: further frames, and lower bytes of 16-bit colours."""
    deep = image.format == "PNG" and image.mode not in ("I", "I;16") and any(";16" in str(t[3]) for t in _tiles(image))
    return LossFlags(frames=getattr(image, "n_frames", 1) > 1, deep=deep)


def _tiles(image: Image.Image) -> Iterable[Any]:
    return getattr(image, "tile", ())


def to_eight_bits(image: Image.Image) -> tuple[npt.NDArray[np.uint8], LossFlags]:
    """Convert 16-bit, 32-bit and float grey to 8-bit grey (h, w), and return what was lost.

    Raises:
        ValueError: its values lie outside 0 … 65,535 (of floats: 0 … 1).
    """
    x: npt.NDArray[Any] = np.asarray(image).astype(np.float64)
    low, high = float(x.min()), float(x.max())
    scale = 1.0 if image.mode == "F" else 65535.0
    if not (low >= 0 and high <= scale):
        raise ValueError(f"its grey values go from {low:.4g} to {high:.4g}; they must lie in 0 … {scale:.0f}")
    rounded = np.rint(x * (255 / scale)).astype(np.uint8)
    # Floats of 32 bits are not exact themselves; what is left of that is far below a step of 16 bits.
    deep = bool(np.abs(rounded * (scale / 255) - x).max() > scale / 65535 / 2)
    return rounded, LossFlags(deep=deep, dim=None if image.mode == "F" or high == 0 else high <= 255)


@dataclass
class LossCounter:
    """Counts of losses over a dataset."""

    name: str
    clear: int = 0
    deep: int = 0
    frames: int = 0
    dim: int = 0
    bright: int = 0
    first: str = field(default="", repr=False)

    def add(self, lost: LossFlags, where: str) -> None:
        self.clear += lost.clear
        self.deep += lost.deep
        self.frames += lost.frames
        self.bright += lost.dim is False
        if lost.dim:
            self.first = self.first or where
            self.dim += 1

    def notes(self, of: str = "") -> list[str]:
        """Return notes on the losses.

        Args:
            of: how many were looked at, where not all were.

        Raises:
            PotstillError: 16-bit pictures that hold no value above 255, so that their scale cannot be told.
        """
        if self.dim and not self.bright:
            raise PotstillError(
                f"{self.first}: a picture of 16 bits without a value above 255, as are all {self.dim:,} of 16 bits in "
                f"{self.name}: nearly black, or 8-bit pixels in a wider file, which cannot be told; save them with "
                "8 bits, or times 257"
            )
        texts = []
        if self.clear:
            texts.append(f"{self.name}: {self.clear:,}{of} pictures with transparency were put on white")
        if self.deep:
            texts.append(f"{self.name}: {self.deep:,}{of} pictures of more than 8 bits a channel were rounded to 8")
        if self.frames:
            texts.append(f"{self.name}: {self.frames:,}{of} files hold several pictures; the first of each was taken")
        return texts
