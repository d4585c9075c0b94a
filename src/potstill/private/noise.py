"""Floating-point Gaussian noise from the entropy of the operating system."""

import os

import numpy as np
import torch
from jaxtyping import Float
from torch import Generator, Tensor

__all__ = ["NOISE", "gaussian_noise"]

NOISE = "Gaussian, in floating point"
"""Its name in files: no discrete mechanism, so that attacks on the rounding of floating-point noise are not covered."""


def gaussian_noise(shape: tuple[int, ...], generator: Generator | None = None) -> Float[Tensor, "..."]:
    """Return standard normal noise, float64.

    Args:
        shape: of the noise.
        generator: for tests alone; ``None``: fresh bits of the operating system, 53 for each uniform number.
    """
    if generator is not None:
        return torch.randn(shape, generator=generator, dtype=torch.float64)
    count = int(np.prod(shape, dtype=np.int64))
    pairs = (count + 1) // 2
    bits = np.frombuffer(os.urandom(16 * pairs), dtype=np.uint64) >> np.uint64(11)
    uniform = (bits.astype(np.float64) + 0.5) * 2.0**-53  # in (0, 1)
    radius, angle = np.sqrt(-2 * np.log(uniform[:pairs])), 2 * np.pi * uniform[pairs:]
    normal = np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])[:count]
    return torch.from_numpy(normal.reshape(shape))
