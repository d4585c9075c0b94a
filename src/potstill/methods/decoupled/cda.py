r"""CDA: Dataset Distillation via Curriculum Data Augmentation in Large Data Era (Yin and Shen, TMLR 2024,
arXiv:2311.18838).

.. math::
    \alpha(t) = 0.08 + 0.92\, \tfrac{1}{2} \big(1 + \cos(\pi t / (m K))\big), \quad t < m K

SRe2L whose crops keep at least the part α(t) of the area at iteration t of K: the whole picture at first, small parts
at the end. m, the milestone, is 1 in the published scripts.
"""

from dataclasses import dataclass
from typing import ClassVar

from potstill.core import MethodInfo, Problem
from potstill.functional.crops import Curriculum
from potstill.methods.decoupled._recover import Recovery, RecoverySettings
from potstill.methods.decoupled._state import RecoverState
from potstill.methods.decoupled._teachers import TeacherConfig
from potstill.methods.engine import EngineMethod

__all__ = ["CDA"]


@dataclass(frozen=True, kw_only=True)
class CDA(RecoverySettings, TeacherConfig, EngineMethod[RecoverState]):
    """SRe2L with crops that shrink along a curriculum."""

    info: ClassVar[MethodInfo] = MethodInfo(
        title="Dataset Distillation via Curriculum Data Augmentation in Large Data Era", paper="arXiv:2311.18838",
        year=2024, family="decoupled", training={"optimizer": "adamw", "lr": 0.001, "epochs": 300, "temperature": 20},
        class_independence="deletion",
        use_when="Take it in place of sre2l for large pictures and long runs: crops that start whole keep objects "
        "whole.",
        avoid_when="Avoid it for small pictures and few steps: at a few digits a class it was far below random "
        "samples here.",
        related=("sre2l", "delt", "sre2l++"),
    )  # fmt: skip

    iterations: int = 4000
    """K: steps per batch (CDA/README.md, Tiny-ImageNet and ImageNet-1K)."""
    lr: float = 0.4
    """Learning rate (Tiny-ImageNet there; 0.25 for ImageNet-1K)."""
    r_bn: float = 0.05
    """Weight of the statistics (Tiny-ImageNet there; 0.01 for ImageNet-1K)."""
    curriculum: Curriculum = "cosine"
    """Decrease of the minimum crop."""

    def build_engine(self, problem: Problem) -> Recovery:
        return self.recovery(problem, self.labeller())
