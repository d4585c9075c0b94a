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

__all__ = ["Distance", "convolutional", "cosine", "cosine_rows", "distance", "linear_gradient", "mse"]

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
    """Return DC's own distance: the sum over parameters and output rows of ``1 − ⟨s, r⟩ / (‖s‖‖r‖ + eps)``.

    Parameters are flattened to (out, rest); those of one axis (biases, scales and shifts of norms) are ignored. A row
    of zeros contributes exactly 1 and has a finite gradient.

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
    """Return the sum of squared differences over all entries of all parameters.

    Raises:
        ValueError: the two have different numbers of parameters.
    """
    return torch.stack([((s - r) ** 2).sum() for s, r in zip(g_syn, g_real, strict=True)]).sum()


def cosine(g_syn: Sequence[Tensor], g_real: Sequence[Tensor], eps: float = 1e-6) -> Float[Tensor, ""]:
    """Return one cosine distance over all parameters concatenated, in [0, 2].

    Raises:
        ValueError: the two have different numbers of parameters.
    """
    pairs = [(s.flatten(), r.flatten()) for s, r in zip(g_syn, g_real, strict=True)]
    return _gap(torch.cat([s for s, _ in pairs]), torch.cat([r for _, r in pairs]), eps)


_DISTANCES: dict[str, Distance] = {"ours": cosine_rows, "mse": mse, "cos": cosine}


def distance(name: str) -> Distance:
    """Return the distance that DC calls ``name``: "ours" (`cosine_rows`), "mse" (`mse`) or "cos" (`cosine`).

    Raises:
        PotstillError: there is no such distance.
    """
    if name not in _DISTANCES:
        raise unknown_name("gradient distance", name, _DISTANCES)
    return _DISTANCES[name]


def convolutional(metric: Literal["mse", "l1"]) -> Distance:
    """Return IDC's distance: squared or absolute differences, summed over convolution weights (more than two axes).

    For a network without convolutions (an MLP), over weights of two axes. As in IDC's condense.py, biases and, with
    convolutions, the classifier are left out.
    """

    def gap(g_syn: Sequence[Tensor], g_real: Sequence[Tensor]) -> Float[Tensor, ""]:
        pairs = list(zip(g_syn, g_real, strict=True))
        used = [(s, r) for s, r in pairs if s.ndim > 2] or [(s, r) for s, r in pairs if s.ndim == 2]
        return torch.stack([((s - r) ** 2).sum() if metric == "mse" else (s - r).abs().sum() for s, r in used]).sum()

    return gap


def linear_gradient(
    features: Float[Tensor, "n d"], targets: Tensor, weight: Float[Tensor, "k d"]
) -> Float[Tensor, "k d+1"]:
    """Return the gradient of a linear classifier's mean cross-entropy in closed form, differentiable.

    ``(softmax(h Wᵀ) − y)ᵀ [h, 1] / n``: the last column is the gradient of a zero bias. Linear gradient matching
    (arXiv:2511.16674, equation 2).

    Args:
        features: inputs of the classifier.
        targets: classes (n,), int64, or rows (n, k) that sum to 1.
        weight: the classifier's weight.
    """
    y = targets if targets.is_floating_point() else F.one_hot(targets, len(weight)).to(features)
    wrong = (features @ weight.T).softmax(1) - y
    return torch.cat([wrong.T @ features, wrong.sum(0)[:, None]], 1) / len(features)
