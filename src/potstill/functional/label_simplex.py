r"""Scores of classes and probabilities: what lies between a closed form's targets and cross-entropy's.

A score is a real number in units in which a hard label of class :math:`c` is :math:`e_c - 1/k`, so that its row sums to
0: the targets of kernel ridge regression (arXiv:2011.00050; arXiv:2206.00719).
"""

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["project_to_simplex", "to_probabilities", "to_scores"]


def project_to_simplex(rows: Float[Tensor, "n k"]) -> Float[Tensor, "n k"]:
    r"""The nearest point of the simplex to each row, in squared distance: :math:`\max(v_i - \tau, 0)` with the one
    :math:`\tau` for which it sums to 1 (Duchi et al., ICML 2008, figure 1; doi:10.1145/1390156.1390191).

    The order of a row's values stays, so its largest stays the largest. Rows of probabilities stay as they are, up to
    rounding. Computed in float64, returned in the dtype of ``rows``.
    """
    v = rows.double()
    v = v - v.amax(1, keepdim=True)  # which moves τ with it, and keeps sums of large values exact
    down = v.sort(1, descending=True).values
    over = (down.cumsum(1) - 1) / torch.arange(1, v.shape[1] + 1, device=v.device)
    kept = (down > over).sum(1, keepdim=True)
    return (v - over.gather(1, kept - 1)).clamp_min(0).to(rows.dtype)


def to_probabilities(scores: Float[Tensor, "n k"]) -> Float[Tensor, "n k"]:
    """What cross-entropy reads of scores: the nearest probabilities to scores + 1/k."""
    return project_to_simplex(scores.double() + 1 / scores.shape[1]).to(scores.dtype)


def to_scores(rows: Float[Tensor, "n k"]) -> Float[Tensor, "n k"]:
    """Rows, such as one-hot ones, as scores: less 1/k."""
    return rows - 1 / rows.shape[1]
