"""Agreement of two rankings of the same candidates, with bootstrap intervals over candidates."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

__all__ = ["TOP", "break_even", "kendall_tau", "regret", "spearman_top", "tau_difference"]

RESAMPLES = 1000
"""Bootstrap samples of an interval."""
TOP = (5, 10, 20)
"""Numbers of truly best candidates whose order is compared, as in the literature."""


def kendall_tau(rankings: Sequence[Sequence[float]], truth: Sequence[float], seed: int = 0) -> dict[str, Any]:
    """Return the mean Kendall's tau-b of rankings with the truth, and a 95 % bootstrap interval over candidates.

    Args:
        rankings: a score for each candidate, of one or more seeds.
        truth: true score of each candidate.
        seed: of the bootstrap samples.

    Candidates drawn twice into a sample are tied with themselves on both sides, which tau-b leaves out.

    Returns:
        ``value`` and ``ci95``; both ``None`` where one side is constant.
    """
    value = float(_taus(rankings, truth, np.ones((1, len(truth))))[0])
    return _with_interval(value, _taus(rankings, truth, _resample(len(truth), seed)))


def tau_difference(
    a: Sequence[Sequence[float]], b: Sequence[Sequence[float]], truth: Sequence[float], seed: int = 0
) -> dict[str, Any]:
    """Return the mean tau of rankings ``a`` minus that of ``b`` with a 95 % bootstrap interval, paired by candidate."""
    one, drawn = np.ones((1, len(truth))), _resample(len(truth), seed)
    value = float(_taus(a, truth, one)[0] - _taus(b, truth, one)[0])
    return _with_interval(value, _taus(a, truth, drawn) - _taus(b, truth, drawn))


def spearman_top(scores: Sequence[float], truth: Sequence[float], top: int, seed: int = 0) -> dict[str, Any] | None:
    """Return Spearman's correlation over the ``top`` truly best candidates; ``None`` where there are fewer."""
    if len(truth) < top:
        return None
    best = np.argsort(-np.asarray(truth, dtype=np.float64), kind="stable")[:top]
    s, t = np.asarray(scores, dtype=np.float64)[best], np.asarray(truth, dtype=np.float64)[best]
    drawn = _resample(top, seed).astype(int)
    found = [_spearman(np.repeat(s, w), np.repeat(t, w)) for w in drawn]
    return {"top": top, **_with_interval(_spearman(s, t), np.asarray(found))}


def regret(scores: Sequence[float], truth: Sequence[float]) -> float:
    """Return the truth of the best candidate minus that of the one with the best score, the first of equals."""
    return float(max(truth) - truth[int(np.argmax(np.asarray(scores, dtype=np.float64)))])


def break_even(
    tau: float, making: float, each: float, early: Sequence[tuple[float, float]], candidates: int
) -> dict[str, Any]:
    """Return the number of candidates from which a small set pays against early stopping on all data.

    Args:
        tau: Kendall's tau of the set.
        making: operations of making the set.
        each: operations of training a candidate on it.
        early: operations a candidate and tau of early stopping, from short to long.
        candidates: number of candidates that were ranked.

    Returns:
        ``candidates``, or ``None`` where it never pays, and ``text``.
    """
    reached = next(((cost, value) for cost, value in early if value >= tau), None)
    if reached is None:
        if making <= 0:
            return {"candidates": 1, "text": "from the first candidate: it costs nothing to make"}
        return {
            "candidates": candidates,
            "text": f"from {candidates:,} candidates or fewer: early stopping did not rank as well in equal compute",
        }
    at = early.index(reached)
    cost = reached[0]
    if at and early[at - 1][1] < reached[1]:
        before = early[at - 1]
        cost = before[0] + (cost - before[0]) * (tau - before[1]) / (reached[1] - before[1])
    if cost <= each * (1 + 1e-9):
        return {"candidates": None, "text": "never: early stopping ranks as well in no more updates a candidate"}
    count = max(1, math.ceil(making / (cost - each)))
    return {"candidates": count, "text": f"from {count:,} candidates"}


def _taus(
    rankings: Sequence[Sequence[float]], truth: Sequence[float], weights: Float[np.ndarray, "resamples n"]
) -> Float[np.ndarray, " resamples"]:
    """Return the mean tau-b of each sample of candidates; ``weights`` says how often each is in it."""
    t = np.asarray(truth, dtype=np.float64)
    other, found = np.sign(t[:, None] - t[None, :]), []
    for scores in rankings:
        s = np.asarray(scores, dtype=np.float64)
        own = np.sign(s[:, None] - s[None, :])
        sums = [((weights @ m) * weights).sum(1) for m in (own * other, own**2, other**2)]
        with np.errstate(invalid="ignore", divide="ignore"):
            found.append(np.asarray(sums[0] / np.sqrt(sums[1] * sums[2])))
    return np.asarray(np.mean(found, axis=0))


def _resample(n: int, seed: int) -> Float[np.ndarray, "resamples n"]:
    """Return how often each candidate was drawn into each bootstrap sample."""
    rng = np.random.default_rng(seed)
    return rng.multinomial(n, [1 / n] * n, size=RESAMPLES).astype(np.float64)


def _with_interval(value: float, resampled: Float[np.ndarray, " resamples"]) -> dict[str, Any]:
    if not math.isfinite(value):
        return {"value": None, "ci95": None}
    finite = resampled[np.isfinite(resampled)]
    if len(finite) < RESAMPLES // 2:
        return {"value": value, "ci95": None}
    return {"value": value, "ci95": [float(q) for q in np.quantile(finite, [0.025, 0.975])]}


def _spearman(a: Float[np.ndarray, " n"], b: Float[np.ndarray, " n"]) -> float:
    x, y = _ranks(a), _ranks(b)
    x, y = x - x.mean(), y - y.mean()
    norm = math.sqrt(float((x**2).sum() * (y**2).sum()))
    return float((x * y).sum()) / norm if norm > 0 else math.nan


def _ranks(values: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Return ranks from 0; equal values share the mean of theirs."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    first = np.cumsum(counts) - counts
    return np.asarray((first + (counts - 1) / 2)[inverse])
