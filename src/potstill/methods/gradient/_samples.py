"""Real samples of gradient matching: those nearest to centres, and the statistics that a BatchNorm is frozen with."""

from collections.abc import Mapping

import torch
from torch import Generator, Tensor, nn

from potstill.core import Network, Problem
from potstill.functional.sampling import draw_per_class
from potstill.methods._matching import image, nearest_to_centres

__all__ = ["all_of_class", "frozen_statistics", "representative"]

BATCH_NORM_SAMPLES = 16
"""Real samples per class whose statistics a BatchNorm network is frozen with (DC's main.py, BNSizePC)."""

K_MEANS_ITERATIONS = 10
"""Of a choice of real samples near to centres. Ours."""


def representative(problem: Problem, net: Network, index: Tensor, n: int, rng: Generator) -> Tensor:
    """The samples of a class that lie nearest to ``n`` centres of its features."""
    return nearest_to_centres(problem, net, index, n, rng, K_MEANS_ITERATIONS)


def all_of_class(c: int, x: Tensor) -> Tensor:
    """The label ``c`` for each of ``x``."""
    return torch.full((len(x),), c, dtype=torch.int64, device=x.device)


def frozen_statistics(
    net: Network, theta: Mapping[str, Tensor], buffers: Mapping[str, Tensor], problem: Problem, rng: Generator
) -> Mapping[str, Tensor]:
    """BatchNorm statistics from real samples of all classes; leaves the norm layers of ``net`` in eval mode.

    One synthetic sample per class is too few for them. Networks without BatchNorm are left alone, nothing is drawn.
    """
    norms = [m for m in net.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    if not norms:
        return buffers
    x = image(problem.train.fetch(torch.cat(draw_per_class(problem.by_class, BATCH_NORM_SAMPLES, rng))).x)
    made = {n: b.clone() for n, b in buffers.items()}
    with torch.no_grad():
        torch.func.functional_call(net, {**theta, **made}, (x,))
    for norm in norms:
        norm.eval()
    return made
