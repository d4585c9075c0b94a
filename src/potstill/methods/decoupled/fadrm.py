r"""FADRM: Fast and Accurate Data Residual Matching (Cui et al., NeurIPS 2025, arXiv:2506.24125).

.. math::
    X \leftarrow \alpha\, \mathrm{resize}(X, s_{j+1}) + (1 - \alpha)\, \mathrm{resize}(P, s_{j+1})

SRe2L in stages from mosaics P of realistic crops. Between two stages the pictures change their size and get back a
part of what they began as (the data residual). Adam begins anew with every stage; one cosine goes over all.
With a committee, each step asks the next teacher (FADRM+). Published also: half precision, and labels by the statistics
of batches of 8 in 19 of the 20 relabelling scripts (``--eval-mode F``), as a protocol's ``teacher_statistics="batch"``.
"""

from dataclasses import dataclass, replace
from typing import ClassVar

from potstill.core import MethodInfo, Problem, UnitFloat
from potstill.methods.decoupled._parts import ImageInitName, Stages
from potstill.methods.decoupled._realism import Rank
from potstill.methods.decoupled._recover import Recovery, RecoverySettings
from potstill.methods.decoupled._state import RecoverState, next_teacher
from potstill.methods.decoupled._teachers import TeacherConfig
from potstill.methods.engine import EngineMethod

__all__ = ["FADRM"]


@dataclass(frozen=True, kw_only=True)
class FADRM(RecoverySettings, TeacherConfig, EngineMethod[RecoverState]):
    """SRe2L in stages that give back a part of the first picture."""

    info: ClassVar[MethodInfo] = MethodInfo(
        title="FADRM: Fast and Accurate Data Residual Matching for Dataset Distillation", paper="arXiv:2506.24125",
        year=2025, family="decoupled",
        training={"optimizer": "adamw", "lr": 0.001, "epochs": 300, "batch": 16, "temperature": 20},
        use_when="Take it first among the optimised decoupled methods for large pictures: its publication reports "
        "the best accuracy for a GPU hour.",
        avoid_when="Avoid it for small pictures: resizing brings little there, and it was no better than random "
        "samples with the same labels.",
        related=("sre2l++", "rded", "edc"),
    )  # fmt: skip

    iterations: int = 2000
    """Steps of each batch, over all stages (4 × 500, recover/scripts)."""
    lr: float = 0.25
    """Learning rate (there)."""
    r_bn: float = 0.01
    """Weight of the statistics (there)."""
    stages: int = 4
    """Stages of equal length (there)."""
    alpha: UnitFloat = 0.5
    """α: fraction of an image kept between two stages (there)."""
    shrink: UnitFloat = 1.0
    """Relative side of every second stage, counted back from the last but one: 1 as published for CIFAR and
    Tiny-ImageNet; 200/224 for ImageNet-1K."""
    init_from: ImageInitName = "mosaic"
    """Initial images: mosaics."""
    init_rank: Rank = "medium"
    """Crops of mosaics: from the middle of the ranking (--patch-diff medium, in all 20 recover scripts)."""

    def build_engine(self, problem: Problem) -> Recovery:
        stages = Stages(count=self.stages, alpha=self.alpha, shrink=self.shrink)
        return replace(self.recovery(problem, self.labeller()), stages=stages, teacher_schedule=next_teacher)
