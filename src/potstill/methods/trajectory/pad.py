r"""PAD: Prioritize Alignment in Dataset Distillation (Li et al., 2024): DATM with chosen samples and parameters.

.. math:: L = \sum_{i \in K} (\theta_{N,i} - \theta^*_i)^2 \Big/ \sum_{i \in K} (\theta_{0,i} - \theta^*_i)^2

Experts see easy samples first: the easiest 75 % of each class by GraNd's score, more until all at epoch 20, and without
the easiest from epoch 40 on. K leaves out a part of the parameters. The paper leaves out those of shallow layers; its
released program those whose squared differences from the target are smallest, which is what its figures were made with
and what is done here. (As released it stops at an argument that is never defined; ``loss_threshold_low`` is not ours.)
"""

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from potstill.core import MethodInfo, Problem, UnitFloat
from potstill.methods.engine import AUTO, Auto, EngineMethod, MatchingEngine, MatchingState
from potstill.methods.trajectory._parts import PartialDistance
from potstill.methods.trajectory._published import PAD as RUNS
from potstill.methods.trajectory._values import AlignedFields, Published, TrajectoryFields, build_trajectory_engine

__all__ = ["PAD"]


@dataclass(frozen=True, kw_only=True)
class PAD(AlignedFields, TrajectoryFields, EngineMethod[MatchingState]):
    """DATM with experts that see easy samples first, and without the parameters that are nearest already."""

    info: ClassVar[MethodInfo] = MethodInfo(
        title="Prioritize Alignment in Dataset Distillation", paper="arXiv:2408.03360", year=2024, family="trajectory",
        kinds=("*",), training={"lr": 0.01, "augmentation": "dsa", "epochs": 1000},
        use_when="Take it after datm, where hours are left and its last points count: hard samples and settled "
        "parameters are left out.",
        avoid_when="Avoid it first: it costs more than datm, gained nothing here, and its quick preset was below "
        "random samples.",
        related=("datm", "ftd", "grand"),
    )  # fmt: skip
    published: ClassVar[Published] = RUNS

    drop_ratio: Auto[UnitFloat] = AUTO
    """Fraction of the parameters, those nearest to the target, that the loss leaves out (configs, loss_ratio)."""
    curriculum: Literal["none", "pad"] = "pad"
    """Show experts easy samples first, and later leave the easiest out."""

    def build_engine(self, problem: Problem) -> MatchingEngine:
        parts = self.aligned_parts()
        if self.drop_ratio:
            parts = replace(parts, distance=PartialDistance(self.drop_ratio))
        if self.curriculum != "none":
            parts = replace(parts, expert_training={**parts.expert_training, "curriculum": self.curriculum})
        return build_trajectory_engine(self, problem, parts)
