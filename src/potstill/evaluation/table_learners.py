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

__all__ = ["Boosting", "LightGBM", "Neighbours", "XGBoost"]

_ROWS = 256
"""Rows per pass of a search for neighbours."""
_BINNED = 40
"""Rows from which LightGBM's default of 3 values in a bin holds; with fewer it would find no border between four."""


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


@dataclass(frozen=True, kw_only=True)
class LightGBM(ScikitLearn):
    """LightGBM's trees (``LGBMClassifier`` or ``LGBMRegressor``) with their defaults but for ``min_rows``, on the CPU.
    Several outputs have one model each.

    Raises:
        PotstillError: LightGBM is not installed, or a setting is below 1.
    """

    name: ClassVar[str] = "lightgbm"
    rounds: int = 100
    """Trees, of classes beyond two for each class: LightGBM's default."""
    min_rows: int = 5
    """Rows at each end of a tree at least, and at most half of all. LightGBM has 20, which needs 40 rows."""

    def __post_init__(self) -> None:
        self._require_least(rounds=1, min_rows=1)
        import_optional("lightgbm", "learner lightgbm", "trees")

    def estimator(self, classes: bool, seed: int, rows: int, outputs: int) -> Any:
        import lightgbm
        from sklearn.multioutput import MultiOutputRegressor

        kind = lightgbm.LGBMClassifier if classes else lightgbm.LGBMRegressor
        least = max(1, min(self.min_rows, rows // 2))
        model = kind(
            n_estimators=self.rounds, min_child_samples=least, min_data_in_bin=3 if rows >= _BINNED else 1, verbose=-1,
            n_jobs=torch.get_num_threads(), random_state=seed % 2**31, deterministic=True, force_row_wise=True,
        )  # fmt: skip
        return MultiOutputRegressor(model) if outputs > 1 else model
