r"""DC: Dataset Condensation with Gradient Matching (Zhao, Mopuri, Bilen, ICLR 2021, arXiv:2006.05929), eq. 9-10.

.. math::
    \min_S \; E_{\theta_0 \sim P_{\theta_0}} \Big[ \sum_{t=0}^{T-1} \sum_c
        D\big(\nabla_\theta L^{S_c}(\theta_t),\, \nabla_\theta L^{T_c}(\theta_t)\big) \Big],
    \qquad \theta_{t+1} = \text{SGD}(L^S, \theta_t),
    \qquad D(A, B) = \sum_{\text{layers}} \sum_i \Big(1 - \frac{A_i \cdot B_i}{\lVert A_i \rVert \lVert B_i \rVert}\Big)

with one row A_i per output neuron, and T (outer) updates of S for each network θ.
"""

from dataclasses import dataclass
from typing import ClassVar

from potstill.core import MethodInfo, Presets, Problem
from potstill.methods.engine import EngineMethod, MatchingEngine, MatchingState
from potstill.methods.gradient._values import SyntheticValues, build_synthetic_engine

__all__ = ["DC"]


@dataclass(frozen=True, kw_only=True)
class DC(SyntheticValues, EngineMethod[MatchingState]):
    """Match the gradients that real and synthetic samples of a class give a network."""

    info: ClassVar[MethodInfo] = MethodInfo(
        draws_by_class=True,
        title="Dataset Condensation with Gradient Matching", paper="arXiv:2006.05929", year=2021, family="gradient",
        kinds=("*",), multi_input=True, tasks=("*",), training={"lr": 0.01, "augmentation": "none", "epochs": 300},
        use_when="Take it as the reference of gradient matching, or on small data with an hour of a GPU.",
        avoid_when="Avoid it where dm fits: in the same time it makes far fewer steps and was below it; dsa adds "
        "augmentation at the same price.",
        related=("dsa", "idc", "dm"),
    )  # fmt: skip
    presets: ClassVar[Presets] = {
        "quick": {"iterations": 10, "batch_real": 64, "inner": 5, "init_from": "real"},
        "good": {"iterations": 60, "batch_real": 128, "inner": 10, "init_from": "real"},
    }

    def build_engine(self, problem: Problem) -> MatchingEngine:
        # main.py mutes augmentation while DC's network trains, whatever the matching uses
        return build_synthetic_engine(self, problem, augmented=False)
