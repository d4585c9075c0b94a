"""Codes of few bits with a range for each group: what most sets are stored in."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from potstill.core import Stored
from potstill.errors import PotstillError
from potstill.functional.packing import MOST_BITS, pack_bits, packed_bytes
from potstill.functional.quantize import codes_of, fit_range, grouped, straight_through

__all__ = ["Uniform", "range_axis"]

_SHARE = 0.05
"""Ranges may take so much of what the codes take."""


def range_axis(shape: tuple[int, ...], bits: int) -> int | None:
    """Along which axis of a tensor of ``shape`` ranges lie: the one with the most groups whose ranges, of 4 bytes each,
    take at most a twentieth of what the codes take; ``None``: one range for all. Rows and columns of pictures are no
    groups. The shape alone decides, so a plan knows it."""
    room = _SHARE * packed_bytes(math.prod(shape), bits) / 4
    axes = shape if len(shape) < 3 else shape[:-2]
    fitting = [(n, -d) for d, n in enumerate(axes) if 1 < n <= room]
    return -max(fitting)[1] if fitting else None


@dataclass(frozen=True, kw_only=True)
class Uniform:
    """Equal steps between a group's lowest and highest level (`potstill.functional.quantize`).

    Raises:
        PotstillError: bits out of their range.
    """

    bits: int = 8
    """Of a value, 1 … 16."""
    labels: int = 8
    """Bits of a soft label's number, 1 … 16; 16: a float."""
    aware: bool = False
    """Round during distillation too, straight through (`potstill.parametrize.aware`): the set is made for its bits."""
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

    def pack(self, x: Tensor, /) -> Stored:
        """``x`` as codes and ranges. Ranges are floats of 16 bits where they fit."""
        x = x.detach().cpu().float()
        axis = range_axis(tuple(x.shape), self.bits)
        low, step = fit_range(x, self.bits, axis)
        if bool(torch.isfinite(torch.cat([low.flatten(), step.flatten()]).half()).all()) and self.bits <= 8:
            low, step = low.half(), step.half()
        q = codes_of(x, low.float(), step.float(), self.bits)
        said = {"codec": "uniform", "shape": list(x.shape), "bits": self.bits, "axis": axis}
        return Stored({"": pack_bits(q.flatten(), self.bits), ".low": low.flatten(), ".step": step.flatten()}, said)

    def rounded(self, x: Tensor, /) -> Tensor:
        """What reading back would give, with a gradient: 1 inside the range (straight through)."""
        axis = range_axis(tuple(x.shape), self.bits)
        low, step = (t.to(x) for t in fit_range(x, self.bits, axis))
        return straight_through(x, low, torch.where(step > 0, step, torch.ones_like(step)), self.bits)

    def groups(self, x: Tensor) -> tuple[int, ...]:
        """The shape of one range for each group."""
        return grouped(x, range_axis(tuple(x.shape), self.bits))
