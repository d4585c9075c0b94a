"""Which samples of a pool to have labelled next, from a learner's probabilities and embeddings.

Scores are per sample, and the highest are asked for; batches that should differ among themselves are chosen greedily.
Ties go to the lowest index.
"""

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor

from potstill.errors import PotstillError

__all__ = ["badge", "core_set", "entropy", "least_confidence", "margin", "top"]

_CHUNK = 1 << 24
"""Entries of a temporary."""


def least_confidence(p: Float[Tensor, "n k"]) -> Float[Tensor, " n"]:
    """``1 − max_c p_c`` (Lewis and Gale, SIGIR 1994): in [0, 1 − 1/k]."""
    return 1 - p.amax(1)


def entropy(p: Float[Tensor, "n k"]) -> Float[Tensor, " n"]:
    """``−Σ_c p_c log p_c`` in nats, with 0 log 0 = 0: in [0, log k]."""
    terms: Tensor = torch.special.xlogy(p, p)
    return -terms.sum(1)


def margin(p: Float[Tensor, "n k"]) -> Float[Tensor, " n"]:
    """``1 − (p_first − p_second)``, the two likeliest classes (Scheffer et al. 2001): in [0, 1]; k ≥ 2."""
    best = p.topk(2, dim=1).values
    return 1 - (best[:, 0] - best[:, 1])


def top(scores: Float[Tensor, " n"], m: int) -> Int[Tensor, " m"]:
    """The ``m`` highest, highest first."""
    _check(len(scores), m)
    return torch.argsort(scores, descending=True, stable=True)[:m].cpu()


def _check(n: int, m: int) -> None:
    if not 1 <= m <= n:
        raise PotstillError(f"1 to {n} samples of the pool can be requested, but {m} are; ask for fewer")


def badge(p: Float[Tensor, "n k"], h: Float[Tensor, "n d"], m: int, rng: Generator) -> Int[Tensor, " m"]:
    """BADGE (Ash et al., ICLR 2020, arXiv:1906.03671, algorithm 1): k-means++ over gradients of the last layer.

    The gradient of the cross-entropy with the likeliest class in place of the label is ``g_i = a_i ⊗ h_i`` with
    ``a_i = p_i − onehot(argmax p_i)``. It is never formed: ``⟨g_i, g_j⟩ = ⟨a_i, a_j⟩ ⟨h_i, h_j⟩``, so that a step costs
    O(n (k + d)) and not O(n k d).

    Args:
        p: the learner's probabilities.
        h: embeddings, what the last layer gets.
        m: how many, 1 ≤ m ≤ n.
        rng: decides the draws; the first is the longest gradient.

    Returns:
        Distinct rows in the order of choice.

    Raises:
        PotstillError: ``m`` is not in 1…n.
    """
    _check(len(p), m)
    a, h = p.double().clone(), h.double()
    a[torch.arange(len(a)), p.argmax(1)] -= 1
    length = a.square().sum(1) * h.square().sum(1)
    order = [int(length.argmax())]
    taken = torch.zeros(len(a), dtype=torch.bool)
    reach = torch.full_like(length, torch.inf)
    while True:
        i = order[-1]
        taken[i] = True
        inner = (a @ a[i]) * (h @ h[i])
        # without what rounding leaves of two equal gradients
        reach = torch.minimum(reach, (length + length[i] - 2 * inner).clamp_min(0)).masked_fill(taken.to(h.device), 0)
        if len(order) == m:
            return torch.tensor(order)
        cumulative = reach.cpu().cumsum(0)
        draw = torch.rand((), generator=rng, dtype=torch.float64) * cumulative[-1]
        at = int(torch.searchsorted(cumulative, draw, right=True).clamp_max(len(a) - 1))
        # all that is left may equal what was taken
        order.append(at if not taken[at] else int((~taken).nonzero()[0]))


def core_set(h: Float[Tensor, "n d"], covered: Float[Tensor, "l d"], m: int) -> Int[Tensor, " m"]:
    """Core-set (Sener and Savarese, ICLR 2018, arXiv:1708.00489, algorithm 1): k-center greedy from what is labelled.

    Each pick is the row farthest from all that are covered: ``argmax_i min_{j covered or picked} ‖h_i − h_j‖``.

    Args:
        h: embeddings of the pool.
        covered: embeddings of the labelled samples, l ≥ 0; with none the first pick is the row farthest from the mean.
        m: how many, 1 ≤ m ≤ n.

    Returns:
        Distinct rows in the order of choice; every prefix is the choice for a smaller ``m``.

    Raises:
        PotstillError: ``m`` is not in 1…n.
    """
    _check(len(h), m)
    covered = covered if len(covered) else h.mean(0, keepdim=True)
    rows = max(1, _CHUNK // len(covered))
    reach = torch.cat(
        [
            torch.cdist(part, covered, compute_mode="donot_use_mm_for_euclid_dist").amin(1)
            for part in torch.split(h, rows)
        ]
    )
    order: list[int] = []
    for _ in range(m):
        i = int(reach.argmax())
        order.append(i)
        reach = torch.minimum(reach, (h - h[i]).norm(dim=1))
        reach[torch.tensor(order)] = -1.0  # below every distance: none is taken twice
    return torch.tensor(order)
