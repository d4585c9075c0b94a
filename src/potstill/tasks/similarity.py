r"""Learned similarity of pairs, and the loss on it (LoRS, Xu et al., ICML 2024, arXiv:2406.03793).

.. math:: S = \mathrm{diag}(a) + L R^\top, \qquad
    \ell = \tfrac12 \Big( \operatorname{mean}_{S_{ij} > 1/2} + \operatorname{mean}_{S_{ij} \le 1/2} \Big)
    \big[ -S_{ij} \log \sigma(z_{ij}) - (1 - S_{ij}) \log(1 - \sigma(z_{ij})) \big]

z are the logits of a batch, cosines over the temperature. As in the released program, 10⁻⁶ is added to both
probabilities and to the numbers of entries.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["join_similarities", "low_rank_similarity", "split_similarity", "weighted_bce"]

EPS = 1e-6


def split_similarity(rows: Float[Tensor, "n q"]) -> tuple[Tensor, Tensor, Tensor]:
    """Return the diagonal (n,) and both factors (n, rank) of a learned similarity from its rows.

    Raises:
        ValueError: the rows are not 1 + 2·rank numbers.
    """
    if rows.ndim != 2 or rows.shape[1] < 3 or rows.shape[1] % 2 == 0:
        raise ValueError(f"rows of a similarity have 1 + 2 x rank numbers, but these are {list(rows.shape)}")
    factors = rows[:, 1:].chunk(2, 1)
    return rows[:, 0], factors[0], factors[1]


def join_similarities(rows: Sequence[Float[Tensor, "_ _"]]) -> Float[Tensor, "n q"]:
    """Return the rows of several sets as those of one, in which a picture and a text of two sets have similarity 0."""
    parts = [split_similarity(some) for some in rows]
    n, rank = sum(len(part[0]) for part in parts), sum(part[1].shape[1] for part in parts)
    joined, at, column = rows[0].new_zeros(n, 1 + 2 * rank), 0, 1
    for diagonal, l_factor, r_factor in parts:
        below, beside = at + len(diagonal), column + l_factor.shape[1]
        joined[at:below, 0] = diagonal
        joined[at:below, column:beside], joined[at:below, rank + column : rank + beside] = l_factor, r_factor
        at, column = below, beside
    return joined


def low_rank_similarity(
    diagonal: Float[Tensor, " n"], l_factor: Float[Tensor, "n r"], r_factor: Float[Tensor, "n r"]
) -> Float[Tensor, "n n"]:
    """Return ``diag(diagonal) + l_factor r_factorᵀ``."""
    return torch.diag(diagonal) + l_factor @ r_factor.T


def weighted_bce(logits: Float[Tensor, "n m"], similarity: Float[Tensor, "n m"]) -> Float[Tensor, ""]:
    """Return the binary cross-entropy on a similarity, with the means of positive and negative entries in equal parts.

    Entries above 1/2 are positive; a part without entries counts as 0.
    """
    p = torch.sigmoid(logits)
    loss = -similarity * torch.log(p + EPS) - (1 - similarity) * torch.log(1 - p + EPS)
    positive = (similarity > 0.5).detach()
    zero = torch.zeros((), dtype=loss.dtype, device=loss.device)
    sums = [torch.where(mask, loss, zero).sum() / (mask.sum().to(loss.dtype) + EPS) for mask in (positive, ~positive)]
    return (sums[0] + sums[1]) / 2
