"""Calibration of students of a set, beside students of as many real samples.

The expected calibration error (Guo, Pleiss, Sun and Weinberger, arXiv:1706.04599, equation 3):

    ECE = Σ_b (n_b / n) · |accuracy(b) − confidence(b)|

over B bins ((b − 1)/B, b/B] of the greatest probability of each row.
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from potstill.diagnostics.bench import Bench, Condition, drop_diverged
from potstill.evaluation.statistics import difference, summary

__all__ = ["conditions", "measure_calibration", "reliability"]

BINS = 15
"""As in the paper."""


def conditions(bench: Bench) -> list[Condition]:
    """Return the training conditions."""
    return [bench.distilled_condition(), bench.random_condition()]


def measure_calibration(bench: Bench) -> dict[str, Any]:
    """Return the expected calibration error of each, over bins of equal width, and the bins of all students
    together."""
    results: dict[str, Any] = {"bins": BINS, "width": "equal"}
    errors = {}
    for lesson in conditions(bench):
        rows = [o.softmax(1) for o in drop_diverged(bench.outputs(lesson))]
        results[lesson.name] = {"ece": None, "confidence": None, "accuracy": None, "table": []}
        if not rows:
            continue
        errors[lesson.name] = [reliability(p, bench.eval_source.labels).ece for p in rows]
        every = torch.cat(rows)
        labels = bench.eval_source.labels.repeat(len(rows))
        bins = reliability(every, labels)
        results[lesson.name] = {
            "ece": summary(errors[lesson.name], low=0.0),
            "confidence": float(every.max(1).values.double().mean()),
            "accuracy": float((every.argmax(1) == labels).double().mean()),
            "table": [
                {"above": b / BINS, "up_to": (b + 1) / BINS, "answers": int(bins.count[b]),
                 "confidence": float(bins.confidence[b]), "accuracy": float(bins.accuracy[b])}
                for b in range(BINS) if int(bins.count[b])
            ],
        }  # fmt: skip
    results["difference"] = difference(errors["set"], errors["random"]) if len(errors) == 2 else None
    return results


@dataclass(frozen=True)
class Reliability:
    """Counts and means per bin; means of an empty bin are 0."""

    count: Int[Tensor, " b"]
    confidence: Float[Tensor, " b"]
    """Mean of the greatest probability."""
    accuracy: Float[Tensor, " b"]

    @property
    def ece(self) -> float:
        """The expected calibration error, a fraction in [0, 1]."""
        share = self.count.double() / max(1, int(self.count.sum()))
        return float((share * (self.accuracy - self.confidence).abs()).sum())


def reliability(probabilities: Float[Tensor, "n k"], labels: Int[Tensor, " n"], bins: int = BINS) -> Reliability:
    """Return count, confidence and accuracy of rows in bins of equal width by their greatest probability."""
    confidence, predicted = probabilities.double().max(1)
    at = (confidence * bins).ceil().long().clamp(1, bins) - 1
    count = torch.bincount(at, minlength=bins)
    right = (predicted == labels.to(predicted.device)).double()
    means = (torch.bincount(at, values, minlength=bins) / count.clamp(min=1).double() for values in (confidence, right))
    return Reliability(count, *means)
