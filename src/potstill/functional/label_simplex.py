r"""Conversions between class probabilities and label scores.

In scores a hard label of class :math:`c` is :math:`e_c - 1/k`, a row that sums to 0: the targets of kernel ridge
regression (arXiv:2011.00050; arXiv:2206.00719).
"""

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["keep_largest", "project_to_simplex", "to_probabilities", "to_scores"]


def project_to_simplex(rows: Float[Tensor, "n k"]) -> Float[Tensor, "n k"]:
    r"""Project each row onto the probability simplex: :math:`\max(v_i - \tau, 0)` that sums to 1.

    Duchi et al., ICML 2008, figure 1; doi:10.1145/1390156.1390191. Keeps the order of a row's values. Computed in
    float64, returned in the dtype of ``rows``.
    """
    v = rows.double()
    v = v - v.amax(1, keepdim=True)  # which moves τ with it, and keeps sums of large values exact
    down = v.sort(1, descending=True).values
    over = (down.cumsum(1) - 1) / torch.arange(1, v.shape[1] + 1, device=v.device)
    kept = (down > over).sum(1, keepdim=True)
    return (v - over.gather(1, kept - 1)).clamp_min(0).to(rows.dtype)


def to_probabilities(scores: Float[Tensor, "n k"]) -> Float[Tensor, "n k"]:
    """Return the probabilities nearest to scores + 1/k, e.g. as cross-entropy targets."""
    return project_to_simplex(scores.double() + 1 / scores.shape[1]).to(scores.dtype)


def to_scores(rows: Float[Tensor, "n k"]) -> Float[Tensor, "n k"]:
    """Return probability rows as scores: less 1/k."""
    return rows - 1 / rows.shape[1]


def keep_largest(rows: Float[Tensor, "n k"], most: int) -> Float[Tensor, "n k"]:
    """Keep the ``most`` largest probabilities of each row, and divide by their sum; of equal ones the first."""
    if most >= rows.shape[1]:
        return rows
    order = rows.argsort(dim=1, descending=True, stable=True)[:, :most]
    kept = torch.zeros_like(rows).scatter(1, order, rows.gather(1, order))
    return kept / kept.sum(1, keepdim=True)
