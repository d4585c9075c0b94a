"""Losses of self-supervised training: of two views of the same samples, without labels."""

from jaxtyping import Float
from torch import Tensor

__all__ = ["barlow_twins_loss", "cross_correlation"]

_EPS = 1e-5
"""Added to variances, as torch's BatchNorm does."""


def cross_correlation(a: Float[Tensor, "n d"], b: Float[Tensor, "n d"]) -> Float[Tensor, "d d"]:
    """Return the correlation, over the samples, of every column of ``a`` with every column of ``b``.

    Args:
        a: outputs for one view of each sample, n ≥ 2.
        b: outputs for another view.

    Examples:
        >>> import torch
        >>> x = torch.tensor([[1.0, 0.0], [-1.0, 1.0], [0.0, 2.0]])
        >>> cross_correlation(x, -x).diagonal().round(decimals=3).tolist()
        [-1.0, -1.0]
    """
    first, second = ((z - z.mean(0)) / (z.var(0, correction=0) + _EPS).sqrt() for z in (a, b))
    return first.T @ second / len(a)


def barlow_twins_loss(
    a: Float[Tensor, "n d"], b: Float[Tensor, "n d"], off_diagonal: float = 0.0051
) -> Float[Tensor, ""]:
    """Return the loss of Barlow Twins (Zbontar et al., ICML 2021, arXiv:2103.03230, eq. 1).

    ``Σ_i (1 − C_ii)² + λ Σ_i Σ_{j≠i} C_ij²``, C the `cross_correlation`: the two views of a sample are to be alike in
    every column, and the columns are to say different things.

    Args:
        a: outputs for one view of each sample, n ≥ 2.
        b: outputs for another view.
        off_diagonal: λ, at least 0.
    """
    c = cross_correlation(a, b)
    diagonal = c.diagonal()
    return (1 - diagonal).square().sum() + off_diagonal * (c.square().sum() - diagonal.square().sum())
