"""Learners of series with classes: ridge regression on MiniRocket's features."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from potstill.augment.mix import label_rows
from potstill.core import Task
from potstill.errors import PotstillError
from potstill.evaluation.estimators import Predictor
from potstill.evaluation.learners import BuiltIn, predictions
from potstill.functional.minirocket import fit_minirocket

__all__ = ["MiniRocketRidge"]


@dataclass(frozen=True, kw_only=True)
class MiniRocketRidge(BuiltIn):
    """Ridge regression on MiniRocket's features (arXiv:2012.08791), standardised; its penalty has the least squared
    error when each sample is left out. One of the best classifiers of series, and draws nothing.

    Raises:
        PotstillError: a setting out of its range.
    """

    name: ClassVar[str] = "minirocket"
    tasks: ClassVar[tuple[str, ...]] = ("classification",)
    draws: ClassVar[Any] = False
    real_rows: ClassVar[bool] = True
    features: int = 9996
    """Number of features, in multiples of 84: as published."""

    def __post_init__(self) -> None:
        self._require_least(features=84)

    def fit(self, x: Tensor, y: Tensor, weights: Tensor | None, task: Task, seed: int) -> Predictor:
        if x.ndim != 3:
            raise PotstillError(
                f"{self.name} learns from series (channels, length), but inputs have shape {list(x.shape[1:])}; choose "
                "another learner"
            )
        rocket = fit_minirocket(x.detach().float(), self.features)
        rows = rocket.transform(x.detach().float()).double()
        targets = label_rows(y.detach(), task.outputs, torch.float64).to(rows)
        share = torch.ones_like(rows[:, 0]) if weights is None else weights.detach().to(rows)
        share = share / share.mean()
        counted = share > 0
        rows, targets, share = rows[counted], targets[counted], share[counted]
        mean, centre = ((share[:, None] * v).sum(0) / share.sum() for v in (rows, targets))
        spread = ((share[:, None] * (rows - mean).square()).sum(0) / share.sum()).sqrt()
        spread = torch.where(spread > 1e-8, spread, torch.ones_like(spread))
        w = _ridge(
            share.sqrt()[:, None] * (rows - mean) / spread, share.sqrt()[:, None] * (targets - centre), share.sqrt()
        )

        def predict(inputs: Tensor) -> Tensor:
            return predictions((rocket.transform(inputs.float()).double() - mean) / spread @ w + centre, task)

        return predict


def _ridge(a: Float[Tensor, "n d"], b: Float[Tensor, "n k"], root: Float[Tensor, " n"]) -> Float[Tensor, "d k"]:
    """Return the weights of the penalty, 10⁻³ to 10³, with the least error on rows that are left out, one by one.

    Args:
        a: weighted rows less their mean.
        b: weighted targets less their mean.
        root: square root of each row's weight, the direction in which ``a`` and ``b`` are 0.
    """
    unit, gram = root / root.norm(), a @ a.T
    # the direction of the mean gets an eigenvalue of its own, the largest
    values, vectors = torch.linalg.eigh(gram + (gram.trace() + 1) * torch.outer(unit, unit))
    values = values.clamp(min=0)
    best, chosen = float("inf"), b
    for penalty in torch.logspace(-3, 3, 10, dtype=a.dtype).tolist():
        inverse = 1 / (values + penalty)
        inverse[-1] = 0  # the mean takes this direction, and no weight
        alpha = vectors @ (inverse[:, None] * (vectors.T @ b))
        left_out = alpha / (vectors.square() @ inverse).clamp(min=1e-300)[:, None]
        error = float(left_out.square().sum())
        if error < best:
            best, chosen = error, alpha
    return a.T @ chosen
