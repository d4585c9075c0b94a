r"""AT-BPTT: Exploring Automatic Truncated Optimization for Dataset Distillation (2025): windows that adapt.

.. math::
    \min_S \; E_{\theta_0} \; \ell_T(\theta_{s+W}), \qquad
    P(s = t) = \mathrm{softmax}(\lVert \nabla \ell_S(\theta_0) \rVert, …, \lVert \nabla \ell_S(\theta_{T-1}) \rVert)_t,
    \qquad W = W_0 - d + 2 d \, r_s / T

RaT-BPTT with windows whose place follows the norms of a student's gradients and whose size follows the rank r of how
fast these change, in three stages that end when students on real samples stop getting better
(`potstill.methods.performance._windows.Adaptive` says them in full). In the program each size is counted from the last,
so that sizes walk away from W_0 (base.py, ``model.module.window``); here W_0 stays. Everything else is RaT-BPTT's.
"""

from dataclasses import dataclass
from typing import ClassVar

from potstill.core import MethodInfo, NonNegativeInt, Presets, Problem
from potstill.methods.engine import EngineMethod, MatchingEngine, MatchingState
from potstill.methods.performance._students import StudentValues, WindowValues, build_windowed_engine
from potstill.methods.performance._windows import AdaptiveWindow

__all__ = ["ATBPTT"]


@dataclass(frozen=True, kw_only=True)
class ATBPTT(WindowValues, StudentValues, EngineMethod[MatchingState]):
    """Gradients through a window of a student's training that lies where gradients are."""

    info: ClassVar[MethodInfo] = MethodInfo(
        draws_by_class=True,
        title="When Random Is Not Enough: Exploring Automatic Truncated Optimization for Dataset Distillation",
        paper="https://github.com/GH209515338/AT-BPTT", year=2025, family="performance", kinds=("*",), multi_input=True,
        training={"lr": 0.001, "optimizer": "adam", "augmentation": "flip-rotate", "steps": 1000},
        use_when="Take it after rat-bptt where its windows stop helping: place and size follow the gradients of the "
        "student.",
        avoid_when="Avoid it as a first try: it costs rat-bptt and more, has further settings, and in a minute was "
        "not told apart.",
        related=("rat-bptt", "remember", "dd"),
    )  # fmt: skip
    presets: ClassVar[Presets] = {
        "quick": {
            "iterations": 200, "batch_real": 128, "init_from": "k-means", "lr": 0.03, "lr_net": 0.005, "window": 8,
            "swing": 2, "total": 20, "batch_per_class": 4,
        },
        "good": {
            "iterations": 4_000, "batch_real": 256, "init_from": "k-means", "lr": 0.01, "lr_net": 0.005, "window": 15,
            "swing": 4, "total": 40,
        },
    }  # fmt: skip

    window: int = 40
    """W_0: steps that gradients go through (README, --window)."""
    swing: NonNegativeInt = 10
    """d: how much longer or shorter a window becomes (README, -d)."""
    interval: int = 10
    """Steps that one look at a student's gradients serves: a pass over the real data, as published (50,000 / 5,000)."""

    def build_engine(self, problem: Problem) -> MatchingEngine:
        windows = AdaptiveWindow(size=self.window, total=self.total, swing=self.swing, interval=self.interval)
        return build_windowed_engine(self, self, problem, windows)
