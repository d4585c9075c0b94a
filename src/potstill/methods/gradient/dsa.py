r"""DSA: Dataset Condensation with Differentiable Siamese Augmentation (Zhao and Bilen, ICML 2021, arXiv:2102.08259).

Equation 5:

.. math::
    \min_S \; D\big(\nabla_\theta L(A(S, \omega^S), \theta_t),\, \nabla_\theta L(A(T, \omega^T), \theta_t)\big),
    \qquad \omega^S = \omega^T

DC's gradient matching with one differentiable augmentation A drawn per class and shared by both batches. The network
trains on synthetic samples that are each augmented on their own.
"""

from dataclasses import dataclass
from typing import ClassVar

from potstill.core import MethodInfo, Presets, Problem
from potstill.methods.engine import EngineMethod, Init, MatchingEngine, MatchingState
from potstill.methods.gradient._values import SyntheticValues, build_synthetic_engine

__all__ = ["DSA"]


@dataclass(frozen=True, kw_only=True)
class DSA(SyntheticValues, EngineMethod[MatchingState]):
    """Match gradients under an augmentation that real and synthetic samples share."""

    info: ClassVar[MethodInfo] = MethodInfo(
        draws_by_class=True,
        title="Dataset Condensation with Differentiable Siamese Augmentation", paper="arXiv:2102.08259", year=2021,
        family="gradient", kinds=("*",), multi_input=True, tasks=("*",),
        training={"lr": 0.01, "augmentation": "dsa", "epochs": 1000},
        use_when="Take it in place of dc wherever students are trained with augmentation, at a few items a class.",
        avoid_when="Avoid it for minutes on a processor and for many items a class: steps grow dear, and dm was "
        "ahead in equal time.",
        related=("dc", "idc", "dm"),
    )  # fmt: skip
    presets: ClassVar[Presets] = {
        "quick": {"iterations": 10, "batch_real": 64, "inner": 5},
        "good": {"iterations": 60, "batch_real": 128, "inner": 10},
    }

    init_from: Init = "real"
    """Initial samples: random real ones (the repository's DSA commands) or from noise."""
    augment: str = "dsa"
    """Siamese augmentation (section 3.2 of the paper)."""

    def build_engine(self, problem: Problem) -> MatchingEngine:
        return build_synthetic_engine(self, problem, augmented=True)
