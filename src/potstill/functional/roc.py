"""Tests that tell two kinds of records apart by a value: AUC, hits at a false-positive rate, and their intervals."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64, Int
from scipy.special import betaincinv  # type: ignore[import-untyped]
from torch import Generator, Tensor

from potstill.functional.distances import chunks

__all__ = ["RESAMPLES", "Auc", "auc", "auc_within_strata", "hits_at_rate", "proportion_interval"]

RESAMPLES = 500
"""Bootstrap samples of an interval."""
_ENTRIES = 1 << 21
"""Entries of a temporary tensor."""


@dataclass(frozen=True, kw_only=True)
class Auc:
    """AUC within strata, with its bootstrap samples."""

    value: float
    samples: Float[Tensor, " r"]
    """AUC of each bootstrap sample, float64."""
    null_spread: float
    """Standard deviation of the AUC where both kinds are alike, by ranks."""
    positives: int
    negatives: int

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Return the bootstrap interval over records of both kinds."""
        ends = torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=torch.float64)
        low, high = torch.quantile(self.samples, ends).tolist()
        return low, high


def auc(positives: Float[Tensor, " n"], negatives: Float[Tensor, " m"]) -> float:
    """Return the chance that a positive's value is below a negative's; equal values count one half."""
    ranked = negatives.sort().values
    above = len(negatives) - torch.searchsorted(ranked, positives, right=True)
    equal = torch.searchsorted(ranked, positives, right=True) - torch.searchsorted(ranked, positives)
    return float((above + equal / 2).double().mean() / len(negatives))


def auc_within_strata(
    positives: Float[Tensor, " n"], negatives: Float[Tensor, " m"], positive_strata: Int[Tensor, " n"],
    negative_strata: Int[Tensor, " m"], rng: Generator,
) -> Auc:  # fmt: skip
    """Return the AUC of values that are lower for positives, averaged over strata by their positives.

    Strata without a positive or without a negative are left out.

    Args:
        rng: draws the bootstrap samples, of the positives and the negatives of each stratum.

    Raises:
        ValueError: no stratum has both.
    """
    pairs, used = [], [0, 0]
    for c in torch.unique(positive_strata).tolist():
        a, b = positives[positive_strata == c].double(), negatives[negative_strata == c].double()
        if len(a) and len(b):
            pairs.append((a, b))
            used = [used[0] + len(a), used[1] + len(b)]
    if not pairs:
        raise ValueError("no stratum has both positives and negatives")

    value, variance, drawn = 0.0, 0.0, torch.zeros(RESAMPLES, dtype=torch.float64)
    for a, b in pairs:
        share = len(a) / used[0]
        value += share * auc(a, b)
        variance += share**2 * (len(a) + len(b) + 1) / (12 * len(a) * len(b))
        for rows in chunks(RESAMPLES, max(len(a), len(b)), _ENTRIES):
            drawn[rows] += share * _resampled(a, b, rows.stop - rows.start, rng)
    return Auc(
        value=value, samples=drawn, null_spread=variance**0.5, positives=used[0], negatives=used[1]
    )  # fmt: skip


def _resampled(a: Float64[Tensor, " n"], b: Float64[Tensor, " m"], times: int, rng: Generator) -> Float64[Tensor, " r"]:
    """Return the AUC of bootstrap samples of both."""
    x, y = (v[torch.randint(len(v), (times, len(v)), generator=rng)] for v in (a, b))
    ranked = y.sort(1).values
    below = torch.searchsorted(ranked, x, right=True) + torch.searchsorted(ranked, x)
    return 1 - below.double().mean(1) / (2 * len(b))


def hits_at_rate(positives: Float[Tensor, " n"], negatives: Float[Tensor, " m"], rate: float) -> int:
    """Return the number of positives below a threshold that at most ``rate`` of the negatives are below.

    Args:
        rate: false-positive rate, at least 1/m.

    Raises:
        ValueError: it is lower.
    """
    false_alarms = int(rate * len(negatives) + 1e-9)
    if false_alarms < 1:
        raise ValueError(f"{len(negatives)} negatives cannot show a rate of {rate}")
    ranked = negatives.sort().values
    threshold = ranked[false_alarms] if false_alarms < len(ranked) else torch.tensor(float("inf"))
    return int((positives < threshold).sum())


def proportion_interval(hits: float, n: float, level: float = 0.95) -> tuple[float, float]:
    """Return the Clopper-Pearson interval of a proportion of ``hits`` in ``n``, which may be effective numbers."""
    tail = (1 - level) / 2
    low = 0.0 if hits <= 0 else float(betaincinv(hits, n - hits + 1, tail))
    high = 1.0 if hits >= n else float(betaincinv(hits + 1, n - hits, 1 - tail))
    return low, high
