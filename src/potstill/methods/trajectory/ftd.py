r"""FTD: Flat Trajectory Distillation (Du et al., CVPR 2023): experts that go towards flat minima, and a moving average.

.. math:: \epsilon = \rho\, \frac{\theta^2 \odot g}{\lVert\, |\theta| \odot g\, \rVert}, \qquad
    \theta \leftarrow \theta - \eta\, \big(\nabla \ell(\theta + \epsilon) - \alpha\, g_\perp\big), \qquad
    \bar S \leftarrow \lambda\, \bar S + (1 - \lambda)\, S

g is the gradient of an expert's loss and g_⊥ its part that is orthogonal to that at θ + ε (GSAM), so that small errors
along the student's way lead less far off. The rest is MTT; the result is the average of the set over the steps. α is
0.3 in two of the eight published runs and 1 in the others (docs/parameters.png); the program's own default is 0.4.
"""

from dataclasses import dataclass
from typing import ClassVar

from potstill.core import MethodInfo, Presets, Problem
from potstill.methods.engine import AUTO, Auto, EngineMethod, MatchingEngine, MatchingState
from potstill.methods.trajectory._runs import FTD as RUNS
from potstill.methods.trajectory._values import GOOD, QUICK, Published, TrajectoryValues, following

__all__ = ["FTD"]


@dataclass(frozen=True, kw_only=True)
class FTD(TrajectoryValues, EngineMethod[MatchingState]):
    """Walk students along experts that were trained towards flat minima, and average the set."""

    info: ClassVar[MethodInfo] = MethodInfo(
        title="Minimizing the Accumulated Trajectory Error to Improve Dataset Distillation",
        paper="arXiv:2211.11004",
        year=2023,
        family="trajectory",
        kinds=("*",),
        training={"lr": 0.01, "augmentation": "dsa", "epochs": 1000},
    )
    presets: ClassVar[Presets] = {
        "quick": {**QUICK, "start": "k-means", "average": 0.9, "gsam_alpha": 0.3},
        "good": {**GOOD, "start": "k-means", "average": 0.99, "gsam_alpha": 0.3},
    }  # fmt: skip
    published: ClassVar[Published] = RUNS

    average: Auto[float] = AUTO
    """The result is a moving average of what is stored, which keeps so much at every step; 0: it is the last."""
    flat: bool = True
    """Train experts towards flat minima."""
    gsam_alpha: Auto[float] = AUTO
    """α of GSAM: how much of the gradient's orthogonal part is taken away (docs/parameters.png)."""

    def build_engine(self, problem: Problem) -> MatchingEngine:
        return following(self, problem)
