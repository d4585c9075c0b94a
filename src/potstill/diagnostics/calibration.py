"""Calibration of students of a set, beside students of as many real samples."""

from typing import Any

import torch
from torch import Tensor

from potstill.diagnostics.bench import Bench, Condition, drop_diverged
from potstill.diagnostics.reliability import BINS, reliability
from potstill.evaluation.statistics import difference, summary

__all__ = ["conditions", "measure_calibration"]


def conditions(bench: Bench) -> list[Condition]:
    return [bench.distilled_condition(), bench.random_condition()]


def measure_calibration(bench: Bench) -> dict[str, Any]:
    """Return the expected calibration error of each, over bins of equal width, and the bins of all students
    together."""
    results: dict[str, Any] = {"bins": BINS, "width": "equal"}
    errors = {}
    for name, lesson in (("set", bench.distilled_condition()), ("random", bench.random_condition())):
        rows = [o.softmax(1) for o in drop_diverged(bench.outputs(lesson))]
        results[name] = {"ece": None, "confidence": None, "accuracy": None, "table": []}
        if not rows:
            continue
        errors[name] = [reliability(p, bench.eval_source.labels).ece for p in rows]
        every = torch.cat(rows)
        labels = bench.eval_source.labels.repeat(len(rows))
        results[name] = {
            "ece": summary(errors[name], low=0.0),
            "confidence": float(every.max(1).values.double().mean()),
            "accuracy": float((every.argmax(1) == labels).double().mean()),
            "table": _table(every, labels),
        }
    results["difference"] = difference(errors["set"], errors["random"]) if len(errors) == 2 else None
    return results


def _table(rows: Tensor, labels: Tensor) -> list[dict[str, Any]]:
    bins = reliability(rows, labels)
    return [
        {"above": b / BINS, "up_to": (b + 1) / BINS, "answers": int(bins.count[b]),
         "confidence": float(bins.confidence[b]), "accuracy": float(bins.accuracy[b])}
        for b in range(BINS) if int(bins.count[b])
    ]  # fmt: skip
