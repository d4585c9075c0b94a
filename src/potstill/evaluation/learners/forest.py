"""scikit-learn's random forests."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from potstill.core import Task
from potstill.evaluation.estimators import Predictor
from potstill.evaluation.learners.common import answers_of, matrix, training_rows
from potstill.tasks import Classification

__all__ = ["Forest"]


@dataclass(frozen=True, kw_only=True)
class Forest:
    """scikit-learn's ``RandomForestClassifier`` or ``RandomForestRegressor``, with its defaults."""

    trees: int = 100
    """scikit-learn's default."""

    @property
    def name(self) -> str:
        return "forest"

    @property
    def tasks(self) -> tuple[str, ...]:
        return ("classification", "regression", "forecast")

    @property
    def draws(self) -> bool:
        return True

    def fit(self, x: Tensor, y: Tensor, weights: Tensor | None, task: Task, seed: int) -> Predictor:
        from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor

        classes = isinstance(task, Classification)
        rows, targets, counts = training_rows(x, y, weights, classes)
        kind = RandomForestClassifier if classes else RandomForestRegressor
        if not classes and targets.shape[1] == 1:
            targets = targets[:, 0]
        model: Any = kind(n_estimators=self.trees, random_state=seed % 2**32)
        model.fit(rows, targets, sample_weight=counts)
        return lambda inputs: answers_of(model.predict(matrix(inputs)), classes)
