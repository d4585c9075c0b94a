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

from potstill.core import MethodInfo, Presets, Problem, UnitFloat
from potstill.methods.engine import AUTO, Auto, EngineMethod, MatchingEngine, MatchingState
from potstill.methods.trajectory._parts import TrajectoryParts, gsam_training
from potstill.methods.trajectory._published import FTD as RUNS
from potstill.methods.trajectory._values import GOOD, QUICK, Published, TrajectoryFields, build_trajectory_engine

__all__ = ["FTD"]


@dataclass(frozen=True, kw_only=True)
class FTD(TrajectoryFields, EngineMethod[MatchingState]):
    """Train students along experts that were trained towards flat minima, and average the set."""

    info: ClassVar[MethodInfo] = MethodInfo(
        title="Minimizing the Accumulated Trajectory Error to Improve Dataset Distillation", paper="arXiv:2211.11004",
        year=2023, family="trajectory", kinds=("*",), training={"lr": 0.01, "augmentation": "dsa", "epochs": 1000},
        use_when="Take it in place of mtt where long student paths drift: flatter experts and an averaged set are "
        "more forgiving.",
        avoid_when="Avoid it for short runs: its experts cost twice as much, and here it was not told apart from "
        "mtt.",
        related=("mtt", "datm", "att"),
    )  # fmt: skip
    presets: ClassVar[Presets] = {
        "quick": {**QUICK, "ema_decay": 0.9, "gsam_alpha": 0.3},
        "good": {**GOOD, "ema_decay": 0.99, "gsam_alpha": 0.3},
    }  # fmt: skip
    published: ClassVar[Published] = RUNS

    ema_decay: Auto[UnitFloat] = AUTO
    """Decay of the moving average that is the result; 0: the result is the last state."""
    gsam: bool = True
    """Train experts towards flat minima, by GSAM with ρ = 0.01; otherwise by SGD."""
    gsam_alpha: Auto[float] = AUTO
    """α of GSAM: weight of the gradient's orthogonal part (docs/parameters.png)."""

    def build_engine(self, problem: Problem) -> MatchingEngine:
        training = gsam_training(self.gsam_alpha) if self.gsam else {}
        parts = TrajectoryParts(ema_decay=self.ema_decay, expert_training=training)
        return build_trajectory_engine(self, problem, parts)
