"""Weights of samples within their class: equal for every group, or lower where samples lie densely."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor

from potstill.functional.distances import chunks, pairwise_squared
from potstill.functional.sampling import sample_distinct

__all__ = ["density_weights", "group_weights"]

MAX_CENTRES = 4000
"""Largest number of samples of a class that its density is estimated from."""
_MAX_PAIRS = 500
"""Samples whose distances give the scale of a class."""


def group_weights(by_class: Sequence[Int[Tensor, " _"]], groups: Int[Tensor, " n"]) -> Float[Tensor, " n"]:
    """Return weights 1 / (G · n_g) within each class of G groups with n_g samples; they sum to 1 in a class.

    The weighted mean of a class is the barycentre of its groups, b = (1/G) Σ_g mean(T_g), which COBRA
    (arXiv:2605.00185) matches. The gradient of FairDD (arXiv:2411.19623), Σ_g |mean φ(T_g) − mean φ(S)|², is G times
    that of |b − mean φ(S)|².

    Args:
        by_class: indices of each class's samples.
        groups: int64 group of each sample.
    """
    weights = torch.zeros(len(groups), dtype=torch.float64)
    for at in by_class:
        _, which, sizes = torch.unique(groups[at], return_inverse=True, return_counts=True)
        weights[at] = 1 / (len(sizes) * sizes[which].double())
    return weights


def density_weights(
    rows: Float[Tensor, "n d"], by_class: Sequence[Int[Tensor, " _"]], bandwidth: float, rng: Generator
) -> Float[Tensor, " n"]:
    """Return weights that are inverse to a kernel density estimate within each class; they sum to 1 in a class.

    The kernel is exp(−d² / (2 h² m)) of the squared distance d², with bandwidth h and the class's median m of d². Where
    groups lie apart by more than the kernel is wide, each gets the same weight, as by `group_weights`, but needs no
    groups. Cui, Wang, Xiong and Hsieh (ICML 2024, arXiv:2406.06609) weight by the density in features of a network
    trained with labels; kernel and scale are ours.

    Args:
        rows: features of each sample.
        by_class: indices of each class's samples.
        bandwidth: h, above 0.
        rng: draws at most `MAX_CENTRES` samples of a class that its density is estimated from.
    """
    weights = torch.zeros(len(rows), dtype=torch.float64)
    for at in by_class:
        if not len(at):
            continue
        own = rows[at.to(rows.device)].float()
        order = sample_distinct(len(own), MAX_CENTRES, rng).to(own.device)
        some = own[order[:_MAX_PAIRS]]
        apart = pairwise_squared(some, some)
        scale = float(apart[apart > 0].median()) if bool((apart > 0).any()) else 1.0
        density = torch.zeros(len(own), dtype=torch.float64)
        for part in chunks(len(own), len(order)):
            kernel = torch.exp(pairwise_squared(own[part], own[order]) / (-2 * bandwidth**2 * scale))
            density[part] = kernel.mean(1).double().cpu()
        inverse = 1 / density.clamp_min(1e-9)
        weights[at] = inverse / inverse.sum()
    return weights
