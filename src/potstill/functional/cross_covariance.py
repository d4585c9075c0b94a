r"""Cross-covariance of two views of the same samples, and the distance of two sets by it (CovMatch, arXiv:2510.18583).

Linear projections P, Q of features a and b whose contrastive loss is taken to first order, with a quadratic penalty,
have a best product that is the cross-covariance of the samples they learn from:

.. math:: \min_G\; -\operatorname{tr}(G^\top C) + \tfrac{\rho}{2} \lVert G \rVert_F^2 \;\Rightarrow\; G = C / \rho,
    \qquad C = E[a b^\top] - E[a]\, E[b]^\top

The loss on real samples of projections learned from synthetic ones is then, up to a constant and a factor,
:math:`\lVert C_T - C_S \rVert_F^2`.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["ViewMoments", "cross_covariance", "cross_covariance_gap", "view_moments"]


class ViewMoments(NamedTuple):
    """Means over samples of both views and of their products: sums that several holders of data can add."""

    first: Float[Tensor, " a"]
    second: Float[Tensor, " b"]
    product: Float[Tensor, "a b"]


def view_moments(first: Float[Tensor, "n a"], second: Float[Tensor, "n b"]) -> ViewMoments:
    """Return the moments of samples, whose rows are those of one sample in both views.

    Raises:
        ValueError: there are no samples.
    """
    if not len(first):
        raise ValueError("moments need at least one sample, but there is none")
    return ViewMoments(first.mean(0), second.mean(0), first.T @ second / len(first))


def cross_covariance(moments: ViewMoments) -> Float[Tensor, "a b"]:
    """Return ``E[a bᵀ] − E[a] E[b]ᵀ``."""
    return moments.product - torch.outer(moments.first, moments.second)


def cross_covariance_gap(real: ViewMoments, syn: ViewMoments, mean_weight: float) -> Float[Tensor, ""]:
    """Return ``‖C_T − C_S‖²_F + λ (‖E_T a − E_S a‖² + ‖E_T b − E_S b‖²)``.

    Args:
        mean_weight: λ, weight of the means of each view.
    """
    gap = (cross_covariance(real) - cross_covariance(syn)).square().sum()
    means = (real.first - syn.first).square().sum() + (real.second - syn.second).square().sum()
    return gap + mean_weight * means
