"""Point clouds of solids, turned about the vertical axis, as files: for tests and the benchmark."""

from math import pi
from pathlib import Path

import numpy as np
import torch
from torch import Generator, Tensor

from potstill.rng import generator

__all__ = ["SHAPES", "cloud", "write_shapes"]

SHAPES = ("box", "cone", "cylinder", "helix", "plate", "sphere", "star", "torus")


def cloud(shape: str, points: int, rng: Generator) -> Tensor:
    """Return points (points, 3) on a solid, stretched, turned about the second axis and with noise."""
    u, v, w = torch.rand(3, points, generator=rng)
    a = 2 * pi * u
    if shape == "sphere":
        z = 2 * v - 1
        x = torch.stack([(1 - z**2).sqrt() * a.cos(), z, (1 - z**2).sqrt() * a.sin()])
    elif shape == "cylinder":
        x = torch.stack([0.5 * a.cos(), 2 * v - 1, 0.5 * a.sin()])
    elif shape == "cone":
        r = v.sqrt()
        x = torch.stack([0.7 * r * a.cos(), 1 - 2 * r, 0.7 * r * a.sin()])
    elif shape == "torus":
        b = 2 * pi * v
        r = 0.7 + 0.3 * b.cos()
        x = torch.stack([r * a.cos(), 0.3 * b.sin(), r * a.sin()])
    elif shape == "box":
        x = 1.4 * torch.stack([u, v, w]) - 0.7
        side, end = torch.randint(3, (points,), generator=rng), torch.randint(2, (points,), generator=rng)
        x[side, torch.arange(points)] = 1.4 * end.float() - 0.7
    elif shape == "plate":
        x = torch.stack([2 * u - 1, 0.1 * w, 1.2 * v - 0.6])
    elif shape == "helix":
        b = 6 * pi * u
        x = torch.stack([0.5 * b.cos(), 2 * u - 1, 0.5 * b.sin()]) + 0.1 * torch.stack([v, w, v]) - 0.05
    else:
        arm = torch.randint(3, (points,), generator=rng)
        x = 0.12 * (torch.stack([u, v, w]) - 0.5)
        x[arm, torch.arange(points)] = 2 * u - 1
    stretch = 0.7 + 0.6 * torch.rand(3, 1, generator=rng)
    turn = 2 * pi * torch.rand((), generator=rng)
    c, s = turn.cos(), turn.sin()
    x = torch.stack(
        [c * (x * stretch)[0] + s * (x * stretch)[2], (x * stretch)[1], c * (x * stretch)[2] - s * (x * stretch)[0]]
    )
    return (x + 0.04 * torch.randn(3, points, generator=rng)).T


def write_shapes(root: Path, each: int, points: int = 64, seed: int = 0) -> Path:
    """Write ``each`` clouds of every shape as ``SHAPE/NAME.xyz``, and return the folder."""
    for shape in SHAPES:
        (root / shape).mkdir(parents=True, exist_ok=True)
        for n in range(each):
            values = cloud(shape, points, generator(seed, "cloud", shape, n))
            np.savetxt(root / shape / f"{n:04}.xyz", values.numpy(), fmt="%.4f")
    return root
