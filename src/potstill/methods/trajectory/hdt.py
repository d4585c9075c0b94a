r"""HDT: Harmonic Dataset Distillation for Time Series Forecasting (Hong et al., AAAI 2026, arXiv:2603.03760).

.. math:: L = \frac{\lVert \theta_N - \tau[t + M] \rVert^2}{\lVert \tau[t] - \tau[t + M] \rVert^2}
    + \lambda\, \big\lVert\, |F_X[H]| - |F_S[H]| \,\big\rVert_p

The first term is that of `potstill.methods.trajectory.mtt`; the second compares amplitudes of the learned series with
those of a real stretch as long, another in each step, at its k largest ones (`potstill.functional.harmonic_loss`).

The paper was not read. These two terms, and that Fourier coefficients are learned and DLinear is the network, stand in
a public summary of it (zhaoyang97/Paper-Notes-en); k, p, λ and all rates do not, and are ours. There the target of the
first term is a network that was trained on the harmonics of that stretch alone; here it is an expert that was trained
on all windows. Here the points are learned, or the cosine coefficients of ``series:length=M,harmonics=K``.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

from potstill.core import MethodInfo, Presets, Problem, UnitFloat
from potstill.methods.engine import EngineMethod, MatchingEngine, MatchingState
from potstill.methods.trajectory._harmonics import WithHarmonicLoss
from potstill.methods.trajectory._parts import TrajectoryParts
from potstill.methods.trajectory._published import FORECAST_RUNS
from potstill.methods.trajectory._values import Published, TrajectoryFields, build_trajectory_engine

__all__ = ["HDT"]

QUICK: Mapping[str, Any] = {
    "num_experts": 5, "train_epochs": 40, "min_updates_per_epoch": 40, "iterations": 200, "lr": 0.003,
}  # fmt: skip
"""Preset ``quick``: as many steps along trajectories as CondTSF's."""


@dataclass(frozen=True, kw_only=True)
class HDT(TrajectoryFields, EngineMethod[MatchingState]):
    """Train students along experts' trajectories on a learned series whose amplitudes are those of real stretches."""

    info: ClassVar[MethodInfo] = MethodInfo(
        title="Harmonic Dataset Distillation for Time Series Forecasting (after a summary)", paper="arXiv:2603.03760",
        year=2026, family="trajectory", kinds=("series",), tasks=("forecast",),
        training={"lr": 0.01, "epochs": 1000},
        use_when="Take it to try the harmonic loss on a series of your own, beside condtsf.",
        avoid_when="Avoid it first: on two series kip and condtsf had lower errors for all four learners, and the "
        "harmonic loss lowered one of eight (docs/guides/series.md).",
        related=("condtsf", "mtt", "kip"),
    )  # fmt: skip
    presets: ClassVar[Presets] = {"quick": QUICK, "good": {**QUICK, "num_experts": 20, "iterations": 1000}}
    published: ClassVar[Published] = FORECAST_RUNS
    """CondTSF's."""

    iterations: int = 400
    """Steps. Ours."""
    harmonics: int = 8
    """k: frequencies of a real stretch, of largest amplitude, that count. Ours."""
    harmonic_weight: float = 0.1
    """λ: weight of the harmonic loss. Ours."""
    order: float = 2.0
    """p of its norm, at least 1. Ours."""
    num_experts: int = 40
    """Experts. CondTSF's."""
    train_epochs: int = 80
    """Epochs of each expert. CondTSF's."""
    expert_lr: float = 5e-4
    """Learning rate of the experts' SGD. CondTSF's."""
    expert_batch: int = 64
    """Batch of the experts' training. CondTSF's."""
    expert_momentum: UnitFloat = 0.9
    """Momentum of the experts' SGD. CondTSF's."""
    optimizer: Literal["sgd", "adamw"] = "adamw"
    """Optimizer of the points. CondTSF's."""
    momentum: UnitFloat = 0.9
    """First momentum of the points (Adam's default)."""
    expert_augment: str = "none"
    """Augmentation of the experts' training: none."""
    augment: str = "none"
    """Augmentation of the student's training: none."""
    network: str = "dlinear"
    """Network of experts and students, the paper's."""
    parametrization: str = "series"
    """Form of the set: one series, of which all windows are items."""

    def build_engine(self, problem: Problem) -> MatchingEngine:
        parts = TrajectoryParts(expert_training={"momentum": self.expert_momentum})
        engine = build_trajectory_engine(self, problem, parts)
        objective = WithHarmonicLoss(
            inner=engine.objective, weight=self.harmonic_weight, harmonics=self.harmonics, order=self.order
        )
        return replace(engine, objective=objective)
