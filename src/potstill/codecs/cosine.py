"""Pictures as a few cosine coefficients, rounded to whole steps: what JPEG keeps, without its blocks and headers.

The lowest frequencies of the whole picture hold most of what a small network sees. Their codes gather about zero and
lie at the same places in all pictures, which entropy coding makes use of. For real pictures in colour it had the
highest mean of the codecs measured in few bytes; on grey ones smaller pictures had (benchmarks/real_codecs.py).
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from potstill.codecs.container import get_tensor, parse_int, parse_shape, unpack_codes
from potstill.core import Encoded
from potstill.errors import PotstillError
from potstill.functional.packing import MOST_BITS, pack_bits
from potstill.functional.transforms import dct2, idct2, low_frequencies

__all__ = ["Cosine", "decode_cosine"]

_MOST = (1 << (MOST_BITS - 1)) - 1
"""Largest magnitude of a code."""
_OPPONENT = ((1.0, 1.0, 1.0), (1.0, 0.0, -1.0), (1.0, -2.0, 1.0))
"""Rows, before they are normed, that turn red, green and blue into brightness and two differences of colour."""
_CHROMA = 2.0
"""Times the step of brightness that differences of colour are rounded to."""


@dataclass(frozen=True, kw_only=True)
class Cosine:
    """The lowest cosine coefficients of each picture, as whole multiples of a step.

    The mean colour of the set is taken off first. Of three channels, brightness and two differences of colour are
    coded, these in steps of twice the size.

    Raises:
        PotstillError: a setting is out of its range.
    """

    positions: int = 36
    """Coefficients of a channel, from the lowest frequency on, at least 1; at most the pixels."""
    width: float = 0.5
    """The step of a coefficient of the orthonormal transform, above 0, in units of the pixels: white is 1."""
    labels: int = 4
    """Bits of a soft label's number, 1 … 16."""

    def __post_init__(self) -> None:
        if self.positions < 1 or not (self.width > 0 and math.isfinite(self.width)):
            raise PotstillError(
                f"cosine: positions must be at least 1 and width above 0, not {self.positions} and {self.width:g}"
            )
        if not 1 <= self.labels <= MOST_BITS:
            raise PotstillError(f"cosine: labels must be from 1 to {MOST_BITS}, not {self.labels}")

    @property
    def label_bits(self) -> int:
        """Bits of a soft label's number."""
        return self.labels

    def pack(self, x: Tensor, /) -> Encoded:
        """Encode pictures ``x`` (…, c, h, w).

        Raises:
            PotstillError: ``x`` has another shape, or values that have no mean colour in float16.
        """
        x = x.detach().cpu().float()
        if x.ndim < 4:
            raise PotstillError(
                f"cosine needs pictures (…, channels, height, width), but a tensor has shape {list(x.shape)}; take uint"
            )
        c, h, w = x.shape[-3:]
        positions = min(self.positions, h * w)
        pictures = x.reshape(-1, c, h, w)
        mean = (pictures.double().mean((0, 2, 3)) if len(pictures) else torch.zeros(c)).half()
        if not bool(torch.isfinite(mean).all()):
            raise PotstillError(
                f"cosine holds mean colours up to 65,504, but values reach {float(x.abs().max()):.3g}; take float32"
            )
        moved = _turn(pictures - mean.float().reshape(-1, 1, 1), back=False)
        step = torch.tensor(self.width, dtype=torch.float32)
        coefficients = dct2(moved).flatten(2)[..., low_frequencies(h, w)[:positions]]
        codes = (coefficients / _steps(step, c)).round().clamp(-_MOST, _MOST).long()
        least = int(codes.min()) if codes.numel() else 0
        bits = max(1, (int(codes.max()) - least if codes.numel() else 0).bit_length())
        described = {"codec": "cosine", "shape": list(x.shape), "bits": bits, "least": least, "positions": positions}
        return Encoded(
            {"": pack_bits((codes - least).flatten(), bits), ".step": step.reshape(1), ".mean": mean}, described
        )


def decode_cosine(stored: Encoded) -> Tensor:
    """Decode codec ``cosine``.

    Raises:
        PotstillError: its codes, its step or its mean colour are missing, or do not fit its shape.
    """
    shape = parse_shape(stored.metadata)
    if len(shape) < 4:
        raise PotstillError(f"its codec cosine must describe pictures, not {list(shape)}")
    n, (c, h, w) = math.prod(shape[:-3]), shape[-3:]
    positions = parse_int(stored.metadata, "positions", 0 if h * w == 0 else 1, h * w)
    least = parse_int(stored.metadata, "least", -(2**MOST_BITS), 2**MOST_BITS)
    step = get_tensor(stored, ".step", (torch.float32,), (1,))
    mean = get_tensor(stored, ".mean", (torch.float16,), (c,)).float()
    codes = (unpack_codes(stored, (n, c, positions)) + least).float()
    flat = torch.zeros(n, c, h * w)
    flat[..., low_frequencies(h, w)[:positions]] = codes * _steps(step, c)
    pictures = _turn(idct2(flat.reshape(n, c, h, w)), back=True) + mean.reshape(-1, 1, 1)
    return pictures.reshape(shape)


def _steps(step: Tensor, channels: int) -> Tensor:
    """Return the step of each channel (c, 1)."""
    factors = [1.0, _CHROMA, _CHROMA] if channels == 3 else [1.0] * channels
    return step.reshape(1, 1) * torch.tensor(factors).reshape(-1, 1)


def _turn(x: Tensor, *, back: bool) -> Tensor:
    """Return pictures (n, c, h, w) of three channels as brightness and differences of colour, or ``back``."""
    if x.shape[1] != 3:
        return x
    rows = torch.tensor(_OPPONENT)
    rows = rows / rows.square().sum(1, keepdim=True).sqrt()
    return _mixed(x, rows.T if back else rows)


def _mixed(x: Tensor, rows: Tensor) -> Tensor:
    return torch.stack([row[0] * x[:, 0] + row[1] * x[:, 1] + row[2] * x[:, 2] for row in rows], 1)
