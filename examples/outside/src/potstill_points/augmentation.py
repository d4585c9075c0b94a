"""The augmentation of point clouds: turns about the vertical axis, and points that are a little elsewhere."""

from dataclasses import dataclass
from math import pi

import torch
from torch import Generator, Tensor

from potstill_points.turned import rotation


@dataclass(frozen=True)
class Turn:
    """Rotates each cloud about its second axis by any angle up to a limit, and moves every point by normal noise."""

    limit: float = pi
    """Largest angle in radians."""
    jitter: float = 0.02
    """Standard deviation of a point's coordinates, in units of the unit sphere."""

    def draw(self, n: int, shape: tuple[int, ...], rng: Generator, /) -> tuple[Tensor, Tensor]:
        """Return angle (n,) and noise (n, 3, points) of each cloud."""
        return (2 * torch.rand(n, generator=rng) - 1) * self.limit, torch.randn(n, *shape, generator=rng) * self.jitter

    def apply(self, x: Tensor, params: tuple[Tensor, Tensor], /) -> Tensor:
        """Return clouds (m, 3, points) turned and moved, each by its own numbers, or all by the one that was drawn."""
        angle, noise = (t.to(x) for t in params)
        zero = torch.zeros_like(angle)
        return rotation(torch.stack([zero, angle, zero], 1)) @ x + noise
