"""Whole multiples of one step: values whose codes are few and uneven, for entropy coding."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from potstill.core import Encoded
from potstill.errors import PotstillError
from potstill.functional.packing import MOST_BITS, pack_bits
from potstill.functional.rate import group_bits, picture_bits

__all__ = ["Step"]

_MOST = (1 << (MOST_BITS - 1)) - 1
"""Largest magnitude of a code."""
_COARSER = 2**0.125


@dataclass(frozen=True, kw_only=True)
class Step:
    """Values rounded to whole multiples of ``width``, which is the same for all values of a set.

    Unlike `Uniform` it has no ranges, and zero stays zero. It pays where values gather about zero, as coefficients do:
    packed codes have the bits of the largest magnitude, coded ones those of their entropy.

    Raises:
        PotstillError: a setting is out of its range.
    """

    width: float = 0.25
    """The step, above 0, in the units of the values; for coefficients of normalised pictures take 1 to 2. Under a size
    budget it is raised at the end until the set fits."""
    bits: float = 2.5
    """Bits of a value that a size budget is shared out by, above 0; what is coded may be more or less."""
    labels: int = 4
    """Bits of a soft label's number, 1 … 16."""
    aware: bool = True
    """Round while the set is made, too (`potstill.parametrize.quantization_aware`)."""
    rate: float = 0.0
    """Price of bits, at least 0: the loss gets so many times the estimated coded bits of a value. 0: none."""
    adapt: bool = False
    """Double or halve the price during the run, until a value takes ``bits`` bits; it starts at ``rate``."""

    def __post_init__(self) -> None:
        if not self.width > 0 or not self.bits > 0:
            raise PotstillError(f"step: width and bits must be above 0, not {self.width:g} and {self.bits:g}")
        if not 1 <= self.labels <= MOST_BITS:
            raise PotstillError(f"step: labels must be from 1 to {MOST_BITS}, not {self.labels}")
        if not self.rate >= 0 or (self.adapt and not self.rate):
            raise PotstillError(
                f"step: rate must be at least 0, and above 0 where it adapts, not {self.rate:g}; take rate=1e-3"
            )

    @property
    def label_bits(self) -> int:
        """Bits of a soft label's number."""
        return self.labels

    @property
    def planned_bits(self) -> float:
        """Bits of a value that a size budget is shared out by."""
        return self.bits

    def coarser(self) -> "Step":
        """Return the codec with a step that is an eighth of a doubling larger."""
        return replace(self, width=float(f"{self.width * _COARSER:.4g}"))

    def pack(self, x: Tensor, /) -> Encoded:
        """Encode ``x`` as codes, ``least + q``, and the step."""
        codes = self._codes(x.detach().cpu().float()).long()
        least = int(codes.min()) if codes.numel() else 0
        bits = max(1, (int(codes.max()) - least if codes.numel() else 0).bit_length())
        described = {"codec": "step", "shape": list(x.shape), "bits": bits, "least": least}
        return Encoded({"": pack_bits((codes - least).flatten(), bits), ".step": torch.tensor([self.width])}, described)

    def _codes(self, x: Tensor) -> Tensor:
        return (x / torch.tensor(self.width, dtype=torch.float32).to(x)).round().clamp(-_MOST, _MOST)

    def fake_quantize(self, x: Tensor, /) -> Tensor:
        """Return ``decode(pack(x))`` to the last bit, with gradient 1 everywhere."""
        read = self._codes(x.detach()) * torch.tensor(self.width, dtype=torch.float32).to(x)
        return read + (x - x.detach())

    def code_bits(self, x: Tensor, /) -> Tensor:
        """Return the estimated coded bits of ``x``, differentiable; of four axes they are pictures."""
        v = x / self.width
        return picture_bits(v) if x.ndim == 4 else group_bits(v)
