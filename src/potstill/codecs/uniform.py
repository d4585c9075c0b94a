"""Codes of few bits with a range for each group: what most sets are stored in."""

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

__all__ = ["Ranges", "Uniform", "choose_range_axis"]

Ranges: TypeAlias = Mapping[str, Tensor]
"""What levels a store rounds to, by name: what it fits, and what is learned where it learns."""

_CHUNK = 1 << 22
"""Values that are rounded at once: codes in work take eight bytes each."""
_SHARE = 0.05
"""Ranges may take so much of what the codes take."""


def choose_range_axis(shape: tuple[int, ...], bits: int) -> int | None:
    """Along which axis of a tensor of ``shape`` ranges lie: the one with the most groups whose ranges, of 4 bytes each,
    take at most a twentieth of what the codes take; ``None``: one range for all. Rows and columns of pictures are no
    groups. The shape alone decides, so a plan knows it."""
    room = _SHARE * packed_bytes(math.prod(shape), bits) / 4
    axes = shape if len(shape) < 3 else shape[:-2]
    fitting = [(n, -d) for d, n in enumerate(axes) if 1 < n <= room]
    return -max(fitting)[1] if fitting else None


def _of(ranges: Tensor, axis: int | None, first: int, rows: int) -> Tensor:
    """The ranges of some rows."""
    return ranges[first : first + rows] if axis == 0 else ranges


@dataclass(frozen=True, kw_only=True)
class Uniform:
    """Equal steps between a group's lowest and highest level (`potstill.functional.quantize`).

    Raises:
        PotstillError: bits out of their range.
    """

    bits: int = 8
    """Of a value, 1 … 16."""
    labels: int = 8
    """Bits of a soft label's number, 1 … 16."""
    aware: bool = False
    """Round during distillation too, straight through (`potstill.parametrize.quantization_aware`): the set is made for
    its bits."""
    learned: bool = False
    """With ``aware``: ranges are optimised with the set, as QuADD does (arXiv:2603.02411); else they follow it."""

    def __post_init__(self) -> None:
        for name in ("bits", "labels"):
            if not 1 <= getattr(self, name) <= MOST_BITS:
                raise PotstillError(f"uint: {name} must be from 1 to {MOST_BITS}, not {getattr(self, name)}")

    @property
    def label_bits(self) -> int:
        """Bits of a soft label's number."""
        return self.labels

    def pack(self, x: Tensor, /) -> Encoded:
        """``x`` as codes and ranges. Ranges are floats of 16 bits where they fit."""
        x = x.detach().cpu().float()
        return self.pack_with_ranges(x, self.fit_ranges(x))

    def fake_quantize(self, x: Tensor, /) -> Tensor:
        """What reading back gives, to the last bit, with a gradient of 1 between the end levels and 0 beyond them.

        The end levels follow the values. If values beyond them moved too, both would run away together: a set of 700
        steps ended with its pictures inverted and its levels five standard deviations apart.
        """
        with torch.no_grad():
            ranges = self.fit_ranges(x)
            read = self.fake_quantize_with_ranges(x, ranges)
            low, high = (self._beside(ranges[end].to(x), x) for end in ("low", "high"))
            inside = (x >= low) & (x <= high)
        return read + (x - x.detach()) * inside

    def fit_ranges(self, x: Tensor) -> Ranges:
        """The least and the greatest level of each group: ``low`` and ``high``, of shape (groups,)."""
        low, step = fit_range(x, self.bits, choose_range_axis(tuple(x.shape), self.bits))
        return {"low": low.flatten(), "high": (low + step * ((1 << self.bits) - 1)).flatten()}

    def pack_with_ranges(self, x: Tensor, ranges: Ranges) -> Encoded:
        """``x`` in these ranges; a group whose lowest level is not below its highest is fitted instead."""
        x = x.detach().cpu().float()
        low, step = self._held(self._open(x, {n: t.detach().cpu().float() for n, t in ranges.items()}))
        axis = choose_range_axis(tuple(x.shape), self.bits)
        lows, steps = self._beside(low.float(), x), self._beside(step.float(), x)
        rows = 8 * max(1, _CHUNK // (8 * max(1, math.prod(x.shape[1:]))))  # whole bytes in each part
        parts: list[Tensor] = []
        for first in range(0, len(x), rows):
            low_here, step_here = _of(lows, axis, first, rows), _of(steps, axis, first, rows)
            q = quantize(x[first : first + rows], low_here, step_here, self.bits)
            parts.append(pack_bits(q.flatten(), self.bits))
        said = {"codec": "uniform", "shape": list(x.shape), "bits": self.bits, "axis": axis}
        return Encoded({"": torch.cat(parts), ".low": low, ".step": step}, said)

    def fake_quantize_with_ranges(self, x: Tensor, ranges: Ranges) -> Tensor:
        """What reading `packed` gives, to the last bit, with gradients by ``x`` and by the ranges.

        Those by the ranges are scaled by 1 / √(n · Q), n values in a group (LSQ; arXiv:1902.08153, section 2.2).
        """
        most = (1 << self.bits) - 1
        ranges = self._open(x, ranges)
        held = (self._beside(t.to(x), x) for t in self._held({n: t.detach().float() for n, t in ranges.items()}))
        low, step = held
        read = low + step * quantize(x.detach(), low, step, self.bits).to(x)
        if not torch.is_grad_enabled():
            return read
        scale = 1 / math.sqrt(x.numel() / max(1, low.numel()) * most)
        moving = {n: self._beside(t.to(x), x) * scale for n, t in ranges.items()}
        moving = {n: self._beside(ranges[n].detach().to(x), x) + (t - t.detach()) for n, t in moving.items()}
        span = moving["high"] - moving["low"]
        smooth = straight_through(
            x, moving["low"], torch.where(span > 0, span / most, torch.ones_like(span)), self.bits
        )
        return read + (smooth - smooth.detach())

    def _open(self, x: Tensor, ranges: Ranges) -> Ranges:
        """Ranges, and those of `fitted` in groups whose own hold nothing: a payload that starts at zero has such."""
        closed = ranges["high"].detach() <= ranges["low"].detach()
        if not bool(closed.any()):
            return ranges
        fitted = self.fit_ranges(x)
        return {n: torch.where(closed, fitted[n].to(t), t) for n, t in ranges.items()}

    def _held(self, ranges: Ranges) -> tuple[Tensor, Tensor]:
        """Lowest level and step as the file has them, from float32 ranges."""
        low, step = ranges["low"], ((ranges["high"] - ranges["low"]) / ((1 << self.bits) - 1)).clamp_min(0)
        if bool(torch.isfinite(torch.cat([low, step]).half()).all()) and self.bits <= 8:
            low, step = low.half(), step.half()
        return low, step

    def _beside(self, group: Tensor, x: Tensor) -> Tensor:
        return group.reshape(group_shape(x, choose_range_axis(tuple(x.shape), self.bits)))
