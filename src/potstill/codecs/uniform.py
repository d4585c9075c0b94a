"""Uniform quantization with a range for each group: the usual codec of a set."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from potstill.core import Encoded
from potstill.errors import PotstillError
from potstill.functional.packing import MOST_BITS, pack_bits, packed_bytes
from potstill.functional.quantize import fit_range, group_shape, quantize, straight_through
from potstill.functional.rate import group_bits, picture_bits

__all__ = ["Ranges", "Uniform", "choose_range_axis"]

Ranges: TypeAlias = Mapping[str, Tensor]
"""Levels of a codec by name: fitted, or learned with the set."""

_CHUNK = 1 << 22
"""Values quantized at once; each takes eight bytes meanwhile."""
_SHARE = 0.05
"""Maximum share of the ranges in the bytes of the codes."""


def choose_range_axis(shape: tuple[int, ...], bits: int) -> int | None:
    """Return the axis of the ranges of a tensor of ``shape``; ``None``: one range for all.

    It is the axis with the most groups whose ranges, of 4 bytes each, take at most a twentieth of the bytes of the
    codes. Rows and columns of images are no groups.
    """
    room = _SHARE * packed_bytes(math.prod(shape), bits) / 4
    axes = shape if len(shape) < 3 else shape[:-2]
    fitting = [(n, -d) for d, n in enumerate(axes) if 1 < n <= room]
    return -max(fitting)[1] if fitting else None


def _slice_rows(ranges: Tensor, axis: int | None, first: int, rows: int) -> Tensor:
    return ranges[first : first + rows] if axis == 0 else ranges


@dataclass(frozen=True, kw_only=True)
class Uniform:
    """Equal steps between a group's lowest and highest level (`potstill.functional.quantize`).

    Raises:
        PotstillError: bits out of their range.
    """

    bits: int = 8
    """Bits of a value, 1 … 16."""
    labels: int = 8
    """Bits of a soft label's number, 1 … 16."""
    aware: bool = False
    """Quantize during distillation too, straight-through (`potstill.parametrize.quantization_aware`)."""
    learned: bool = False
    """With ``aware``: optimise the ranges with the set, as QuADD (arXiv:2603.02411); else they are fitted to it."""
    rate: float = 0.0
    """Price of bits, at least 0: the loss gets so many times the estimated coded bits of a value. 0: none; above 0 is
    ``aware``, too."""

    def __post_init__(self) -> None:
        for name in ("bits", "labels"):
            if not 1 <= getattr(self, name) <= MOST_BITS:
                raise PotstillError(f"uint: {name} must be from 1 to {MOST_BITS}, not {getattr(self, name)}")
        if not self.rate >= 0:
            raise PotstillError(f"uint: rate must be at least 0, not {self.rate:g}")

    @property
    def label_bits(self) -> int:
        """Bits of a soft label's number."""
        return self.labels

    def pack(self, x: Tensor, /) -> Encoded:
        """Encode ``x`` as codes and ranges, float16 where they fit."""
        x = x.detach().cpu().float()
        return self.pack_with_ranges(x, self.fit_ranges(x))

    def fake_quantize(self, x: Tensor, /) -> Tensor:
        """Return ``decode(pack(x))`` to the last bit, with gradient 1 between the end levels and 0 beyond them.

        End levels follow the values. If values beyond them moved too, both would diverge: a set of 700 steps ended with
        its images inverted and its levels five standard deviations apart.
        """
        with torch.no_grad():
            ranges = self.fit_ranges(x)
            read = self.fake_quantize_with_ranges(x, ranges)
            low, high = (self._broadcast(ranges[end].to(x), x) for end in ("low", "high"))
            inside = (x >= low) & (x <= high)
        return read + (x - x.detach()) * inside

    def fit_ranges(self, x: Tensor) -> Ranges:
        """Return the lowest and highest level of each group: ``low`` and ``high`` (groups,)."""
        low, step = fit_range(x, self.bits, choose_range_axis(tuple(x.shape), self.bits))
        return {"low": low.flatten(), "high": (low + step * ((1 << self.bits) - 1)).flatten()}

    def code_bits(self, x: Tensor, /) -> Tensor:
        """Return the estimated coded bits of ``x``, differentiable.

        Of four axes they are pictures; else each place after the first axis has a mean code.
        """
        with torch.no_grad():
            low, step = self._low_and_step(self.fit_ranges(x))
        low, step = (self._broadcast(t.to(x), x) for t in (low, step))
        v = (x - low) / torch.where(step > 0, step, torch.ones_like(step))
        most = (1 << self.bits) - 1
        v = v.clamp(0, most)
        return picture_bits(v) if x.ndim == 4 else group_bits(v - v.detach().mean(0).round())

    def pack_with_ranges(self, x: Tensor, ranges: Ranges) -> Encoded:
        """Encode ``x`` in these ranges; a group whose ``low`` is not below its ``high`` is fitted."""
        x = x.detach().cpu().float()
        low, step = self._low_and_step(self._valid_ranges(x, {n: t.detach().cpu().float() for n, t in ranges.items()}))
        axis = choose_range_axis(tuple(x.shape), self.bits)
        lows, steps = self._broadcast(low.float(), x), self._broadcast(step.float(), x)
        rows = 8 * max(1, _CHUNK // (8 * max(1, math.prod(x.shape[1:]))))  # whole bytes in each part
        parts: list[Tensor] = []
        for first in range(0, len(x), rows):
            low_here, step_here = _slice_rows(lows, axis, first, rows), _slice_rows(steps, axis, first, rows)
            q = quantize(x[first : first + rows], low_here, step_here, self.bits)
            parts.append(pack_bits(q.flatten(), self.bits))
        said = {"codec": "uniform", "shape": list(x.shape), "bits": self.bits, "axis": axis}
        return Encoded({"": torch.cat(parts), ".low": low, ".step": step}, said)

    def fake_quantize_with_ranges(self, x: Tensor, ranges: Ranges) -> Tensor:
        """Return what `pack_with_ranges` decodes to, to the last bit, with gradients by ``x`` and the ranges.

        Gradients of the ranges are scaled by 1 / √(n · Q), n values in a group (LSQ; arXiv:1902.08153, section 2.2).
        """
        most = (1 << self.bits) - 1
        ranges = self._valid_ranges(x, ranges)
        low, step = (
            self._broadcast(t.to(x), x) for t in self._low_and_step({n: t.detach().float() for n, t in ranges.items()})
        )
        read = low + step * quantize(x.detach(), low, step, self.bits).to(x)
        if not torch.is_grad_enabled():
            return read
        scale = 1 / math.sqrt(x.numel() / max(1, low.numel()) * most)
        moving = {n: self._broadcast(t.to(x), x) * scale for n, t in ranges.items()}
        moving = {n: self._broadcast(ranges[n].detach().to(x), x) + (t - t.detach()) for n, t in moving.items()}
        span = moving["high"] - moving["low"]
        smooth = straight_through(
            x, moving["low"], torch.where(span > 0, span / most, torch.ones_like(span)), self.bits
        )
        return read + (smooth - smooth.detach())

    def _valid_ranges(self, x: Tensor, ranges: Ranges) -> Ranges:
        """Return the ranges, fitted ones in groups of width 0 (a payload that starts at zero)."""
        closed = ranges["high"].detach() <= ranges["low"].detach()
        if not bool(closed.any()):
            return ranges
        fitted = self.fit_ranges(x)
        return {n: torch.where(closed, fitted[n].to(t), t) for n, t in ranges.items()}

    def _low_and_step(self, ranges: Ranges) -> tuple[Tensor, Tensor]:
        """Return lowest level and step as the file has them, from float32 ranges."""
        low, step = ranges["low"], ((ranges["high"] - ranges["low"]) / ((1 << self.bits) - 1)).clamp_min(0)
        if bool(torch.isfinite(torch.cat([low, step]).half()).all()) and self.bits <= 8:
            low, step = low.half(), step.half()
        return low, step

    def _broadcast(self, group: Tensor, x: Tensor) -> Tensor:
        return group.reshape(group_shape(x, choose_range_axis(tuple(x.shape), self.bits)))
