r"""MTT: dataset distillation by Matching Training Trajectories (Cazenavette et al., CVPR 2022).

.. math:: L = \lVert \theta_N - \tau[t + M] \rVert^2 \,/\, \lVert \tau[t] - \tau[t + M] \rVert^2, \qquad
    t \sim U\{0, \dots, t_{\max} - 1\}

τ[t] are an expert's weights after t epochs on the real data; θ_N is where a student that starts at τ[t] comes to in N
steps of plain SGD on the set, at a learned rate. The objective: `potstill.methods.trajectory._objective`.

Published for CIFAR at 1 and 10 per class, and CIFAR-100 at 50, is data whitened by the transform of this family
(``--zca mtt``); without it sets transfer better to other networks (the authors' advice, issue 18). Its gradient is that
of the whole unroll, here exactly in the memory of one step (``mode="replay"``) where a graph of all would be large.
"""

from dataclasses import dataclass
from typing import ClassVar

from potstill.core import MethodInfo, Problem
from potstill.methods.engine import EngineMethod, MatchingEngine, MatchingState
from potstill.methods.trajectory._published import MTT as RUNS
from potstill.methods.trajectory._values import Published, TrajectoryFields, build_trajectory_engine

__all__ = ["MTT", "RUNS"]


@dataclass(frozen=True, kw_only=True)
class MTT(TrajectoryFields, EngineMethod[MatchingState]):
    """Train students along the trajectories of experts on the real data."""

    info: ClassVar[MethodInfo] = MethodInfo(
        title="Dataset Distillation by Matching Training Trajectories", paper="arXiv:2203.11932", year=2022,
        family="trajectory", kinds=("*",), training={"lr": 0.01, "augmentation": "dsa", "epochs": 1000},
        use_when="Take it for GPU hours and few items a class, where experts can be trained once and kept: a strong "
        "published line.",
        avoid_when="Avoid it on a processor and where experts hardly learn: minutes of experts then buy a few dozen "
        "steps.",
        related=("att", "datm", "tesla"),
    )  # fmt: skip
    published: ClassVar[Published] = RUNS

    def build_engine(self, problem: Problem) -> MatchingEngine:
        return build_trajectory_engine(self, problem)
