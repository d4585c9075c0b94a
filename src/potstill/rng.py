"""Generators made from seeds. The clock is never a seed and the global generator is never touched."""

import hashlib
import json

import torch
from torch import Generator

__all__ = ["derive_seed", "draw_seed", "generator"]


def derive_seed(seed: int, *path: str | int) -> int:
    """A child seed in [0, 2**63), a pure function (SHA-256) of ``seed`` and ``path``: parts never share draws."""
    digest = hashlib.sha256(json.dumps([seed, *path]).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def generator(seed: int, *path: str | int) -> Generator:
    """A private CPU generator for ``derive(seed, *path)``. Draws are made on the CPU: a device does not change them."""
    rng = Generator()
    rng.manual_seed(derive_seed(seed, *path))
    return rng


def draw_seed(rng: Generator) -> int:
    """One integer in [0, 2**62) from ``rng``: the way to hand a fresh seed to a network factory."""
    return int(torch.randint(0, 2**62, (1,), generator=rng).item())
