"""Rates of a test that calls a sample positive above a threshold, and their differences between two sets of models."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from scipy.special import stdtrit  # type: ignore[import-untyped]
from torch import Generator, Tensor

from potstill.functional.roc import auc

__all__ = ["METRICS", "Rates", "Scores", "compare_rates", "rates", "threshold_at"]

METRICS = ("auroc", "sensitivity", "specificity")
DRAWS = 200
"""Bootstrap samples of a difference."""


@dataclass(frozen=True, slots=True)
class Rates:
    """Rates of one model on test samples."""

    auroc: float
    """Chance that a positive sample has a higher score than a negative one."""
    sensitivity: float
    """Share of positive samples that are called positive."""
    specificity: float
    """Share of negative samples that are called negative: of test samples, so it need not be that of the threshold."""


@dataclass(frozen=True, slots=True)
class Scores:
    """Scores of one model, higher for samples that look positive."""

    test: Float[Tensor, " n"]
    held_out: Float[Tensor, " m"]
    """Negative samples that no model trained on, which say the threshold."""


def threshold_at(negatives: Float[Tensor, " m"], specificity: float) -> float:
    """Return the smallest score that a share of at least ``specificity`` of the negatives does not exceed."""
    rank = math.ceil(round(specificity * len(negatives), 9))
    return float(negatives.sort().values[max(rank, 1) - 1])


def rates(scores: Scores, positive: Bool[Tensor, " n"], specificity: float) -> Rates:
    """Return the rates of a model with its threshold at ``specificity``.

    Args:
        scores: of the test samples and of held-out negatives.
        positive: which test samples are positive; at least one is, and one is not.
        specificity: share of negatives below the threshold, in (0, 1).
    """
    called = scores.test > threshold_at(scores.held_out, specificity)
    return Rates(
        auroc=auc(-scores.test[positive], -scores.test[~positive]),
        sensitivity=float(called[positive].double().mean()),
        specificity=float((~called[~positive]).double().mean()),
    )


def compare_rates(
    a: Sequence[Scores], b: Sequence[Scores], positive: Bool[Tensor, " n"], specificity: float, rng: Generator
) -> dict[str, dict[str, Any]]:
    """Return the rates of ``a`` minus those of ``b`` with intervals of 95 %, for other students and samples.

    The variance is that over pairs of students plus that over bootstrap samples of positive and negative test samples
    and of held-out ones, the same for all students.

    Args:
        a, b: scores of each student; at least two pairs.
        positive: which test samples are positive.
        specificity: of the threshold.
        rng: draws the bootstrap samples.
    """

    def differences(marked: Tensor, at: Tensor | None = None, held_at: Tensor | None = None) -> Tensor:
        rows = []
        for pair in zip(a, b, strict=True):
            cut = [s if at is None else Scores(s.test[at], s.held_out[held_at]) for s in pair]
            one, other = (rates(s, marked, specificity) for s in cut)
            rows.append([getattr(one, name) - getattr(other, name) for name in METRICS])
        return torch.tensor(rows, dtype=torch.float64)

    by_pair = differences(positive)
    places = [torch.where(positive)[0], torch.where(~positive)[0]]
    drawn = []
    for _ in range(DRAWS):
        at = torch.cat([p[torch.randint(len(p), (len(p),), generator=rng)] for p in places])
        held_at = torch.randint(len(a[0].held_out), (len(a[0].held_out),), generator=rng)
        drawn.append(differences(positive[at], at, held_at).mean(0))
    spread = torch.stack(drawn).std(0)
    students = by_pair.std(0) / math.sqrt(len(a))
    quantile = -float(stdtrit(len(a) - 1, 0.025))
    found = {}
    for n, name in enumerate(METRICS):
        mean, half = float(by_pair[:, n].mean()), math.hypot(quantile * float(students[n]), 1.96 * float(spread[n]))
        found[name] = {"mean": mean, "ci95": [mean - half, mean + half]}
    return found
