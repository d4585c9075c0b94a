"""Coreset selection by the last layer's gradients of one class: CRAIG, GRAD-MATCH, GLISTER.

Legend: n samples, m to select, k classes, d1 features with the bias. Inner products of gradients come from their two
factors (`Factors`); no gradient and no n × n matrix is formed. Ties go to the lowest index.
"""

import heapq
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from potstill.functional.coreset import check_size
from potstill.functional.gradient_norms import Factors

__all__ = ["WeightedPositions", "craig", "glister", "grad_match"]

_BLOCK = 1 << 22
"""Entries of a block of distances."""


class WeightedPositions(NamedTuple):
    """Distinct positions in order of selection, and their weights."""

    positions: Int[Tensor, " m"]
    weight: Float[Tensor, " m"]


def craig(gradients: Factors, m: int) -> WeightedPositions:
    """Select by CRAIG (arXiv:1906.01827, algorithm 1): facility location on distances of gradients.

    Maximises ``F(S) = Σ_i max_{s∈S} (D − ‖g_i − g_s‖)`` by lazy greedy (Minoux 1978), D twice the largest norm;
    reaches 1 − 1/e of the best in O(n²) distances at first and few after that, with O(n) memory.

    Returns:
        The selection, and the number of samples to which each one is nearest.

    Raises:
        PotstillError: ``m`` is not in 1…n.
    """
    n = len(gradients.delta)
    check_size(n, m)
    squared = gradients.squared()
    far = 2 * float(squared.max().sqrt())

    def columns(index: Tensor) -> Tensor:
        inner = gradients.inner(gradients.take(index))
        distance = (squared[:, None] + squared[index] - 2 * inner).clamp_min(0).sqrt()
        distance[index, torch.arange(len(index))] = 0  # rounding must not put a sample away from itself
        return far - distance

    gains = torch.cat([columns(some).sum(0) for some in torch.split(torch.arange(n), max(1, _BLOCK // n))])
    heap = [(-gain, i, 0) for i, gain in enumerate(gains.tolist())]
    heapq.heapify(heap)
    reach, owner = torch.zeros_like(squared), torch.zeros(n, dtype=torch.int64)
    order: list[int] = []
    while len(order) < m:
        _, i, evaluated_at = heapq.heappop(heap)
        column = columns(torch.tensor([i]))[:, 0]
        if evaluated_at < len(order):  # what it gained once is only a bound now
            heapq.heappush(heap, (-float((column - reach).clamp_min(0).sum()), i, len(order)))
            continue
        nearer = column.cpu() > reach.cpu() if order else torch.ones(n, dtype=torch.bool)
        owner[nearer] = len(order)
        owner[i] = len(order)
        reach = torch.maximum(reach, column)
        order.append(i)
    owner[order] = torch.arange(m)  # also where samples coincide, each stands for itself
    return WeightedPositions(torch.tensor(order), torch.bincount(owner, minlength=m).float())


def grad_match(gradients: Factors, m: int, ridge: float = 0.5) -> WeightedPositions:
    """Select by GRAD-MATCH (arXiv:2103.00123, algorithm 2): orthogonal matching pursuit with weights ≥ 0.

    Minimises ``‖Σ_{s∈S} w_s g_s − Σ_i g_i‖² + λ ‖w‖²``. Each step adds the sample whose gradient is most aligned with
    the residual and refits all weights exactly. A step costs O(n k d + m³ / 3).

    Args:
        gradients: gradients of one class.
        m: 1 ≤ m ≤ n.
        ridge: λ, above 0.

    Raises:
        PotstillError: ``m`` is not in 1…n.
    """
    n = len(gradients.delta)
    check_size(n, m)
    g = Factors(gradients.delta.double(), gradients.features.double())
    total = g.total()
    alignment = g.along(total)  # ⟨g_i, Σ_j g_j⟩
    order: list[int] = []
    kernel = np.zeros((m, m))
    weight = np.zeros(0)
    is_taken = torch.zeros(n, dtype=torch.bool, device=alignment.device)
    residual = alignment
    for step in range(m):
        best = int(residual.masked_fill(is_taken, -torch.inf).argmax())
        order.append(best)
        is_taken[best] = True
        selected = g.take(torch.tensor(order, device=alignment.device))
        row = selected.inner(g.take(torch.tensor([best], device=alignment.device)))[:, 0].cpu().numpy()
        kernel[step, : step + 1] = kernel[: step + 1, step] = row
        kernel[step, step] += ridge
        weight = _nonnegative(kernel[: step + 1, : step + 1], alignment[order].cpu().numpy(), np.append(weight, 0.0))
        weights = torch.from_numpy(weight).to(alignment)
        residual = alignment - g.along((weights[:, None] * selected.delta).T @ selected.features)
    return WeightedPositions(torch.tensor(order), torch.from_numpy(weight).float())


def _nonnegative(a: NDArray[Any], b: NDArray[Any], start: NDArray[Any]) -> NDArray[Any]:
    """Minimise ``wᵀ A w − 2 bᵀ w`` over w ≥ 0 for positive definite A: Lawson and Hanson's active sets."""
    from scipy.linalg import cho_factor, cho_solve  # type: ignore[import-untyped]

    w, passive = start.copy(), start > 0
    passive[-1] = True
    for _ in range(3 * len(b) + 10):
        while passive.any():
            inside = np.flatnonzero(passive)
            free = np.zeros_like(w)
            free[inside] = cho_solve(cho_factor(a[np.ix_(inside, inside)]), b[inside])
            if free[inside].min() >= 0:
                w = free
                break
            bad = inside[free[inside] < 0]
            step = np.min(w[bad] / np.maximum(w[bad] - free[bad], 1e-300))
            w = np.maximum(w + step * (free - w), 0)
            passive &= w > 1e-14
            w[~passive] = 0
        slope = b - a @ w
        slope[passive] = -np.inf
        if slope.max() <= 1e-9 * max(1.0, float(np.abs(b).max())):
            break
        passive[int(slope.argmax())] = True
    return w


def glister(candidates: Factors, validation: Factors, logits: Float[Tensor, "v k"], m: int, lr: float, rounds: int) -> (
    Int[Tensor, " m"]
):  # fmt: skip
    """Select by GLISTER (arXiv:2012.10630, algorithm 2): samples that lower a held-out loss.

    The gain of a sample is ``η ⟨g_i, Σ_v ∇ℓ_v⟩``, the first-order decrease of the validation loss by a step of rate η
    of the last layer. After each round the layer takes the steps of the selected samples, and the validation gradients
    are recomputed, exactly, as the last layer is linear.

    Args:
        candidates: gradients of the samples to select from, at the initial weights.
        validation: gradients of the held-out samples at the initial weights.
        logits: logits of the held-out samples at the initial weights.
        m: number to select, 1 ≤ m ≤ n.
        lr: η, above 0.
        rounds: rounds of the selection, 1 … m; m selects one by one.

    Raises:
        PotstillError: ``m`` is not in 1…n.
    """
    n = len(candidates.delta)
    check_size(n, m)
    truth = logits.softmax(1) - validation.delta  # one-hot labels
    is_taken = torch.zeros(n, dtype=torch.bool, device=logits.device)
    delta, order = validation.delta, list[int]()
    rounds = min(rounds, m)
    for done in range(rounds):
        gain = candidates.along(delta.T @ validation.features).masked_fill(is_taken, -torch.inf)
        count = m * (done + 1) // rounds - m * done // rounds
        selected = torch.argsort(gain, descending=True, stable=True)[:count]
        order += selected.tolist()
        is_taken[selected] = True
        step = candidates.take(selected).total()
        logits = logits - lr * validation.features @ step.T
        delta = logits.softmax(1) - truth
    return torch.tensor(order)
