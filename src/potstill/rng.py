"""Random generators from seeds. The clock is never a seed, and the global generator is never used."""

import hashlib
import json
from collections.abc import Sequence

import torch
from torch import Generator

__all__ = ["class_generators", "derive_seed", "draw_seed", "generator"]


def derive_seed(seed: int, *path: str | int) -> int:
    """Return a child seed in [0, 2**63): SHA-256 of ``seed`` and ``path``, so that parts never share draws."""
    digest = hashlib.sha256(json.dumps([seed, *path]).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def generator(seed: int, *path: str | int) -> Generator:
    """Return a CPU generator for ``derive_seed(seed, *path)``; draws on the CPU do not depend on the device."""
    rng = Generator()
    rng.manual_seed(derive_seed(seed, *path))
    return rng


def draw_seed(rng: Generator) -> int:
    """Draw a seed in [0, 2**62) from ``rng``, for a network factory."""
    return int(torch.randint(0, 2**62, (1,), generator=rng).item())


def class_generators(rng: Generator, names: Sequence[str]) -> tuple[Generator, ...]:
    """Return a generator for each class, keyed by its name.

    One number is drawn from ``rng`` whatever the classes are, so that a class's draws depend on it and on the class's
    name alone: they are the same whichever other classes there are, and however large these are.
    """
    base = draw_seed(rng)
    return tuple(generator(base, name) for name in names)
