r"""RaT-BPTT: Embarrassingly Simple Dataset Distillation (Feng, Vedantam, Kempe, ICLR 2024, arXiv:2311.07025).

.. math::
    \min_S \; E_{\theta_0} E_{s \sim U\{0, …, T - W\}} \; \ell_T(\theta_{s+W}),
    \qquad \theta_{i+1} = \mathrm{Adam}(\theta_i, \nabla \ell_{S_i}(\theta_i))

A fresh student trains on S with Adam for s steps through which no gradient goes, then for a window of W steps through
which it goes (algorithm 1). The gradient is cut to twice the moving average of its norm (section 4.1).
Where the program (framework/base.py, distill_higher.py) says more than the paper, it is followed, but for these: it
draws s once for a pass over the real data unless ``--complete_random`` is given, here every step draws; its real batch
is one of a pass over all samples, here it is balanced; its pictures begin with unit norm because its whitened data
have it, here noise is standard normal in model space. Labels that it learns (``--train_y``, CIFAR-100 and
Tiny-ImageNet) are rows cut at 0; learned labels here are a softmax of logits, or ``scores``, which are not cut.
"""

from dataclasses import dataclass
from typing import ClassVar

from potstill.core import MethodInfo, NonNegativeInt, Presets, Problem
from potstill.methods.engine import EngineMethod, MatchingEngine, MatchingState
from potstill.methods.performance._students import StudentValues, WindowValues, build_windowed_engine
from potstill.methods.performance._windows import RandomWindow

__all__ = ["RaTBPTT"]


@dataclass(frozen=True, kw_only=True)
class RaTBPTT(WindowValues, StudentValues, EngineMethod[MatchingState]):
    """Gradients through a window of a student's training that lies at random."""

    info: ClassVar[MethodInfo] = MethodInfo(
        draws_by_class=True,
        title="Embarrassingly Simple Dataset Distillation", paper="arXiv:2311.07025", year=2024, family="performance",
        kinds=("*",), multi_input=True, tasks=("*",),
        training={"lr": 0.001, "optimizer": "adam", "augmentation": "flip-rotate", "steps": 1000},
        use_when="Take it for one to ten items a class where hard labels are needed and students are trained, with "
        "GPU hours for more.",
        avoid_when="Avoid it for large sets, whose windows must grow, and for a minute's run, in which dm over "
        "frequencies was as good.",
        related=("at-bptt", "remember", "frepo"),
    )  # fmt: skip
    presets: ClassVar[Presets] = {
        "quick": {
            "iterations": 200, "batch_real": 128, "init_from": "k-means", "lr": 0.03, "lr_net": 0.005, "window": 10,
            "total": 20, "batch_per_class": 4,
        },
        "good": {
            "iterations": 4_000, "batch_real": 256, "init_from": "k-means", "lr": 0.01, "lr_net": 0.005, "window": 15,
            "total": 40,
        },
    }  # fmt: skip

    min_burn_in: NonNegativeInt = 0
    """Minimum length of the burn-in (--minwindow)."""

    def build_engine(self, problem: Problem) -> MatchingEngine:
        return build_windowed_engine(
            self, self, problem, RandomWindow(size=self.window, total=self.total, min_burn_in=self.min_burn_in)
        )
