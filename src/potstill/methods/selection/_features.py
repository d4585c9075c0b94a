"""What selection methods measure distances in."""

from typing import Literal

import torch
from torch import Generator, Tensor

from potstill.core import Batch, Problem
from potstill.data.passes import each
from potstill.methods._matching import image
from potstill.rng import draw_seed

__all__ = ["FeatureName", "class_features", "network_seed"]

FeatureName = Literal["input", "untrained"]
"""``input``: the normalised input, flattened. ``untrained``: the embedding of one freshly initialised network."""

CHUNK = 1024


def network_seed(rng: Generator) -> int:
    """The seed of the network that embeds, drawn even if it is not used, so that draws do not depend on the choice."""
    return draw_seed(rng)


def class_features(problem: Problem, index: Tensor, features: FeatureName, seed: int) -> Tensor:
    """Features (m, d) of the real samples at ``index``, on the source's device."""
    net = problem.network(seed).eval() if features == "untrained" else None

    def of(batch: Batch) -> Tensor:
        x = image(batch.x)
        return x.flatten(1) if net is None else net.embed(x)

    with torch.no_grad():
        return each(problem.train, index, CHUNK, of)
