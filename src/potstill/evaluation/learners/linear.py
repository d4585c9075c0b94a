"""scikit-learn's linear models: logistic regression for classes, ridge regression for real values."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from potstill.core import Task
from potstill.evaluation.estimators import Predictor
from potstill.evaluation.learners.common import answers_of, matrix, training_rows
from potstill.tasks import Classification

__all__ = ["LinearModel"]


@dataclass(frozen=True, kw_only=True)
class LinearModel:
    """scikit-learn's ``LogisticRegression`` or ``Ridge``, with its defaults."""

    strength: float = 1.0
    """``C`` of the one, ``alpha`` of the other: scikit-learn's defaults."""

    @property
    def name(self) -> str:
        return "linear-model"

    @property
    def tasks(self) -> tuple[str, ...]:
        return ("classification", "regression", "forecast")

    @property
    def draws(self) -> bool:
        return False

    def fit(self, x: Tensor, y: Tensor, weights: Tensor | None, task: Task, seed: int) -> Predictor:
        from sklearn.linear_model import LogisticRegression, Ridge

        classes = isinstance(task, Classification)
        rows, targets, counts = training_rows(x, y, weights, classes)
        model: Any = LogisticRegression(C=self.strength, max_iter=1000) if classes else Ridge(alpha=self.strength)
        model.fit(rows, targets, sample_weight=counts)
        return lambda inputs: answers_of(model.predict(matrix(inputs)), classes)
