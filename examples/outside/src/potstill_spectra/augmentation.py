"""The augmentation of spectra: the baseline of an instrument drifts, and its gain changes."""

from dataclasses import dataclass

import torch
from torch import Generator, Tensor


@dataclass(frozen=True)
class Drift:
    """Adds a straight line and scales, by normal draws."""

    line: float = 0.1
    """Standard deviation of the line's ends, in model space."""
    gain: float = 0.1
    """Standard deviation of the factor about 1."""

    def draw(self, n: int, shape: tuple[int, ...], rng: Generator, /) -> Tensor:
        """Return both ends of the line and the gain of each sample (n, 3)."""
        return torch.randn(n, 3, generator=rng)

    def apply(self, x: Tensor, params: Tensor, /) -> Tensor:
        """Return spectra (m, 1, bins) with the drift of each, or of all where one was drawn."""
        left, right, gain = params.to(x).unsqueeze(-1).unsqueeze(-1).unbind(1)
        at = torch.linspace(0, 1, x.shape[-1], device=x.device, dtype=x.dtype)
        return x * (1 + self.gain * gain) + self.line * (left * (1 - at) + right * at)
