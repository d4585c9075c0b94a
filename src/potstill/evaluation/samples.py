"""Scores of single test samples, which say how far a score depends on which samples happen to be in the test split.

Of classes a sample's score is the part of students that are right. Any other metric, such as the root of a mean, is
taken apart by the jackknife: test samples are dealt into groups, the metric is computed without each group, and
G·θ − (G − 1)·θ_without is what the group adds to it (Tukey, Annals of Mathematical Statistics 29, 1958; Efron and
Stein, Annals of Statistics 9, 1981). Windows of a series overlap and resemble their neighbours, so their groups are
stretches, each at least as long as a window with its horizon.
"""

import base64
import binascii
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from potstill.core import Task
from potstill.tasks import Classification, Forecast

__all__ = ["SampleScores", "sample_scores"]

MAX_ROWS = 1000
"""Maximum number of stored rows: of more test samples every 1,000th shares one. Ours: at most 5 kB per score."""
JACKKNIFE_GROUPS = 25
"""Groups of the jackknife. Ours: 24 degrees of freedom, and as many computations of the metric for each student."""
MIN_STRETCHES = 5
"""Minimum number of stretches of a series; with fewer, intervals hold on these test samples only."""


@dataclass(frozen=True)
class SampleScores:
    """Summary of the matrix of scores (columns: students or sets; rows: test samples or groups of them)."""

    rows: Float[np.ndarray, " m"]
    """Mean of each row over all columns."""
    residual: float
    """Residual mean square after row and column means; 0 with one column."""

    @classmethod
    def from_matrix(cls, matrix: Float[np.ndarray, "n m"]) -> "SampleScores | None":
        """Summarise a matrix; ``None`` with fewer than two rows or non-finite values."""
        n, m = matrix.shape
        if m < 2 or not np.isfinite(matrix).all():
            return None
        rows = matrix.mean(0)
        left = matrix - rows - matrix.mean(1, keepdims=True) + matrix.mean()
        return cls(rows=rows, residual=float(np.square(left).sum() / ((n - 1) * (m - 1))) if n > 1 else 0.0)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values; rows are packed float32."""
        packed = zlib.compress(self.rows.astype("<f4").tobytes(), 9)
        return {"rows": base64.b64encode(packed).decode(), "residual": self.residual}

    @classmethod
    def from_dict(cls, value: Any) -> "SampleScores | None":
        """Read `to_dict`'s JSON; ``None`` for anything else."""
        if not isinstance(value, Mapping) or not isinstance(value.get("rows"), str):
            return None
        residual = value.get("residual")
        try:
            inflate = zlib.decompressobj()
            raw = inflate.decompress(base64.b64decode(value["rows"], validate=True), 4 * MAX_ROWS + 1)
            rows = np.frombuffer(raw, "<f4").astype(np.float64)
        except (binascii.Error, zlib.error, ValueError):
            return None
        if not isinstance(residual, int | float) or isinstance(residual, bool) or not 0 <= residual < float("inf"):
            return None
        return (
            cls(rows=rows, residual=float(residual)) if 2 <= rows.size <= MAX_ROWS and np.isfinite(rows).all() else None
        )


def sample_scores(task: Task, answers: Sequence[Tensor | None], y: Tensor) -> SampleScores | None:
    """Return the per-sample scores of students' answers (n, …) to targets ``y`` (n, …). A diverged student (``None``)
    counts as chance everywhere.

    Returns:
        ``None`` with too few samples.
    """
    if isinstance(task, Classification) and y.ndim == 1:
        matrix = torch.stack([torch.full((len(y),), task.chance_score(y)).double() if a is None else (a == y).double()
                              for a in answers])  # fmt: skip
        return SampleScores.from_matrix(_grouped(matrix.numpy(), min(len(y), MAX_ROWS)))
    groups = _dealt(task, len(y))
    if groups is None:
        return None
    return SampleScores.from_matrix(np.array([_jackknife(task, a, y, groups) for a in answers]))


def _grouped(matrix: Float[np.ndarray, "n m"], groups: int) -> Float[np.ndarray, "n g"]:
    """Average every ``groups``-th sample."""
    m = matrix.shape[1]
    if groups == m:
        return matrix
    short = -m % groups
    padded = np.pad(matrix, ((0, 0), (0, short))).reshape(len(matrix), -1, groups).sum(1)
    counts = np.full(groups, -(-m // groups))
    counts[groups - short :] -= 1
    means: Float[np.ndarray, "n g"] = padded / counts
    return means


def _dealt(task: Task, m: int) -> Tensor | None:
    """Return the jackknife group of each test sample (m,)."""
    if isinstance(task, Forecast):
        many = min(JACKKNIFE_GROUPS, m // (task.window + task.horizon))
        return None if many < MIN_STRETCHES else torch.arange(m) * many // m
    return None if m < 2 else torch.arange(m) % min(m, JACKKNIFE_GROUPS)


def _jackknife(task: Task, answers: Tensor | None, y: Tensor, groups: Tensor) -> Float[np.ndarray, " g"]:
    """Return each group's contribution to a student's score; their mean is the score."""
    many = int(groups.max()) + 1
    if answers is None:
        return np.full(many, task.chance_score(y))
    without = np.array([task.score(answers[groups != g], y[groups != g]) for g in range(many)])
    contributions: Float[np.ndarray, " g"] = task.score(answers, y) + (many - 1) * (without.mean() - without)
    return contributions
