"""Pictures that belong to no class, scores that tell them from test pictures, and the rate at which they do.

Maximum softmax probability: Hendrycks and Gimpel, arXiv:1610.02136. Energy: Liu et al., arXiv:2010.03759, whose score
is the log of the sum of exponentiated logits at temperature 1. A test picture should have the larger one.
"""

from collections.abc import Callable, Mapping

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from potstill.functional.roc import auc

__all__ = ["SCORES", "auroc", "shuffled_patches", "uniform_noise"]

SCORES: Mapping[str, Callable[[Tensor], Tensor]] = {
    "maximum softmax": lambda logits: logits.double().softmax(1).amax(1),
    "energy": lambda logits: logits.double().logsumexp(1),
}
"""Scores (n,) from logits (n, k), by name."""


def auroc(inside: Float[Tensor, " n"], outside: Float[Tensor, " m"]) -> float:
    """Return the chance that the score of a test picture is above that of an outlier; equal scores count one half."""
    return auc(outside, inside)


def uniform_noise(x: Float[Tensor, "n c h w"], rng: Generator) -> Float[Tensor, "n c h w"]:
    """Return pictures of independent uniform values in [0, 1]."""
    return torch.rand(x.shape, generator=rng).to(x)


def shuffled_patches(x: Float[Tensor, "n c h w"], rng: Generator) -> Float[Tensor, "n c h w"]:
    """Return pictures whose patches are each in a random order: 4 × 4 of them where the sides can be divided by 4.

    Other sides are cut into 3, 5, 7 or 2 parts, or into single pixels.
    """
    n, c, h, w = x.shape
    rows, columns = (next((parts for parts in (4, 3, 5, 7, 2) if side % parts == 0), side) for side in (h, w))
    tall, wide, many = h // rows, w // columns, rows * columns
    patches = x.reshape(n, c, rows, tall, columns, wide).permute(0, 2, 4, 1, 3, 5).reshape(n, many, c, tall, wide)
    order = torch.rand(n, many, generator=rng).argsort(1).to(x.device)
    patches = patches[torch.arange(n, device=x.device)[:, None], order]
    return patches.reshape(n, rows, columns, c, tall, wide).permute(0, 3, 1, 4, 2, 5).reshape(n, c, h, w)
