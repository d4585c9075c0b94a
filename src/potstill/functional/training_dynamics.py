"""What a training says of its samples: scores made of predictions, epoch by epoch.

Legend: e epochs, r runs (independent trainings), n samples, k classes. A row of a record belongs to the network as it
is after an epoch, in evaluation mode, on the samples as they are: nothing here knows how it was trained.
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, Num
from torch import Tensor

from potstill.errors import PotstillError

__all__ = [
    "Cartography",
    "aum",
    "cartography",
    "check_window",
    "dynamic_uncertainty",
    "el2n",
    "entropy",
    "forgetting",
    "least_confidence",
    "logit_margin",
    "movement",
    "probability_margin",
    "rank_correlation",
    "regions",
    "tdds",
    "top_two_gap",
]


def least_confidence(p: Float[Tensor, "n k"]) -> Float[Tensor, " n"]:
    """``1 − max_c p_c`` (Lewis and Gale 1994), in [0, 1 − 1/k]; high is uncertain. The label is not looked at."""
    highest: Tensor = p.max(1).values
    return 1 - highest


def entropy(p: Float[Tensor, "n k"]) -> Float[Tensor, " n"]:
    """``−Σ_c p_c log p_c`` in nats (Shannon 1948; for choosing samples, Settles 2009), in [0, log k]; 0 log 0 is 0."""
    each: Tensor = torch.special.entr(p)
    return each.sum(1)


def top_two_gap(p: Float[Tensor, "n k"]) -> Float[Tensor, " n"]:
    """``p_(1) − p_(2)``: the best class before the second (Scheffer et al. 2001), in [0, 1]; low is unsure."""
    best = p.topk(2, dim=1).values
    return best[:, 0] - best[:, 1]


def el2n(p: Float[Tensor, "n k"], y: Int[Tensor, " n"]) -> Float[Tensor, " n"]:
    """``‖p − onehot(y)‖₂``, in [0, √2] (Paul et al. 2021, arXiv:2107.07075, definition 2.2)."""
    return (p - F.one_hot(y, p.shape[1]).to(p)).square().sum(1).sqrt()


def logit_margin(z: Float[Tensor, "n k"], y: Int[Tensor, " n"]) -> Float[Tensor, " n"]:
    """``z_y − max_{c≠y} z_c`` (Pleiss et al. 2020, arXiv:2001.10528, equation 1): negative where it is wrong."""
    own = F.one_hot(y, z.shape[1]).bool()
    return z[own] - z.masked_fill(own, -math.inf).max(1).values


def probability_margin(p: Float[Tensor, "n k"], y: Int[Tensor, " n"]) -> Float[Tensor, " n"]:
    """``p_y − max_{c≠y} p_c``, in [−1, 1]: `logit_margin` of probabilities, as CCS's released code adds it up."""
    return logit_margin(p, y)


_TINY = 1e-8
"""Added to probabilities before their logarithm (TDDS's released code, importance_evaluation.py:50)."""


def movement(log_p: Float[Tensor, "n k"], log_q: Float[Tensor, "n k"]) -> Float[Tensor, " n"]:
    """``Σ_c |p_c (log(p_c + 1e-8) − log(q_c + 1e-8))|``: how far predictions moved, from q to p an epoch later.

    The absolute values are those of TDDS's released code (importance_evaluation.py:51). Without them it were a
    divergence, in which rising and falling classes cancel.
    """
    p, q = log_p.exp(), log_q.exp()
    return (p * ((p + _TINY).log() - (q + _TINY).log())).abs().sum(1)


def forgetting(correct: Num[Tensor, "e n"]) -> Float[Tensor, " n"]:
    """How often a sample goes from right to wrong (Toneva et al. 2019, arXiv:1812.05159, definition 1).

    Args:
        correct: 1 where the network was right after an epoch, else 0.

    Returns:
        The number of such events; infinity for a sample that was never right.
    """
    right = correct.bool()
    events = (right[:-1] & ~right[1:]).sum(0).float()
    return torch.where(right.any(0), events, math.inf)


