r"""FTD: Flat Trajectory Distillation (Du et al., CVPR 2023): experts that go towards flat minima, and a moving average.

.. math:: \epsilon = \rho\, \frac{\theta^2 \odot g}{\lVert\, |\theta| \odot g\, \rVert}, \qquad
    \theta \leftarrow \theta - \eta\, \big(\nabla \ell(\theta + \epsilon) - \alpha\, g_\perp\big), \qquad
    \bar S \leftarrow \lambda\, \bar S + (1 - \lambda)\, S

g is the gradient of an expert's loss and g_⊥ its part that is orthogonal to that at θ + ε (GSAM), so that small errors
along the student's way lead less far off. The rest is MTT; the result is the average of the set over the steps.
"""

from dataclasses import dataclass
from typing import ClassVar

from potstill.core import Efforts, MethodInfo, Problem
from potstill.methods._engine import Engineered
from potstill.methods._matching import Matching, MatchState
from potstill.methods._published import BY_DATA, ByData
from potstill.methods.trajectory._values import GOOD, QUICK, Published, TrajectoryValues, following

__all__ = ["FTD"]

_SMALL = {"lr": 1000.0, "lr_rate": 1e-5}
_TINY = {"lr": 1e4, "lr_rate": 1e-4}

RUNS: Published = {
    (10, 1): {"student_steps": 50, "ahead": 2, "start_until": 2, "lr": 100.0, "lr_rate": 1e-7, "average": 0.9999},
    (10, 10): {
        "student_steps": 30, "ahead": 2, "start_until": 20, "lr": 100.0, "lr_rate": 1e-5, "lr_student": 1e-3,
        "average": 0.9995,
    },
    (10, 50): {"student_steps": 30, "ahead": 2, "start_until": 40, "average": 0.999, **_SMALL},
    (100, 1): {"student_steps": 40, "ahead": 3, "start_until": 20, "average": 0.9995, **_SMALL},
    (100, 10): {"student_steps": 20, "ahead": 2, "start_until": 40, "average": 0.9995, **_SMALL},
    (100, 50): {"student_steps": 80, "ahead": 2, "start_until": 40, "batch": 1000, "average": 0.999, **_SMALL},
    (200, 1): {"student_steps": 30, "ahead": 2, "start_until": 10, "average": 0.999, **_TINY},
    (200, 10): {"student_steps": 20, "ahead": 2, "start_until": 40, "batch": 500, "average": 0.999, **_TINY},
}  # fmt: skip
"""CIFAR-10, CIFAR-100 and Tiny-ImageNet (docs/parameters.png of the repository). It gives the decays 0.9999, 0.9995 and
0.999; which run has which, beyond those of CIFAR-10, is our reading."""


@dataclass(frozen=True, kw_only=True)
class FTD(TrajectoryValues, Engineered[MatchState]):
    """Walk students along experts that were trained towards flat minima, and average the set."""

    info: ClassVar[MethodInfo] = MethodInfo(
        title="Minimizing the Accumulated Trajectory Error to Improve Dataset Distillation",
        paper="arXiv:2211.11004",
        year=2023,
        family="trajectory",
        kinds=("*",),
        training={"lr": 0.01, "augmentation": "dsa", "epochs": 1000},
    )
    efforts: ClassVar[Efforts] = {
        "quick": {**QUICK, "start": "k-means", "average": 0.9},
        "good": {**GOOD, "start": "k-means", "average": 0.99},
    }  # fmt: skip
    published: ClassVar[Published] = RUNS

    average: ByData[float] = BY_DATA
    """The result is a moving average of what is stored, which keeps so much at every step; 0: it is the last."""
    flat: bool = True
    """Train experts towards flat minima."""

    def engine(self, problem: Problem) -> Matching:
        return following(self, problem)
