"""Bins of samples by graph cut, as Dataset Quantization makes them (Zhou et al., arXiv:2308.10524).

Samples are compared by the gradient that each would give the last layer, g = (p − e_y) ⊗ [1, h], without writing g
down: the product of two such is that of their factors' products. Nothing here holds an n × n matrix. Legend:
n samples, k classes, d features.
"""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Generator, Tensor

from potstill.functional.gradient_norms import factors_of

__all__ = ["bins", "last_layer_factors", "similarity", "spread"]


def last_layer_factors(
    logits: Float[Tensor, "n k"], features: Float[Tensor, "n d"], y: Int[Tensor, " n"]
) -> tuple[Float[Tensor, "n k"], Float[Tensor, "n e"]]:
    """The two factors of every sample's gradient of a linear last layer, each of unit length (or zero).

    The first is that of the cross-entropy by the logits, softmax − one-hot; the second the features with a one for the
    bias, e = d + 1. The published code takes a softmax of the softmax there, which flattens all gradients.
    """
    outer, inner = factors_of(logits.softmax(1), features, y)
    return F.normalize(outer, dim=1), F.normalize(inner, dim=1)


def similarity(
    outer: Float[Tensor, "n k"], inner: Float[Tensor, "n e"], a: Float[Tensor, "m k"], b: Float[Tensor, "m e"]
) -> Float[Tensor, "n m"]:
    """``(1 + cos) / 2`` of the gradients that two sets of factors stand for, in [0, 1]."""
    return 0.5 + 0.5 * (outer @ a.T) * (inner @ b.T)


def bins(
    outer: Float[Tensor, "n k"], inner: Float[Tensor, "n e"], count: int, weight: float = 1.0
) -> tuple[Int[Tensor, " _"], ...]:
    """All samples in ``count`` bins of nearly equal size, made one after the other from those that are left.

    Into a bin S goes, again and again, the sample x of those left, D, with the greatest gain
    ``weight · Σ_{j ∈ D} s(x, j) − 2 Σ_{j ∈ S} s(x, j)``; D is what the bin began with. So early bins hold typical
    samples that differ among each other. Ties go to the lowest index.

    Args:
        outer, inner: factors of one class's gradients.
        count: at least 1; where there are fewer samples, as many bins as samples.
        weight: λ at least 0.

    Returns:
        Rows of each bin, in the order of choice; the first ``n % count`` bins hold one more.
    """
    n = len(outer)
    count = min(count, n)
    left = torch.arange(n, device=outer.device)
    made = []
    for size in (n // count + (i < n % count) for i in range(count)):
        a, b = outer[left], inner[left]
        # Σ_j ⟨a_x, a_j⟩⟨b_x, b_j⟩ over all j at once
        together = torch.einsum("xk,ke,xe->x", a, a.T @ b, b)
        gain = weight * (0.5 * len(left) + 0.5 * together)
        chosen: list[int] = []
        for _ in range(size):
            best = int(gain.argmax())
            chosen.append(best)
            gain = gain - 2 * similarity(a, b, a[best : best + 1], b[best : best + 1])[:, 0]
            gain[best] = -math.inf
        picked = torch.tensor(chosen, device=left.device)
        made.append(left[picked])
        rest = torch.ones(len(left), dtype=torch.bool, device=left.device)
        rest[picked] = False
        left = left[rest]
    return tuple(made)


def spread(sizes: list[int], wanted: int, rng: Generator) -> list[int]:
    """How many to take of each bin: equally many, and one more of some that are drawn at random and hold as many.

    Args:
        sizes: of bins, which differ by one at most.
        wanted: at most their sum.
    """
    each, more = divmod(wanted, len(sizes))
    room = [i for i, size in enumerate(sizes) if size > each]
    lucky = {room[j] for j in torch.randperm(len(room), generator=rng)[:more].tolist()}
    return [each + (i in lucky) for i in range(len(sizes))]
