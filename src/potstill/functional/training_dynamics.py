"""Scores of samples from predictions after each epoch of a training.

Legend: e epochs, r runs (independent trainings), n samples, k classes. A row of a record holds predictions after an
epoch, in evaluation mode, on unaugmented samples.
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, Num
from torch import Tensor

from potstill.errors import PotstillError

__all__ = [
    "Cartography", "aum", "cartography", "check_window", "dynamic_uncertainty", "el2n", "entropy", "forgetting",
    "least_confidence", "logit_margin", "movement", "probability_margin", "rank_correlation", "regions", "tdds",
    "top_two_gap",
]  # fmt: skip


def least_confidence(p: Float[Tensor, "n k"]) -> Float[Tensor, " n"]:
    """Return ``1 − max_c p_c`` (Lewis and Gale 1994), in [0, 1 − 1/k]; high is uncertain."""
    highest: Tensor = p.max(1).values
    return 1 - highest


def entropy(p: Float[Tensor, "n k"]) -> Float[Tensor, " n"]:
    """Return ``−Σ_c p_c log p_c`` in nats (Shannon 1948; Settles 2009), in [0, log k]; 0 log 0 is 0."""
    each: Tensor = torch.special.entr(p)
    return each.sum(1)


def top_two_gap(p: Float[Tensor, "n k"]) -> Float[Tensor, " n"]:
    """Return ``p_(1) − p_(2)`` of the two best classes (Scheffer et al. 2001), in [0, 1]; low is unsure."""
    best = p.topk(2, dim=1).values
    return best[:, 0] - best[:, 1]


def el2n(p: Float[Tensor, "n k"], y: Int[Tensor, " n"]) -> Float[Tensor, " n"]:
    """Return ``‖p − onehot(y)‖₂``, in [0, √2] (Paul et al. 2021, arXiv:2107.07075, definition 2.2)."""
    return (p - F.one_hot(y, p.shape[1]).to(p)).square().sum(1).sqrt()


def logit_margin(z: Float[Tensor, "n k"], y: Int[Tensor, " n"]) -> Float[Tensor, " n"]:
    """Return ``z_y − max_{c≠y} z_c`` (Pleiss et al. 2020, arXiv:2001.10528, equation 1); negative if wrong."""
    own = F.one_hot(y, z.shape[1]).bool()
    return z[own] - z.masked_fill(own, -math.inf).max(1).values


def probability_margin(p: Float[Tensor, "n k"], y: Int[Tensor, " n"]) -> Float[Tensor, " n"]:
    """Return ``p_y − max_{c≠y} p_c``, in [−1, 1], as in CCS's released code."""
    return logit_margin(p, y)


_TINY = 1e-8
"""Added to probabilities before their logarithm (TDDS's released code, importance_evaluation.py:50)."""


def movement(log_p: Float[Tensor, "n k"], log_q: Float[Tensor, "n k"]) -> Float[Tensor, " n"]:
    """Return ``Σ_c |p_c (log(p_c + 1e-8) − log(q_c + 1e-8))|``, q the predictions of the previous epoch.

    The absolute values are those of TDDS's released code (importance_evaluation.py:51).
    """
    p, q = log_p.exp(), log_q.exp()
    return (p * ((p + _TINY).log() - (q + _TINY).log())).abs().sum(1)


def forgetting(correct: Num[Tensor, "e n"]) -> Float[Tensor, " n"]:
    """Count how often a sample goes from right to wrong (Toneva et al. 2019, arXiv:1812.05159, definition 1).

    Args:
        correct: 1 if the network was right after an epoch, else 0.

    Returns:
        The number of such events; infinity for a sample that was never right.
    """
    right = correct.bool()
    events = (right[:-1] & ~right[1:]).sum(0).float()
    return torch.where(right.any(0), events, math.inf)


def aum(margins: Float[Tensor, "e n"]) -> Float[Tensor, " n"]:
    """Return the area under the margin: the mean over epochs (arXiv:2001.10528, equation 2)."""
    return margins.mean(0)


