"""Means with intervals, and differences that are claimed only when their interval excludes zero."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.special import stdtr, stdtrit  # type: ignore[import-untyped]  # scipy.stats takes ten times as long

__all__ = ["INTERVAL", "difference", "summary"]

INTERVAL = "Student's t over students of this one set, two-sided 95%"


def summary(values: Sequence[float]) -> dict[str, Any]:
    """``mean``, ``std`` (n − 1), ``ci95`` (Student's t), both ``None`` for one value, ``n`` and the ``values``."""
    x = np.asarray(values, dtype=np.float64)
    n, mean = len(x), float(x.mean())
    std = float(x.std(ddof=1)) if n > 1 else None
    half = float(stdtrit(n - 1, 0.975)) * std / math.sqrt(n) if std is not None else None
    ci = None if half is None else [mean - half, mean + half]
    return {"mean": mean, "std": std, "ci95": ci, "n": n, "values": [float(v) for v in x]}


def difference(a: Sequence[float], b: Sequence[float]) -> dict[str, Any]:
    """``mean(a) − mean(b)``, Welch's 95% interval, two-sided p; interval and p are ``None`` below two values each."""
    x, y = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    gap = float(x.mean() - y.mean())
    if min(len(x), len(y)) < 2:
        return {"mean": gap, "ci95": None, "p": None}
    vx, vy = float(x.var(ddof=1)) / len(x), float(y.var(ddof=1)) / len(y)
    if vx + vy == 0:
        return {"mean": gap, "ci95": [gap, gap], "p": 1.0 if gap == 0 else 0.0}
    df = (vx + vy) ** 2 / (vx**2 / (len(x) - 1) + vy**2 / (len(y) - 1))
    error = math.sqrt(vx + vy)
    half = float(stdtrit(df, 0.975)) * error
    return {"mean": gap, "ci95": [gap - half, gap + half], "p": float(2 * stdtr(df, -abs(gap) / error))}