def aum(margins: Float[Tensor, "e n"]) -> Float[Tensor, " n"]:
    """The area under the margin: the mean of `logit_margin` over the epochs (arXiv:2001.10528, equation 2)."""
    return margins.mean(0)


class Cartography(NamedTuple):
    """Coordinates of a sample on the data map, over the epochs."""

    confidence: Float[Tensor, " n"]
    """Mean probability of the true class, in [0, 1]."""
    variability: Float[Tensor, " n"]
    """Its standard deviation (population), in [0, 1/2]."""
    correctness: Float[Tensor, " n"]
    """The part of the epochs in which the network was right, in [0, 1]."""


def cartography(probability: Float[Tensor, "e n"], correct: Num[Tensor, "e n"]) -> Cartography:
    """Dataset cartography (Swayamdipta et al. 2020, arXiv:2009.10795, section 2).

    Args:
        probability: of the true class after each epoch.
        correct: 1 where the network was right, else 0.
    """
    return Cartography(probability.mean(0), probability.std(0, unbiased=False), correct.float().mean(0))


def regions(coordinates: Cartography, ambiguous: float = 1 / 3) -> Int[Tensor, " n"]:
    """The region of each sample: 0 easy, 1 ambiguous, 2 hard.

    Ambiguous: the part ``ambiguous`` of highest variability (33 % in the paper). Of the others, hard are those whose
    true class gets less than half of the probability on average: the paper draws no line there, this one is ours.
    """
    n = len(coordinates.confidence)
    made = torch.where(coordinates.confidence < 0.5, 2, 0)
    made[torch.argsort(coordinates.variability, descending=True, stable=True)[: round(ambiguous * n)]] = 1
    return made


def dynamic_uncertainty(probability: Float[Tensor, "e n"], window: int) -> Float[Tensor, " n"]:
    """Dyn-Unc (He et al. 2024, arXiv:2306.05175): the spread of the true class's probability in a sliding window.

    The standard deviation (unbiased) of every J = ``window`` epochs in a row, averaged over the windows that begin at
    epoch 0 … e − J − 1, as published: the last window counts only where it is the only one.

    Raises:
        PotstillError: the window is shorter than 2 or longer than the record.
    """
    check_window(window, len(probability))
    spread = probability.unfold(0, window, 1).std(-1)
    return spread[: max(1, len(probability) - window)].mean(0)


def rank_correlation(a: Float[Tensor, " n"], b: Float[Tensor, " n"]) -> float:
    """Spearman's ρ of two numbers of each sample, in [−1, 1]; equal numbers are ranked as they come; 0 of constants."""
    if len(a) < 2 or bool((a == a[0]).all()) or bool((b == b[0]).all()):
        return 0.0
    ranks = [x.argsort(stable=True).argsort().double() for x in (a, b)]
    x, y = (r - r.mean() for r in ranks)
    return float((x * y).sum() / (x.square().sum() * y.square().sum()).sqrt())


def tdds(moved: Float[Tensor, "e n"], window: int, decay: float) -> Float[Tensor, " n"]:
    """TDDS (Zhang et al. 2024, arXiv:2311.13613): how unsteadily predictions move, late epochs weighing most.

    Inner depth: ``R_t = (Σ_{s in window} (Δ_s − mean Δ)²)^½`` over the J − 1 movements within the J = ``window`` epochs
    that end at t. Outer depth: ``S = Σ_t β (1 − β)^(T−t) R_t`` with β = ``decay``, over all windows up to that of the
    last epoch, T. As the released code has it (importance_evaluation.py:49-61).

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
    """A window must fit the epochs, and hold as many as its spread needs.

    Raises:
        PotstillError: it does not.
    """
    if not least <= window <= epochs:
        raise PotstillError(
            f"a window must have {least} to {epochs} epochs, as many as are looked at, but it has {window}; "
            "shorten it or record more epochs"
        )
