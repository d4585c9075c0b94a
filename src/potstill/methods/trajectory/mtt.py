r"""MTT: dataset distillation by Matching Training Trajectories (Cazenavette et al., CVPR 2022).

.. math:: L = \lVert \theta_N - \tau[t + M] \rVert^2 \,/\, \lVert \tau[t] - \tau[t + M] \rVert^2, \qquad
    t \sim U\{0, \dots, t_{\max} - 1\}

τ[t] are an expert's weights after t epochs on the real data; θ_N is where a student that starts at τ[t] comes to in N
steps of plain SGD on the set, at a learned rate. The objective: `potstill.methods.trajectory._trajectory`.

Published for CIFAR at 1 and 10 per class, and CIFAR-100 at 50, is data whitened by the transform of this family
(``--zca mtt``); without it sets transfer better to other networks (the authors' advice, issue 18). Its gradient is that
of the whole unroll, here exactly in the memory of one step (``mode="replay"``) where a graph of all would be large.
"""

from dataclasses import dataclass
from typing import ClassVar

from potstill.core import Efforts, MethodInfo, Problem
from potstill.methods._engine import Engineered
from potstill.methods._matching import Matching, MatchState
from potstill.methods.trajectory._values import Published, TrajectoryValues, following

__all__ = ["MTT", "RUNS"]

_SMALL = {"lr_rate": 1e-5, "lr_student": 0.01}
_TINY = {"lr_rate": 1e-4, "lr_student": 0.01, "lr": 1e4}

RUNS: Published = {
    (10, 1): {"student_steps": 50, "ahead": 2, "start_until": 2, "lr": 100.0, "lr_rate": 1e-7, "lr_student": 0.01},
    (10, 10): {"student_steps": 30, "ahead": 2, "start_until": 20, "lr": 100.0, "lr_rate": 1e-5, "lr_student": 1e-3},
    (10, 50): {"student_steps": 30, "ahead": 2, "start_until": 40, "lr": 1000.0, "lr_rate": 1e-5, "lr_student": 1e-3},
    (100, 1): {"student_steps": 20, "ahead": 3, "start_until": 20, "lr": 1000.0, **_SMALL},
    (100, 10): {"student_steps": 20, "ahead": 2, "start_until": 20, "lr": 1000.0, **_SMALL},
    (100, 50): {"student_steps": 80, "ahead": 2, "start_until": 40, "lr": 1000.0, "batch": 125, **_SMALL},
    (200, 1): {"student_steps": 10, "ahead": 2, "start_until": 10, **_TINY},
    (200, 10): {"student_steps": 20, "ahead": 2, "start_until": 40, "batch": 200, **_TINY},
    (200, 50): {"student_steps": 20, "ahead": 2, "start_until": 40, "batch": 300, **_TINY},
}
"""CIFAR-10, CIFAR-100 and Tiny-ImageNet at 1, 10 and 50 per class (the README's table and its scripts)."""


@dataclass(frozen=True, kw_only=True)
class MTT(TrajectoryValues, Engineered[MatchState]):
    """Walk students along the trajectories of experts on the real data."""

    info: ClassVar[MethodInfo] = MethodInfo(
        title="Dataset Distillation by Matching Training Trajectories",
        paper="arXiv:2203.11932",
        year=2022,
        family="trajectory",
        kinds=("*",),
        training={"lr": 0.01, "augmentation": "dsa", "epochs": 1000},
    )
    efforts: ClassVar[Efforts] = {
        "quick": {
            "networks_trained": 3,
            "epochs_trained": 8,
            "start": "k-means",
            "iterations": 150,
            "lr": 1000.0,
            "lr_rate": 1e-5,
            "student_steps": 15,
        },
        "good": {"networks_trained": 10, "epochs_trained": 25, "start": "k-means", "iterations": 1000},
    }
    published: ClassVar[Published] = RUNS

    def engine(self, problem: Problem) -> Matching:
        return following(self, problem)
