"""Ridge regression in closed form, for real values, and for classes by one-hot rows."""

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from potstill.core import Task
from potstill.evaluation.estimators import Predictor
from potstill.tasks import Classification

__all__ = ["Ridge"]


@dataclass(frozen=True, kw_only=True)
class Ridge:
    """Ridge regression by one Cholesky decomposition in float64, on inputs standardised by the training samples.

    With d inputs it solves (XᵀX/n + λ·I) W = XᵀY/n, λ = ``penalty`` · trace(XᵀX/n)/d, or its dual with fewer samples
    than inputs.
    """

    real_rows: ClassVar[bool] = True
    penalty: float = 0.01
    """Relative to the mean variance of the inputs. Ours."""

    @property
    def name(self) -> str:
        return "ridge"

    @property
    def tasks(self) -> tuple[str, ...]:
        return ("classification", "regression", "forecast")

    @property
    def draws(self) -> bool:
        return False

    def fit(self, x: Tensor, y: Tensor, weights: Tensor | None, task: Task, seed: int) -> Predictor:
        classes = isinstance(task, Classification)
        targets = F.one_hot(y.long(), task.outputs) if classes and y.ndim == 1 else y
        a, b = x.detach().flatten(1).double(), targets.detach().double()
        n = len(a)
        share = (torch.ones_like(a[:, 0]) if weights is None else weights.to(a))[:, None]
        share = share / share.sum()
        mean, centre = (share * a).sum(0), (share * b).sum(0)
        spread = (share * (a - mean).square()).sum(0).sqrt()
        spread = torch.where(spread > 1e-9, spread, torch.ones_like(spread))
        root = share.sqrt()
        a, b = root * (a - mean) / spread, root * (b - centre)
        d = a.shape[1]
        penalty = self.penalty * max(float(a.square().sum()) / d, 1e-12)
        square = a @ a.T if n < d else a.T @ a
        lower = torch.linalg.cholesky(square + penalty * torch.eye(len(square), dtype=a.dtype, device=a.device))
        w = a.T @ torch.cholesky_solve(b, lower) if n < d else torch.cholesky_solve(a.T @ b, lower)

        def predict(inputs: Tensor) -> Tensor:
            found = ((inputs.flatten(1).to(w) - mean) / spread) @ w + centre
            return found.argmax(1) if classes else found.float()

        return predict