class Cartography(NamedTuple):
    """Coordinates of samples on the data map."""

    confidence: Float[Tensor, " n"]
    """Mean probability of the true class, in [0, 1]."""
    variability: Float[Tensor, " n"]
    """Its standard deviation (population), in [0, 1/2]."""
    correctness: Float[Tensor, " n"]
    """Fraction of epochs in which the network was right."""


def cartography(probability: Float[Tensor, "e n"], correct: Num[Tensor, "e n"]) -> Cartography:
    """Return dataset cartography's coordinates (Swayamdipta et al. 2020, arXiv:2009.10795, section 2).

    Args:
        probability: probability of the true class after each epoch.
        correct: 1 if the network was right, else 0.
    """
    return Cartography(probability.mean(0), probability.std(0, unbiased=False), correct.float().mean(0))


def regions(coordinates: Cartography, ambiguous: float = 1 / 3) -> Int[Tensor, " n"]:
    """Return the region of each sample: 0 easy, 1 ambiguous, 2 hard.

    Ambiguous: the fraction ``ambiguous`` of highest variability (33 % in the paper). Of the others, hard are those with
    a mean probability of the true class below 1/2 (ours: the paper draws no line).
    """
    n = len(coordinates.confidence)
    region = torch.where(coordinates.confidence < 0.5, 2, 0)
    region[torch.argsort(coordinates.variability, descending=True, stable=True)[: round(ambiguous * n)]] = 1
    return region


def dynamic_uncertainty(probability: Float[Tensor, "e n"], window: int) -> Float[Tensor, " n"]:
    """Return Dyn-Unc (He et al. 2024, arXiv:2306.05175): the spread of the true class's probability in sliding windows.

    The mean unbiased standard deviation of the windows of J = ``window`` epochs that begin at epoch 0 … e − J − 1, as
    published: the last window counts only if it is the only one.

    Raises:
        PotstillError: the window is shorter than 2 or longer than the record.
    """
    check_window(window, len(probability))
    spread = probability.unfold(0, window, 1).std(-1)
    return spread[: max(1, len(probability) - window)].mean(0)


def rank_correlation(a: Float[Tensor, " n"], b: Float[Tensor, " n"]) -> float:
    """Return Spearman's ρ, in [−1, 1]; ties are ranked in order; 0 for constants."""
    if len(a) < 2 or bool((a == a[0]).all()) or bool((b == b[0]).all()):
        return 0.0
    ranks = [x.argsort(stable=True).argsort().double() for x in (a, b)]
    x, y = (r - r.mean() for r in ranks)
    return float((x * y).sum() / (x.square().sum() * y.square().sum()).sqrt())


def tdds(moved: Float[Tensor, "e n"], window: int, decay: float) -> Float[Tensor, " n"]:
    """Return TDDS (Zhang et al. 2024, arXiv:2311.13613): variation of the movement of predictions, late epochs first.

    Inner depth: ``R_t = (Σ_{s in window} (Δ_s − mean Δ)²)^½`` over the J − 1 movements within the J = ``window`` epochs
    that end at t. Outer depth: ``S = Σ_t β (1 − β)^(T−t) R_t`` with β = ``decay``, over all windows up to that of the
    last epoch, T. As in the released code (importance_evaluation.py:49-61).

    Args:
        moved: `movement` of each epoch from the one before: T − 1 of T epochs.
        window, decay: 3 ≤ J ≤ T, as one difference has no spread; β in [0, 1].

    Raises:
        PotstillError: the window is shorter than 3 or has more epochs than there are.
    """
    check_window(window, len(moved) + 1, 3)
    parts = moved.unfold(0, window - 1, 1)
    inner = (parts - parts.mean(-1, keepdim=True)).square().sum(-1).sqrt()
    total = torch.zeros_like(inner[0])
    for r in inner:
        total = decay * r + (1 - decay) * total
    return total


def check_window(window: int, epochs: int, least: int = 2) -> None:
    """Raise a PotstillError unless ``least`` ≤ window ≤ epochs."""
    if not least <= window <= epochs:
        raise PotstillError(
            f"a window must have {least} to {epochs} epochs, as many as are looked at, but it has {window}; "
            "shorten it or record more epochs"
        )
