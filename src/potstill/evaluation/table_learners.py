"""Learners that people take for tables: nearest neighbours and boosted trees."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from potstill._util.optional import import_optional
from potstill.augment.mix import label_rows
from potstill.core import Task
from potstill.evaluation.estimators import Predictor
from potstill.evaluation.learners import BuiltIn, ScikitLearn, predictions
from potstill.tasks import Classification

__all__ = ["Boosting", "Neighbours", "XGBoost"]

_ROWS = 256
"""Rows per pass of a search for neighbours."""


@dataclass(frozen=True, kw_only=True)
class Neighbours(BuiltIn):
    """k nearest neighbours by Euclidean distance. Each votes with its label, times its weight; of classes with as many
    votes that of the nearest wins. Real values are means.

    Raises:
        PotstillError: ``k`` is below 1.
    """

    name: ClassVar[str] = "neighbours"
    real_rows: ClassVar[bool] = True
    k: int = 5
    """Number of neighbours, at most the rows that there are: scikit-learn's default."""

    def __post_init__(self) -> None:
        self._require_least(k=1)

    def fit(self, x: Tensor, y: Tensor, weights: Tensor | None, task: Task, seed: int) -> Predictor:
        is_classes = isinstance(task, Classification)
        rows = x.detach().flatten(1).double()
        labels = label_rows(y.detach(), task.outputs, torch.float64) if is_classes else y.detach().double()
        labels = labels.reshape(len(rows), -1)
        shares = torch.ones_like(rows[:, 0]) if weights is None else weights.detach().to(rows)
        counted = shares > 0  # a row without a vote takes no neighbour's place
        rows, labels, shares = rows[counted], labels[counted], shares[counted]
        k = min(self.k, len(rows))
        nearer = 1 + 1e-6 * 0.5 ** torch.arange(k, dtype=rows.dtype, device=rows.device)
        """What decides between as many votes: the nearest outweighs all that are farther."""

        def answers(inputs: Tensor) -> Tensor:
            found = torch.cdist(inputs.detach().flatten(1).double(), rows).topk(k, largest=False, sorted=True).indices
            votes = shares[found]
            votes = votes * nearer if is_classes else votes / votes.sum(1, keepdim=True)
            return torch.einsum("nk,nkt->nt", votes, labels[found])

        return lambda inputs: predictions(torch.cat([answers(part) for part in torch.split(inputs, _ROWS)]), task)


@dataclass(frozen=True, kw_only=True)
class Boosting(ScikitLearn):
    """scikit-learn's ``HistGradientBoostingClassifier`` or ``…Regressor``, with its defaults but for ``min_rows``, and
    without stopping early. Several outputs have one model each.

    Raises:
        PotstillError: a setting is below 1.
    """

    name: ClassVar[str] = "boosting"
    rounds: int = 100
    """Trees, of classes beyond two for each class: scikit-learn's default."""
    min_rows: int = 5
    """Rows at each end of a tree at least, and at most half of all. scikit-learn has 20, which needs 40 rows."""

    def __post_init__(self) -> None:
        self._require_least(rounds=1, min_rows=1)

    def estimator(self, classes: bool, seed: int, rows: int, outputs: int) -> Any:
        from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
        from sklearn.multioutput import MultiOutputRegressor

        kind = HistGradientBoostingClassifier if classes else HistGradientBoostingRegressor
        model = kind(
            max_iter=self.rounds, min_samples_leaf=max(1, min(self.min_rows, rows // 2)), early_stopping=False,
            random_state=seed % 2**32,
        )  # fmt: skip
        return MultiOutputRegressor(model) if outputs > 1 else model


@dataclass(frozen=True, kw_only=True)
class XGBoost(ScikitLearn):
    """XGBoost's trees (``XGBClassifier`` or ``XGBRegressor``) with their defaults, on the CPU.

    Raises:
        PotstillError: XGBoost is not installed, or ``rounds`` is below 1.
    """

    name: ClassVar[str] = "xgboost"
    rounds: int = 100
    """Trees, of classes beyond two for each class: XGBoost's default."""

    def __post_init__(self) -> None:
        self._require_least(rounds=1)
        import_optional("xgboost", "learner xgboost", "trees")

    def estimator(self, classes: bool, seed: int, rows: int, outputs: int) -> Any:
        import xgboost

        kind = xgboost.XGBClassifier if classes else xgboost.XGBRegressor
        return kind(n_estimators=self.rounds, n_jobs=torch.get_num_threads(), random_state=seed % 2**31)
