"""Learners of times until an event: Cox's regression, and boosted trees with its likelihood."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from potstill._util.optional import import_optional
from potstill.core import Task
from potstill.evaluation.estimators import Predictor
from potstill.evaluation.learners import BuiltIn
from potstill.functional.survival import fit_cox

__all__ = ["Cox", "XGBoostCox"]


@dataclass(frozen=True, kw_only=True)
class Cox(BuiltIn):
    """Cox's proportional hazards with a penalty on the squares of the coefficients; Breslow's way with ties.

    Raises:
        PotstillError: the penalty is below 0.
    """

    name: ClassVar[str] = "cox"
    tasks: ClassVar[tuple[str, ...]] = ("survival",)
    penalty: float = 0.05
    """Weight of the squared coefficients beside the mean negative log likelihood of an event. Ours."""

    def __post_init__(self) -> None:
        self._require_least(penalty=0)

    def fit(self, x: Tensor, y: Tensor, weights: Tensor | None, task: Task, seed: int) -> Predictor:
        beta = fit_cox(x.detach().flatten(1), y[:, 0], y[:, 1] > 0.5, weights, self.penalty)
        return lambda inputs: (inputs.detach().flatten(1).double() @ beta.to(inputs.device)).float()[:, None]


@dataclass(frozen=True, kw_only=True)
class XGBoostCox(BuiltIn):
    """XGBoost's trees with Cox's partial likelihood (``survival:cox``), with their defaults, on the CPU.

    Raises:
        PotstillError: XGBoost is not installed, or ``rounds`` is below 1.
    """

    name: ClassVar[str] = "xgboost-cox"
    tasks: ClassVar[tuple[str, ...]] = ("survival",)
    rounds: int = 100
    """Trees: XGBoost's default."""

    def __post_init__(self) -> None:
        self._require_least(rounds=1)
        import_optional("xgboost", "learner xgboost-cox", "trees")

    def fit(self, x: Tensor, y: Tensor, weights: Tensor | None, task: Task, seed: int) -> Predictor:
        import xgboost

        rows = _matrix(x)
        times, events = y.detach().cpu().double().numpy().T
        signed = np.where(events > 0.5, 1.0, -1.0) * np.maximum(times, 1e-12)  # a censored time is a negative label
        share = None if weights is None else weights.detach().cpu().double().numpy()
        data = xgboost.DMatrix(rows, label=signed, weight=share)
        settings: dict[str, Any] = {
            "objective": "survival:cox", "nthread": torch.get_num_threads(), "seed": seed % 2**31, "verbosity": 0,
        }  # fmt: skip
        model = xgboost.train(settings, data, self.rounds)

        def predict(inputs: Tensor) -> Tensor:
            found = model.predict(xgboost.DMatrix(_matrix(inputs)), output_margin=True)
            return torch.from_numpy(np.asarray(found)).float()[:, None]

        return predict


def _matrix(x: Tensor) -> np.ndarray[Any, Any]:
    """Return inputs (n, …) as rows (n, d), float64."""
    return np.asarray(x.detach().cpu().flatten(1).double().numpy())
