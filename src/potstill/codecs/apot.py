"""Additive powers of two with one clip for all: the adaptive quantizer of QuADD (arXiv:2603.02411).

With bits b and levels l_i in [−1, 1] (additive powers of two; Li et al., arXiv:1909.13144, section 2.2)::

    u = clamp((x − c) / α, −1, 1),    v = the nearest level to u,    x̂ = c + α v

    2 bits: −1, 0, 1       3 bits: 0, ±¼, ±½, ±1       4 bits: 0, ±0.1, ±0.2, ±0.3, ±0.4, ±0.6, ±0.8, ±1

Levels are closer near the middle, and 2^b − 1 of the 2^b codes are used, as in the published program. The gradient by α
is v − u inside and the sign of u outside ("reparameterized clipping function").

Differences from QuADD: c is 0 for its standardised images; here c is fitted with α by least squares, as payloads need
not be centred (``centred=false`` is theirs). α starts at the least squared error, not at 3. QuADD's start, a graph cut
on quantized real data, is no part of a codec.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from potstill.codecs.uniform import Ranges
from potstill.core import Encoded
from potstill.errors import PotstillError
from potstill.functional.packing import pack_bits, packed_bytes

__all__ = ["LEVELS", "APoT"]

_POSITIVE = {2: (1.0,), 3: (0.25, 0.5, 1.0), 4: (0.1, 0.2, 0.3, 0.4, 0.6, 0.8, 1.0)}
LEVELS = {bits: (*(-v for v in reversed(levels)), 0.0, *levels) for bits, levels in _POSITIVE.items()}
"""Levels in [−1, 1], ascending, by bits."""
_STARTS = (1.0, 0.7, 0.45, 0.3)
"""Initial clips of the fit, in parts of the greatest distance from the mean."""
_ROUNDS = 16


@dataclass(frozen=True, kw_only=True)
class APoT:
    """Additive powers of two, one clip for all (QuADD's adaptive levels; arXiv:2603.02411).

    Raises:
        PotstillError: a setting is out of its range.
    """

    bits: int = 3
    """Bits of a value: 2, 3 or 4 (published: 2 to 4)."""
    centred: bool = True
    """Fit the middle level too; false: it is 0 (published, for standardised images)."""
    labels: int = 8
    """Bits of a soft label's number, 1 … 16."""
    aware: bool = False
    """Quantize during distillation too (published: always)."""
    learned: bool = False
    """With ``aware``: optimise the clip with the set (published: always)."""

    def __post_init__(self) -> None:
        if self.bits not in LEVELS:
            raise PotstillError(f"apot: bits must be 2, 3 or 4, not {self.bits}")
        if not 1 <= self.labels <= 16:
            raise PotstillError(f"apot: labels must be from 1 to 16, not {self.labels}")

    @property
    def label_bits(self) -> int:
        """Bits of a soft label's number."""
        return self.labels

    def size(self, shape: tuple[int, ...], /) -> int:
        """Return the bytes of values of ``shape``, with float16 levels."""
        return packed_bytes(math.prod(shape), self.bits) + 2 * len(LEVELS[self.bits])

    def pack(self, x: Tensor, /) -> Encoded:
        """Encode ``x`` as codes and levels, float16 where they fit."""
        x = x.detach().cpu().float()
        return self.pack_with_ranges(x, self.fit_ranges(x))

    def fake_quantize(self, x: Tensor, /) -> Tensor:
        """Return ``decode(pack(x))`` to the last bit, with gradient 1 up to the clip and 0 beyond it.

        See `potstill.codecs.uniform.Uniform.fake_quantize` for the reason.
        """
        with torch.no_grad():
            ranges = self.fit_ranges(x)
            read = self.fake_quantize_with_ranges(x, ranges)
            inside = (x - ranges["centre"].to(x)).abs() <= ranges["clip"].to(x)
        return read + (x - x.detach()) * inside

    def fit_ranges(self, x: Tensor) -> Ranges:
        """Return ``centre`` and ``clip``, float32 (1,), of locally least squared error (Lloyd's algorithm)."""
        values = x.detach().double().flatten()
        levels = self._levels(values)
        middle = values.mean() if self.centred else values.new_zeros(())
        far = (values - middle).abs().max() if values.numel() else values.new_zeros(())
        best = (middle, far, values.new_full((), math.inf))
        for start in _STARTS:
            centre, clip = middle, far * start
            for _ in range(_ROUNDS):
                v = levels[self._codes(values, centre, clip)]
                mean = v.mean() if self.centred else v.new_zeros(())
                deviation = v - mean
                spread = deviation.square().sum()
                slope = (deviation * values).sum() / spread.clamp_min(1e-300)
                clip = torch.where((spread > 0) & (slope > 0), slope, clip)
                centre = middle - clip * mean if self.centred else centre
            error = (centre + clip * levels[self._codes(values, centre, clip)] - values).square().sum()
            best = min(best, (centre, clip, error), key=lambda fit: float(fit[2]))
        return {"centre": best[0].float().reshape(1), "clip": best[1].float().reshape(1)}

    def pack_with_ranges(self, x: Tensor, ranges: Ranges) -> Encoded:
        """Encode ``x`` with this centre and clip; with fitted ones if the clip is not above 0."""
        x = x.detach().cpu().float()
        ranges = self._valid_ranges(x, {n: t.detach().cpu().float() for n, t in ranges.items()})
        q = self._codes(x, ranges["centre"], ranges["clip"])
        said = {"codec": "levels", "shape": list(x.shape), "bits": self.bits}
        return Encoded({"": pack_bits(q.flatten(), self.bits), ".levels": self._stored_levels(ranges)}, said)

    def fake_quantize_with_ranges(self, x: Tensor, ranges: Ranges) -> Tensor:
        """Return what `pack_with_ranges` decodes to, to the last bit, with gradients by ``x``, centre and clip.

        Gradients of the ranges are scaled by 1 / √(n · Q), as those of ``uint``.
        """
        ranges = self._valid_ranges(x, ranges)
        fixed = {n: t.detach().to(x) for n, t in ranges.items()}
        q = self._codes(x.detach(), fixed["centre"], fixed["clip"])
        read = self._stored_levels({n: t.detach().float() for n, t in ranges.items()}).to(x)[q]
        if not torch.is_grad_enabled():
            return read
        scale = 1 / math.sqrt(max(1, x.numel()) * ((1 << self.bits) - 1))
        centre, clip = (fixed[n] + (t - t.detach()) * scale for n, t in ((n, ranges[n].to(x)) for n in ranges))
        u = ((x - centre) / torch.where(clip > 0, clip, torch.ones_like(clip))).clamp(-1, 1)
        smooth = centre + clip * (u + (self._levels(x)[q] - u).detach())
        return read + (smooth - smooth.detach())

    def _levels(self, like: Tensor) -> Tensor:
        return torch.tensor(LEVELS[self.bits], dtype=like.dtype, device=like.device)

    def _codes(self, x: Tensor, centre: Tensor, clip: Tensor) -> Tensor:
        """Return the indices of the nearest levels, int64."""
        levels = self._levels(x)
        u = torch.where(
            clip > 0, (x - centre) / torch.where(clip > 0, clip, torch.ones_like(clip)), torch.zeros_like(x)
        )
        return torch.bucketize(u, (levels[1:] + levels[:-1]) / 2)

    def _valid_ranges(self, x: Tensor, ranges: Ranges) -> Ranges:
        """Return the ranges in order; fitted ones if the clip is not above 0."""
        ranges = {n: ranges[n] for n in ("centre", "clip")}
        if float(ranges["clip"].detach()) > 0:
            return ranges
        return {n: t.to(ranges[n]) for n, t in self.fit_ranges(x).items()}

    def _stored_levels(self, ranges: Ranges) -> Tensor:
        """Return the levels as the file has them."""
        levels = ranges["centre"] + ranges["clip"] * self._levels(ranges["clip"])
        return levels.half() if bool(torch.isfinite(levels.half()).all()) else levels
