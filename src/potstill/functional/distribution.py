"""Statistics of embedded samples (distribution matching).

Dataset Condensation with Distribution Matching (DM, arXiv:2110.04181, equation 4).
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

__all__ = ["class_means", "group_means", "mean_embedding_gap", "mean_gap"]


def mean_embedding_gap(real: Float[Tensor, "*k n d"], syn: Float[Tensor, "*k m d"]) -> Float[Tensor, ""]:
    """DM's loss: ``‖mean(real) − mean(syn)‖²``, summed over the features (not averaged) and over leading class axes.

    Args:
        real: embeddings of n real samples, of one class (n, d) or of k classes (k, n, d).
        syn: embeddings of m synthetic samples of the same classes.
    """
    return mean_gap(real.mean(-2), syn.mean(-2))


def mean_gap(real: Float[Tensor, "*k d"], syn: Float[Tensor, "*k d"]) -> Float[Tensor, ""]:
    """The squared distance of means that are already taken, summed over features and classes."""
    return ((real - syn) ** 2).sum()


def group_means(features: Float[Tensor, "n d"], sizes: Sequence[int]) -> Float[Tensor, "k d"]:
    """Means of consecutive groups, so that all classes go through a network in one batch.

    Args:
        features: rows of the first group, then of the second, and so on.
        sizes: rows of each group; at least 1 each, n in all.

    Raises:
        ValueError: a group is empty, or the sizes do not add up to n.
    """
    if min(sizes, default=0) < 1 or sum(sizes) != len(features):
        raise ValueError(
            f"group sizes must be at least 1 and add up to {len(features)} rows, but they are {tuple(sizes)}"
        )
    if len(set(sizes)) == 1:
        return features.reshape(len(sizes), sizes[0], -1).mean(1)
    return torch.stack([group.mean(0) for group in torch.split(features, list(sizes))])


def class_means(
    features: Float[Tensor, "n d"], labels: Int[Tensor, " n"] | Float[Tensor, "n k"], num_classes: int
) -> Float[Tensor, "k d"]:
    """Weighted means by class, for rows in any order.

    Args:
        features: embeddings.
        labels: int classes, or non-negative rows that say how much a sample belongs to each class.
        num_classes: k.

    Returns:
        One mean per class; a class without samples gets zeros.
    """
    rows = labels if labels.is_floating_point() else F.one_hot(labels.long(), num_classes)
    weights = rows.to(features).T
    total = weights.sum(1, keepdim=True)
    return (weights / torch.where(total == 0, 1.0, total)) @ features
