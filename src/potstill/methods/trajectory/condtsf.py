r"""CondTSF: One-line Plugin of Dataset Condensation for Time Series Forecasting (Ding et al., NeurIPS 2024).

The distance between forecasts of a student and of an expert is bounded by a gradient term, which matching lowers, and a
value term: the distance of the learned series' points from the expert's forecasts there. Two of three steps here are
MTT's (`potstill.methods.trajectory.mtt`); each third one lowers the value term, with the last weights θ_f of an expert:

.. math:: y \leftarrow (1 - \beta)\, y + \beta\, f_{\theta_f}(x)

where y are the points after a window x of the learned series, one window after another
(`potstill.functional.blended_forecasts`). In MTT's steps students learn from (1 − α) of their target expert's forecast
and α of the points, by which as targets no gradient flows.

The released program (RafaDD/CondTSF) is followed, but for one normalisation: it divides each loss by its value, which
Adam makes nearly no difference. It has one series for each variable; here a series has all variables.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

from potstill.core import MethodInfo, PositiveFloat, Presets, Problem, UnitFloat
from potstill.methods.engine import AUTO, Auto, EngineMethod, MatchingEngine, MatchingState
from potstill.methods.trajectory._parts import TrajectoryParts
from potstill.methods.trajectory._published import FORECAST_RUNS
from potstill.methods.trajectory._value_term import WithValueTerm
from potstill.methods.trajectory._values import Published, TrajectoryFields, build_trajectory_engine

__all__ = ["CondTSF"]

QUICK: Mapping[str, Any] = {
    "num_experts": 5, "train_epochs": 40, "min_updates_per_epoch": 40, "iterations": 300, "beta": 0.1, "lr": 0.003,
}  # fmt: skip
"""Preset ``quick``: few experts that learn on a short series, too, whose forecasts count for more. Chosen on held-out
training parts of two series, by one set each."""


@dataclass(frozen=True, kw_only=True)
class CondTSF(TrajectoryFields, EngineMethod[MatchingState]):
    """Train students along experts' trajectories on a learned series, whose points move towards experts' forecasts."""

    info: ClassVar[MethodInfo] = MethodInfo(
        title="CondTSF: One-line Plugin of Dataset Condensation for Time Series Forecasting", paper="arXiv:2406.02131",
        year=2024, family="trajectory", kinds=("series",), tasks=("forecast",), training={"lr": 0.01, "epochs": 1000},
        use_when="Take it for a series to forecast by networks trained step by step, where kip's closed form is not "
        "what will learn from it.",
        avoid_when="Avoid it first: kip needs no experts.",
        related=("mtt", "kip", "dc"),
    )  # fmt: skip
    presets: ClassVar[Presets] = {"quick": QUICK, "good": {**QUICK, "num_experts": 20, "iterations": 1000}}
    published: ClassVar[Published] = FORECAST_RUNS

    iterations: Auto[int] = 600
    """Steps (distill.py: 300 iterations of --multistep 2)."""
    gap: int = 3
    """Every so many steps the points move towards forecasts (--cond_gap)."""
    beta: UnitFloat = 0.01
    """β: how far (--beta)."""
    alpha: UnitFloat = 0.2
    """α: share of the series' own points in the students' targets (--alpha)."""
    stride: int = 4
    """Points between the windows whose targets move (distill.py, inter_step)."""
    lr_student: Auto[PositiveFloat] = AUTO
    """Learning rate of students (--lr_init)."""
    num_experts: int = 40
    """Experts (buffer.py, --num_experts)."""
    train_epochs: int = 80
    """Epochs of each expert (--train_epochs)."""
    expert_lr: float = 5e-4
    """Learning rate of the experts' SGD (--lr_teacher)."""
    expert_batch: int = 64
    """Batch of the experts' training (--batch_train)."""
    expert_momentum: UnitFloat = 0.9
    """Momentum of the experts' SGD (--mom)."""
    optimizer: Literal["sgd", "adamw"] = "adamw"
    """Optimizer of the points (model/gcond.py: Adam)."""
    momentum: UnitFloat = 0.9
    """First momentum of the points (Adam's default)."""
    expert_augment: str = "none"
    """Augmentation of the experts' training: none."""
    augment: str = "none"
    """Augmentation of the student's training: none."""
    network: str = "dlinear"
    """Network of experts and students (--model)."""
    parametrization: str = "series"
    """Form of the set: one series, of which all windows are items."""

    def build_engine(self, problem: Problem) -> MatchingEngine:
        parts = TrajectoryParts(
            expert_labels=1 - self.alpha, expert_training={"momentum": self.expert_momentum}
        )  # fmt: skip
        engine = build_trajectory_engine(self, problem, parts)
        objective = WithValueTerm(inner=engine.objective, gap=self.gap, share=self.beta, stride=self.stride)
        return replace(engine, objective=objective)
