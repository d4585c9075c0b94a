r"""ATT: Automatic Training Trajectories (Liu et al., ECCV 2024): compare the student where it comes nearest.

.. math:: L = \frac{\lVert \theta_{j} - \theta^* \rVert^2}{\lVert \theta_0 - \theta^* \rVert^2}, \qquad
    j = \arg\min_{1 \le i \le N} \lVert \theta_i - \theta^* \rVert_1

Otherwise it is MTT. What the student does after step j has no part in the loss.
"""

from dataclasses import dataclass
from typing import ClassVar

from potstill.core import Efforts, MethodInfo, Problem
from potstill.methods._engine import Engineered
from potstill.methods._matching import Matching, MatchState
from potstill.methods.trajectory._values import GOOD, QUICK, Published, TrajectoryValues, following

__all__ = ["ATT"]

_TINY = {"lr": 1e4, "lr_rate": 1e-4, "lr_student": 0.01}

RUNS: Published = {
    (10, 1): {"student_steps": 80, "ahead": 4, "start_until": 2, "lr": 100.0, "lr_rate": 1e-7},
    (10, 10): {"student_steps": 30, "ahead": 2, "start_until": 20, "lr": 1e4, "lr_rate": 1e-4},
    (10, 50): {"student_steps": 50, "ahead": 2, "start_until": 40, "lr": 100.0, "lr_rate": 1e-5, "lr_student": 1e-3},
    (100, 1): {"student_steps": 50, "ahead": 4, "start_until": 20, "lr": 500.0, "lr_rate": 1e-5},
    (100, 10): {"student_steps": 20, "ahead": 2, "start_until": 40, "lr": 1000.0, "lr_rate": 1e-5},
    (100, 50): {"student_steps": 80, "ahead": 2, "start_until": 40, "lr": 1000.0, "lr_rate": 1e-5},
    (200, 1): {"student_steps": 30, "ahead": 2, "start_until": 10, **_TINY},
    (200, 10): {"student_steps": 20, "ahead": 2, "start_until": 40, **_TINY},
}
"""CIFAR-10, CIFAR-100 and Tiny-ImageNet (table.png of the repository); what it does not say is MTT's."""


@dataclass(frozen=True, kw_only=True)
class ATT(TrajectoryValues, Engineered[MatchState]):
    """Walk students along experts' trajectories, and compare them where they come nearest."""

    info: ClassVar[MethodInfo] = MethodInfo(
        title="Dataset Distillation by Automatic Training Trajectories",
        paper="arXiv:2407.14245",
        year=2024,
        family="trajectory",
        kinds=("*",),
        training={"lr": 0.01, "augmentation": "dsa", "epochs": 1000},
    )
    efforts: ClassVar[Efforts] = {
        "quick": {**QUICK, "start": "k-means"},
        "good": {**GOOD, "start": "k-means"},
    }  # fmt: skip
    published: ClassVar[Published] = RUNS

    nearest: bool = True
    """Compare the student's step that comes nearest to the target, not its last."""

    def engine(self, problem: Problem) -> Matching:
        return following(self, problem)
