"""Every registered task keeps the contract, and `check_task` finds what is planted into one that does not."""

from dataclasses import dataclass
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from potstill.core import registry
from potstill.rng import generator
from potstill.tasks import (
    Classification,
    Forecast,
    Metric,
    MultiLabel,
    ObjectDetection,
    PixelRegression,
    Regression,
    Retrieval,
    Segmentation,
    Survival,
    Task,
    pad_targets,
    target_mask,
)
from potstill.testing import ContractError, check_task

N = 24
REAL = torch.randn(N, 2, generator=generator(0, "tasks")) * 3 + 1
SEVERAL = pad_targets([torch.arange(2)[: i % 3] for i in range(N)])
PRESENT = torch.stack([torch.tensor([i % 3 > 0, i % 3 > 1]).long() for i in range(N)])
FAR = torch.eye(N).repeat(1, 2)
MASKS = torch.where(torch.rand(N, 3, 4, generator=generator(0, "masks")) < 0.4, 1, 0)
MASKS[:2, 0, 0] = 255
DEPTHS = torch.rand(N, 2, 3, 4, generator=generator(0, "depths")) * 5 - 1
DEPTHS[:2, :, 0, 0] = torch.nan
BOXES = pad_targets([torch.tensor([[1.0, 1, 5, 6, 0], [8, 8, 14, 15, 1]])[: 1 + i % 2] for i in range(N)])
SURE = torch.cat([BOXES, BOXES[..., 4:] * 0 + 1], 2).where(
    target_mask(BOXES)[..., None], torch.finfo(torch.float32).min
)
LIVES = torch.stack([REAL[:, 0].abs(), (torch.arange(N) % 3 > 0).float()], 1)
CASES: dict[str, tuple[Task, Tensor, Tensor | None]] = {
    "classification": (Classification(k=4), torch.arange(N) % 4, None),
    "regression": (Regression(targets=("price", "rent")), REAL, None),
    "forecast": (Forecast(variables=("load",), window=4, horizon=2, mean=(1.0,), std=(3.0,)), REAL, None),
    "multi-label": (MultiLabel(labels=("a", "b")), SEVERAL, PRESENT),
    "retrieval": (Retrieval(width=N, k=1), torch.arange(N), FAR),
    "detection": (ObjectDetection(labels=("cat", "dog"), size=(16, 16)), BOXES, SURE),
    "segmentation": (Segmentation(labels=("sky", "sea")), MASKS, MASKS % 255),
    "pixel-regression": (PixelRegression(), DEPTHS, DEPTHS.nan_to_num()),
    "survival": (Survival(), LIVES, -LIVES[:, :1]),
}


@pytest.mark.parametrize("name", [n for n in registry.names("tasks", outside=False) if n != "recommendation"])
def test_every_task_keeps_the_contract(name: str) -> None:
    """But for recommendation, which no network trains on: tests/tasks/test_recommendation_scores.py."""
    task, y, perfect = CASES[name]
    assert task.name == name
    check_task(task, y, perfect)


def spoiled(defect: str) -> Any:
    @dataclass(frozen=defect != "not frozen")
    class Odd:
        """Real targets (n, 1), with one thing wrong."""

        scale: Any = object() if defect == "json" else 1.0
        name: str = "regression" if defect == "taken" else "odd"
        unit: str = "item"
        outputs: int = 0 if defect == "outputs" else 1

        @property
        def invariant_to(self) -> tuple[str, ...]:
            return ("flip", "twist") if defect == "operation" else ("flip",)

        @property
        def metric(self) -> Metric:
            return Metric(
                name="error", direction="higher" if defect == "direction" else "lower", unit="metres",
                high=0.5 if defect == "range" else float("inf"),
            )  # fmt: skip

        def loss(self, output: Tensor, y: Tensor, /) -> Tensor:
            if defect == "sums":
                return (output - y).square()
            if defect == "cut":
                return F.mse_loss(output, y) + output.detach().square().mean()
            return F.mse_loss(output, -y if defect == "other way" else y)

        def predict(self, output: Tensor, /) -> Tensor:
            return output[:-1] if defect == "fewer" else output

        def score(self, answers: Tensor, y: Tensor, groups: Tensor | None = None, /) -> float:
            assert defect == "fewer" or answers.shape == y.shape
            error = (answers.double() - y.double()[: len(answers)]).square().mean()
            return error if defect == "tensor" else float(error)  # type: ignore[return-value]

        def chance_score(self, y: Tensor, /) -> float:
            return -1.0 if defect == "worst" else float(y.double().square().mean())

    return Odd()


@pytest.mark.parametrize(
    ("defect", "said"),
    [
        ("not frozen", "must be a frozen dataclass"), ("taken", "regression is registered as"),
        ("outputs", "a width of at least 1"), ("direction", "which is better"),
        ("range", "a float from 0.0 to 0.5"), ("cut", "grow along its gradient"),
        ("other way", "must score better than who knows nothing"), ("fewer", "24 answers"),
        ("tensor", "a score must be"), ("worst", "which is better"),
        ("operation", "invariant_to names .'twist'., but operations are flip, shift"),
    ],
)  # fmt: skip
def test_a_planted_defect_is_found(defect: str, said: str) -> None:
    with pytest.raises(ContractError, match=said):
        check_task(spoiled(defect), REAL[:, :1])


@pytest.mark.parametrize("defect", ["json", "sums"])
def test_what_is_no_json_or_no_number_is_refused(defect: str) -> None:
    with pytest.raises((TypeError, RuntimeError)):
        check_task(spoiled(defect), REAL[:, :1])


def test_the_same_without_a_defect_passes() -> None:
    check_task(spoiled("none"), REAL[:, :1])
