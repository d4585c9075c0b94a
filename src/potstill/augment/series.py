"""Augmentation of series (channels, length): scale, shift and warp along time, noise.

The operations of Um et al., "Data augmentation of wearable sensor data", arXiv:1706.00527, with one linear warp for a
smooth one. Every sample has a draw of its own; with one draw for a batch all share it, as siamese methods need.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from potstill.errors import PotstillError

__all__ = ["AlongTime", "AlongTimeParams", "series"]


@dataclass(frozen=True, slots=True)
class AlongTimeParams:
    """Parameters of one draw, with one entry for each sample."""

    factor: Float[Tensor, "n c"]
    """Factor of each channel."""
    speed: Float[Tensor, " n"]
    """Points of the input in a step of the output."""
    shift: Float[Tensor, " n"]
    """Points of the input that the middle moves by."""
    noise: Float[Tensor, "n c t"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AlongTime:
    """Scales, warps and shifts series, and adds noise; linear in the series, in model space.

    Attributes:
        scale: standard deviation of the factors around 1.
        warp: largest change of speed: a factor in [1 − warp, 1 + warp].
        shift: largest shift, as a fraction of the length.
        noise: standard deviation of the noise.
    """

    scale: float = 0.1
    warp: float = 0.1
    shift: float = 0.1
    noise: float = 0.03

    def draw(self, n: int, shape: tuple[int, ...], rng: Generator, /) -> AlongTimeParams:
        """Draw parameters for ``n`` series of ``shape`` (c, t); with ``n = 1`` a batch shares them.

        Raises:
            PotstillError: the shape is not (c, t).
        """
        if len(shape) != 2:
            raise PotstillError(
                f"augmentation series needs series (channels, length), but one input is {shape}; use another, or 'none'"
            )
        c, t = shape

        def within(largest: float) -> Tensor:
            return (2 * torch.rand(n, generator=rng) - 1) * largest

        return AlongTimeParams(
            factor=1 + self.scale * torch.randn(n, c, generator=rng), speed=1 + within(self.warp),
            shift=within(self.shift * t), noise=self.noise * torch.randn(n, c, t, generator=rng),
        )  # fmt: skip

    def apply(self, x: Float[Tensor, "n c t"], params: AlongTimeParams, /) -> Float[Tensor, "n c t"]:
        """Return the augmented series; values beyond an end are those of the end."""
        n, c, t = x.shape
        middle, steps = (t - 1) / 2, torch.arange(t, dtype=torch.float64)
        at = (steps - middle) * params.speed.double()[:, None] + middle + params.shift.double()[:, None]
        at = at.clamp(0, t - 1).to(x.device).expand(n, t)
        low = at.floor().long()
        part = (at - low).to(x.dtype)[:, None]
        low = low[:, None].expand(n, c, t)
        warped = x.gather(2, low) * (1 - part) + x.gather(2, (low + 1).clamp(max=t - 1)) * part
        return warped * params.factor.to(x)[:, :, None] + params.noise.to(x)


def series() -> AlongTime:
    """Return the augmentation with its default settings."""
    return AlongTime()
