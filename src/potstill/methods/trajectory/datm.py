r"""DATM: Difficulty-Aligned Trajectory Matching (Guo et al., ICLR 2024): later trajectories for larger sets.

.. math:: t \sim U\{t_{\min}, \dots, u_k - 1\}, \qquad u_k = u_0 + (u_{\text{end}} - u_0)\, k / K, \qquad
    y = \mathrm{softmax}\Big(\tfrac{1}{|E_x|} \sum_{e \in E_x} f_e(x)\Big) \text{ at first, then learned}

A student's stretch begins at an epoch from a range that depends on the size of the set and whose end grows over K
steps. Sets begin as real samples that experts classify rightly, with labels from E_x, the experts that do (from all,
where none does: there the released program divides 0 by 0); at 50 per class of CIFAR-100 they begin as random real
ones, with the labels of one expert. A step whose loss is above a threshold is skipped. Experts
are FTD's, of 100 epochs. Data are whitened (``--zca mtt``).
"""

from dataclasses import dataclass
from typing import ClassVar

from potstill.core import MethodInfo, Problem
from potstill.methods.engine import EngineMethod, MatchingEngine, MatchingState
from potstill.methods.trajectory._published import DATM as RUNS
from potstill.methods.trajectory._values import (
    AlignedFields,
    Published,
    TrajectoryFields,
    build_trajectory_engine,
)

__all__ = ["DATM", "RUNS"]


@dataclass(frozen=True, kw_only=True)
class DATM(AlignedFields, TrajectoryFields, EngineMethod[MatchingState]):
    """Train students along segments that are as hard as the set is large, with learned labels."""

    info: ClassVar[MethodInfo] = MethodInfo(
        title="Towards Lossless Dataset Distillation via Difficulty-Aligned Trajectory Matching",
        paper="arXiv:2310.05773", year=2024, family="trajectory", kinds=("*",),
        training={"lr": 0.01, "augmentation": "dsa", "epochs": 1000},
        use_when="Take it for tens of items a class with soft labels: it is published to keep the lead longest as "
        "sets grow.",
        avoid_when="Avoid it where real samples are cheap: from twenty items a class of small pictures on they were "
        "better here.",
        related=("pad", "ftd", "mtt"),
    )  # fmt: skip
    published: ClassVar[Published] = RUNS

    def build_engine(self, problem: Problem) -> MatchingEngine:
        return build_trajectory_engine(self, problem, self.aligned_parts())
