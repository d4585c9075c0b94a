"""Bins of samples by graph cut for Dataset Quantization (Zhou et al., arXiv:2308.10524).

Samples are compared by their last layer's gradients g = (p − e_y) ⊗ [1, h] in factors; no n × n matrix is held.
Legend: n samples, k classes, d features.
"""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Generator, Tensor

from potstill.functional.gradient_norms import factors_of

__all__ = ["graph_cut_bins", "last_layer_factors", "share_out", "similarity"]


def last_layer_factors(
    logits: Float[Tensor, "n k"], features: Float[Tensor, "n d"], y: Int[Tensor, " n"]
) -> tuple[Float[Tensor, "n k"], Float[Tensor, "n e"]]:
    """Return the two factors of every sample's gradient of a linear last layer, each with unit norm (or zero).

    softmax − one-hot, and the features with a one for the bias, e = d + 1. The published code takes a softmax of the
    softmax, which flattens all gradients.
    """
    outer, inner = factors_of(logits.softmax(1), features, y)
    return F.normalize(outer, dim=1), F.normalize(inner, dim=1)


def similarity(
    outer: Float[Tensor, "n k"], inner: Float[Tensor, "n e"], a: Float[Tensor, "m k"], b: Float[Tensor, "m e"]
) -> Float[Tensor, "n m"]:
    """Return ``(1 + cos) / 2`` of the gradients of two sets of factors, in [0, 1]."""
    return 0.5 + 0.5 * (outer @ a.T) * (inner @ b.T)


def graph_cut_bins(
    outer: Float[Tensor, "n k"], inner: Float[Tensor, "n e"], count: int, weight: float = 1.0
) -> tuple[Int[Tensor, " _"], ...]:
    """Divide samples into ``count`` bins of nearly equal size, one bin after the other.

    A bin S takes the remaining sample x of D with the largest gain
    ``weight · Σ_{j ∈ D} s(x, j) − 2 Σ_{j ∈ S} s(x, j)``, where D are the samples remaining before the bin: early
    bins hold typical, diverse samples. Ties go to the lowest index.

    Args:
        outer, inner: factors of one class's gradients.
        count: number of bins, at least 1, at most the number of samples.
        weight: λ, at least 0.

    Returns:
        Rows of each bin in order of selection; the first ``n % count`` bins hold one more.
    """
    n = len(outer)
    count = min(count, n)
    remaining = torch.arange(n, device=outer.device)
    bins = []
    for size in (n // count + (i < n % count) for i in range(count)):
        a, b = outer[remaining], inner[remaining]
        # Σ_j ⟨a_x, a_j⟩⟨b_x, b_j⟩ over all j at once
        products = torch.einsum("xk,ke,xe->x", a, a.T @ b, b)
        gain = weight * (0.5 * len(remaining) + 0.5 * products)
        order: list[int] = []
        for _ in range(size):
            best = int(gain.argmax())
            order.append(best)
            gain = gain - 2 * similarity(a, b, a[best : best + 1], b[best : best + 1])[:, 0]
            gain[best] = -math.inf
        picked = torch.tensor(order, device=remaining.device)
        bins.append(remaining[picked])
        rest = torch.ones(len(remaining), dtype=torch.bool, device=remaining.device)
        rest[picked] = False
        remaining = remaining[rest]
    return tuple(bins)


def share_out(sizes: list[int], total: int, rng: Generator) -> list[int]:
    """Return the number to take from each bin: equal shares, the remainder from random bins.

    Args:
        sizes: bin sizes, which differ by at most one.
        total: number to take, at most their sum.
    """
    each, more = divmod(total, len(sizes))
    room = [i for i, size in enumerate(sizes) if size > each]
    lucky = {room[j] for j in torch.randperm(len(room), generator=rng)[:more].tolist()}
    return [each + (i in lucky) for i in range(len(sizes))]
