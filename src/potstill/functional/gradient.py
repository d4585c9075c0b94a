"""Distances between two sets of parameter gradients (gradient matching).

Dataset Condensation with Gradient Matching (DC, arXiv:2006.05929, equation 8) and its published variants.
"""

from collections.abc import Callable, Sequence
from typing import Literal, TypeAlias

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from potstill.errors import unknown_name

__all__ = ["Distance", "DistanceName", "convolutional", "cosine", "cosine_rows", "distance", "linear_gradient", "mse"]

DistanceName: TypeAlias = Literal["ours", "mse", "cos"]
"""The names DC gave its three distances."""


Distance: TypeAlias = Callable[[Sequence[Tensor], Sequence[Tensor]], Float[Tensor, ""]]
"""A distance of the synthetic batch's gradients (first) from the real batch's, parameter by parameter."""


def _norm(rows: Tensor) -> Tensor:
    # sqrt has an infinite slope at 0, which makes NaN in the second derivative; a zero row gets norm 0 and slope 0,
    # the same value and subgradient as torch.norm
    square = (rows * rows).sum(-1)
    zero = square == 0
    return torch.where(zero, 0.0, torch.where(zero, 1.0, square).sqrt())


def _gap(syn: Tensor, real: Tensor, eps: float) -> Tensor:
    return 1 - (syn * real).sum(-1) / (_norm(syn) * _norm(real) + eps)


def cosine_rows(g_syn: Sequence[Tensor], g_real: Sequence[Tensor], eps: float = 1e-6) -> Float[Tensor, ""]:
    """DC's own distance: the sum over parameters and output rows of ``1 − ⟨s, r⟩ / (‖s‖‖r‖ + eps)``.

    A parameter of two or more axes is read as (out, everything else); parameters of one axis (biases, the scale and
    shift of a normalization) contribute nothing. A row of zeros contributes exactly 1 and has a finite gradient.

    Args:
        g_syn: gradients of the synthetic loss, one tensor per parameter, with their graph.
        g_real: gradients of the real loss, same shapes and order, without a graph.
        eps: guard of the denominator; 1e-6 as published.

    Returns:
        A value in [0, 2 · rows].

    Raises:
        ValueError: the two have different numbers of parameters.
    """
    pairs = [(s, r) for s, r in zip(g_syn, g_real, strict=True) if s.ndim > 1]
    if not pairs:
        return g_syn[0].new_zeros(()) if g_syn else torch.zeros(())
    return torch.stack([_gap(s.flatten(1), r.flatten(1), eps).sum() for s, r in pairs]).sum()


def mse(g_syn: Sequence[Tensor], g_real: Sequence[Tensor]) -> Float[Tensor, ""]:
    """The sum of squared differences over every entry of every parameter (a sum, whatever its published name says).

    Raises:
        ValueError: the two have different numbers of parameters.
    """
    return torch.stack([((s - r) ** 2).sum() for s, r in zip(g_syn, g_real, strict=True)]).sum()


def cosine(g_syn: Sequence[Tensor], g_real: Sequence[Tensor], eps: float = 1e-6) -> Float[Tensor, ""]:
    """One cosine distance over all parameters laid end to end, one-axis parameters too; in [0, 2].

    Raises:
        ValueError: the two have different numbers of parameters.
    """
    pairs = [(s.flatten(), r.flatten()) for s, r in zip(g_syn, g_real, strict=True)]
    return _gap(torch.cat([s for s, _ in pairs]), torch.cat([r for _, r in pairs]), eps)


_DISTANCES: dict[str, Distance] = {"ours": cosine_rows, "mse": mse, "cos": cosine}


def distance(name: str) -> Distance:
    """The distance DC called ``name``: "ours" (`cosine_rows`), "mse" (`mse`) or "cos" (`cosine`).

    Raises:
        PotstillError: there is no such distance.
    """
    if name not in _DISTANCES:
        raise unknown_name("gradient distance", name, _DISTANCES)
    return _DISTANCES[name]


def convolutional(metric: Literal["mse", "l1"]) -> Distance:
    """IDC's distance: squared or absolute differences, summed over the weights of more than two axes alone.

    Where a network has none (an MLP), over its weights of two axes, so that something is matched. IDC, condense.py:
    the classifier and all biases are left out.
    """

    def gap(g_syn: Sequence[Tensor], g_real: Sequence[Tensor]) -> Float[Tensor, ""]:
        pairs = list(zip(g_syn, g_real, strict=True))
        used = [(s, r) for s, r in pairs if s.ndim > 2] or [(s, r) for s, r in pairs if s.ndim == 2]
        return torch.stack([((s - r) ** 2).sum() if metric == "mse" else (s - r).abs().sum() for s, r in used]).sum()

    return gap


def linear_gradient(
    features: Float[Tensor, "n d"], targets: Tensor, weight: Float[Tensor, "k d"]
) -> Float[Tensor, "k d+1"]:
    """The gradient of a linear classifier's mean cross-entropy, in closed form, differentiable by features and targets.

    ``(softmax(h Wᵀ) − y)ᵀ [h, 1] / n``: of the weights, and in the last column of a bias that is 0. Linear gradient
    matching (arXiv:2511.16674, equation 2).

    Args:
        features: what is classified.
        targets: classes (n,), int64, or rows (n, k) that sum to 1.
        weight: of the classifier.
    """
    y = targets if targets.is_floating_point() else F.one_hot(targets, len(weight)).to(features)
    wrong = (features @ weight.T).softmax(1) - y
    return torch.cat([wrong.T @ features, wrong.sum(0)[:, None]], 1) / len(features)
