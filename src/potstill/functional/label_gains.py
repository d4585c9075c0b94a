"""Gains of labels: how much a small step on a sample with a label lowers another loss (SAFLEX, arXiv:2410.02512).

With ``g = ∇_θ L`` of validation data, one step of gradient descent on sample b with label k lowers L to first order by

    Π_bk = ⟨∇_θ ℓ(x_b, k), g⟩ = −[J_θ log p(x_b) · g]_k,

one Jacobian-vector product for a whole batch, as cross-entropy is linear in the label. Since Σ_k p_k ∇_θ log p_k = 0,
the greatest gain of a sample is never below 0: with labels that are free every sample gains, and a weight says nothing.
It acts where labels are held near those that the augmentation gave.
"""

from collections.abc import Callable, Mapping
from typing import TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from potstill.errors import PotstillError

__all__ = ["adapted_labels", "label_gains"]

Parameters: TypeAlias = Mapping[str, Tensor]


def label_gains(
    logits: Callable[[Parameters], Float[Tensor, "n k"]], parameters: Parameters, gradient: Parameters
) -> Float[Tensor, "n k"]:
    """Return the gain of each label of each sample.

    Args:
        logits: a network's outputs for the samples, as a function of its parameters.
        parameters: where it is differentiated.
        gradient: of the validation loss, by the same names.

    Returns:
        Π, in units of the validation loss for a step of length 1.
    """
    at = {name: p.detach().requires_grad_() for name, p in parameters.items()}
    with torch.enable_grad():
        rows = logits(at).log_softmax(1)
        along = torch.zeros_like(rows, requires_grad=True)
        back = torch.autograd.grad(rows, list(at.values()), along, create_graph=True, materialize_grads=True)
        total = torch.stack([(b * gradient[name]).sum() for name, b in zip(at, back, strict=True)]).sum()
        slope = torch.autograd.grad(total, along)[0]  # linear in ``along``, so its gradient is the product
    return -slope.detach()


def adapted_labels(
    gains: Float[Tensor, "n k"], rows: Float[Tensor, "n k"], *, pull: float = 2.0, temperature: float = 0.25,
    fixed: bool = False,
) -> tuple[Float[Tensor, " n"], Float[Tensor, "n k"]]:  # fmt: skip
    """Return weights and labels that lower the validation loss most while labels stay near those given.

    ``y_b = softmax((Π_b / s + pull · rows_b) / temperature)`` with s the root mean square of the gains, and
    ``w_b = 1`` where ``y_b · Π_b ≥ 0``, else 0.

    Args:
        gains: Π of each sample and label.
        rows: labels that the augmentation gave.
        pull: how strongly labels stay, in units of s; 0: labels are free, and no weight is 0.
        temperature: 0: the label of the greatest value alone.
        fixed: labels stay as they are; weights alone are adapted.

    Returns:
        Weights of mean 1 (all 1 where every sample would have 0), and labels as rows.

    Raises:
        PotstillError: a setting is negative.
    """
    if not (0 <= pull < float("inf") and 0 <= temperature < float("inf")):
        raise PotstillError(f"pull and temperature must be at least 0, not {pull:g} and {temperature:g}; change them")
    labels = rows
    if not fixed:
        scale = gains.square().mean().sqrt().clamp_min(torch.finfo(gains.dtype).tiny)
        values = gains / scale + pull * rows
        if temperature > 0:
            labels = (values / temperature).softmax(1)
        else:
            labels = torch.nn.functional.one_hot(values.argmax(1), gains.shape[1]).to(rows)
    weights = ((labels * gains).sum(1) >= 0).to(gains)
    total = weights.sum()
    return (weights * (len(weights) / total) if total > 0 else torch.ones_like(weights)), labels
