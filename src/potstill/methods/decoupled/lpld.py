r"""LPLD: Are Large-scale Soft Labels Necessary for Large-scale Dataset Distillation? (Xiao and He, NeurIPS 2024,
arXiv:2410.15919).

.. math::
    \min_{X_c} \; \ell(f_\theta(A(X_c)), c) + r \sum_l w_l \Big( \lVert \mu_l(A(X_c)) - \mu_l(T_c) \rVert_2
        + \lVert \sigma^2_l(A(X_c)) - \sigma^2_l(T_c) \rVert_2 \Big)

SRe2L with a batch for each class, held against the statistics of that class's real samples T_c, so that
the pictures of a class differ among each other, and few labels are enough. Pruning those labels is the label store's.

T_c's statistics are the moments of the whole class in the teacher; the released code follows them with a moving
average over batches.
"""

from dataclasses import dataclass, replace
from typing import ClassVar

from potstill.core import MethodInfo, Presets, Problem
from potstill.methods.decoupled._recover import Recovery, RecoverySettings
from potstill.methods.decoupled._state import Composition, RecoverState
from potstill.methods.decoupled._statistics import ClassStatistics
from potstill.methods.decoupled._teachers import TeacherConfig
from potstill.methods.engine import EngineMethod

__all__ = ["LPLD"]


@dataclass(frozen=True, kw_only=True)
class LPLD(RecoverySettings, TeacherConfig, EngineMethod[RecoverState]):
    """SRe2L class by class, with the BatchNorm statistics of each class."""

    info: ClassVar[MethodInfo] = MethodInfo(
        title="Are Large-scale Soft Labels Necessary for Large-scale Dataset Distillation?", paper="arXiv:2410.15919",
        year=2024, family="decoupled", training={"optimizer": "adamw", "lr": 0.001, "epochs": 300, "temperature": 20},
        class_independence="deletion",
        use_when="Take it where labels take too many bytes: pictures made class by class differ more, so fewer "
        "labels are enough.",
        avoid_when="Avoid it at one item a class, whose statistics are those of one picture, and for small pictures: "
        "at a few digits a class it was far below random samples.",
        related=("sre2l", "wmdd", "dwa"),
    )  # fmt: skip
    presets: ClassVar[Presets] = {
        "quick": {"network": "convnet-batch", "teacher_epochs": 10, "iterations": 200},
        "good": {"teacher_epochs": 20, "iterations": 300},
    }

    iterations: int = 4000
    """Steps per batch (README, Tiny-ImageNet and ImageNet-1K)."""
    lr: float = 0.1
    """Learning rate (Tiny-ImageNet there; 0.25 for ImageNet-1K)."""
    r_bn: float = 0.05
    """Weight of the statistics (Tiny-ImageNet there; 0.01 for ImageNet-1K)."""
    composition: Composition = "class"
    """A batch holds the items of one class."""

    def build_engine(self, problem: Problem) -> Recovery:
        return replace(self.recovery(problem, self.labeller()), match=ClassStatistics(first=self.first_layer))
