"""Conversions for learners: rows, labels and weights for scikit-learn; centred targets for closed forms."""

import numpy as np
import torch
from jaxtyping import Float, Num
from torch import Tensor

from potstill.augment.mix import label_rows
from potstill.core import Task
from potstill.functional.label_simplex import to_scores
from potstill.tasks import Classification

__all__ = ["answered", "answers_of", "matrix", "scores_of", "training_rows"]


def matrix(x: Tensor) -> Float[np.ndarray, "n d"]:
    """Return inputs (n, …) as rows (n, d), float64."""
    return np.asarray(x.detach().cpu().flatten(1).double().numpy())


def training_rows(
    x: Tensor, y: Tensor, weights: Tensor | None, classes: bool
) -> tuple[Float[np.ndarray, "m d"], Num[np.ndarray, "m ..."], Float[np.ndarray, " m"] | None]:
    """Return rows, targets and weights to fit on.

    Rows of class probabilities become one sample for each class with a positive one, weighted by it.

    Args:
        x: inputs (n, …).
        y: int64 classes (n,), rows (n, k) of probabilities, or real values (n, t).
        weights: of each sample (n,), or ``None``: all equal.
        classes: ``y`` are classes or rows of probabilities.
    """
    y = y.detach().cpu()
    counts = None if weights is None else weights.detach().cpu().double()
    if classes and y.ndim == 2:
        sample, label = torch.where(y > 0)
        part = y[sample, label].double()
        counts = part if counts is None else part * counts[sample]
        return matrix(x)[sample.numpy()], label.numpy(), counts.numpy()
    targets = y.numpy() if classes else y.double().numpy()
    return matrix(x), targets, None if counts is None else counts.numpy()


def answers_of(predictions: Num[np.ndarray, "n ..."], classes: bool) -> Tensor:
    """Return predictions in the form that ``score`` takes: int64 classes (n,), or float32 values (n, t)."""
    made = torch.from_numpy(np.ascontiguousarray(predictions))
    return made.long() if classes else made.float().reshape(len(made), -1)


def scores_of(y: Tensor, weights: Tensor | None, task: Task) -> tuple[Float[Tensor, "n t"], Float[Tensor, " t"]]:
    """Return centred float64 targets, and the offset to add to predictions.

    Classes: one-hot rows, or the given rows, less 1/k, and zeros. Real values: differences from their weighted mean,
    and that.
    """
    if isinstance(task, Classification):
        made = to_scores(label_rows(y.detach(), task.outputs, torch.float64))
        return made, torch.zeros_like(made[0])
    values = y.detach().double().reshape(len(y), -1)
    share = torch.ones_like(values[:, :1]) if weights is None else weights.to(values)[:, None]
    mean = (share * values).sum(0) / share.sum()
    return values - mean, mean


def answered(outputs: Float[Tensor, "n t"], task: Task) -> Tensor:
    """Return a closed form's outputs in the form that ``score`` takes: the likeliest class (n,), or float32 values
    (n, t)."""
    return outputs.argmax(1) if isinstance(task, Classification) else outputs.float()
