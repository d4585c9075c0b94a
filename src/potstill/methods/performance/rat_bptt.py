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
from typing import ClassVar, Literal

from potstill.core import Efforts, MethodInfo, Problem
from potstill.functional.unroll import Inner
from potstill.methods._engine import Engineered
from potstill.methods._matching import Matching, MatchState
from potstill.methods._starts import Start
from potstill.methods.performance._students import StudentValues, unrolled
from potstill.methods.performance._windows import Balanced, Random, Windows

__all__ = ["RaTBPTT", "WindowValues", "windowed"]


@dataclass(frozen=True, kw_only=True)
class WindowValues:
    """Of RaT-BPTT and AT-BPTT. The defaults are those of RaT-BPTT's README for CIFAR-10 at 10 per class."""

    may_be_zero: ClassVar[tuple[str, ...]] = ("students", "least")
    fractions: ClassVar[tuple[str, ...]] = ("momentum", "average")

    iterations: int = 12_000
    """Steps. The README's 60,000 passes are 600,000; its author says that about 1,200 passes of 10 steps suffice
    (issue 3 of the repository)."""
    batch_real: int = 5000
    """Real samples of a step, as many of each class (--batch_size)."""
    start: Start = "noise"
    """Start from noise (framework/base.py, x_init)."""
    optimizer: Literal["sgd", "adamw"] = "adamw"
    """What moves the stored values: Adam (--outer_optim)."""
    lr: float = 1e-3
    """Learning rate of what is stored (--lr)."""
    inner_optimizer: Literal["adam", "sgd"] = "adam"
    """What trains the students (--inner_optim)."""
    lr_net: float = 1e-3
    """Learning rate of the students (--inner_lr)."""
    window: int = 60
    """W: steps that gradients go through (--window)."""
    total: int = 200
    """T: steps of a student, at most (--totwindow)."""
    batch_per_class: int = 10
    """Decoded inputs of each class in a step of a student (--batch_per_class)."""
    clip: float = 2.0
    """The gradient is cut to so many times the moving average of its norm (base.py); 0: it is not."""
    average: float = 0.9
    """How much of that average stays in a step (--clip_coef)."""
    augment: str = "flip-rotate"
    """Per-sample augmentation of the student's batches and of the real one (--syn_strategy, --real_strategy)."""
    network: str = "convnet"
    """The student."""
    parametrization: str = "pixels"
    """What is optimised."""


def windowed(method: StudentValues, values: WindowValues, problem: Problem, windows: Windows) -> Matching:
    """The engine of a method that has both kinds of values, with these windows."""
    # with Adam, momentum has no meaning; the program's SGD has 0.9 and weight decay 5e-4 (distill_higher.py)
    momentum = method.momentum_net if values.inner_optimizer == "sgd" else 0.0
    return unrolled(
        method, problem, windows=windows, batches=Balanced(per_class=values.batch_per_class),
        inner=Inner(optimizer=values.inner_optimizer, momentum=momentum), clip=values.clip, average=values.average,
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class RaTBPTT(WindowValues, StudentValues, Engineered[MatchState]):
    """Gradients through a window of a student's training that lies at random."""

    info: ClassVar[MethodInfo] = MethodInfo(
        title="Embarrassingly Simple Dataset Distillation",
        paper="arXiv:2311.07025",
        year=2024,
        family="performance",
        kinds=("*",),
        named=True,
        tasks=("*",),
        training={"lr": 0.001, "optimizer": "adam", "augmentation": "flip-rotate", "steps": 1000},
    )
    efforts: ClassVar[Efforts] = {
        "quick": {
            "iterations": 200, "batch_real": 128, "start": "k-means", "lr": 0.03, "lr_net": 0.005, "window": 10,
            "total": 20, "batch_per_class": 4,
        },
        "good": {
            "iterations": 4_000, "batch_real": 256, "start": "k-means", "lr": 0.01, "lr_net": 0.005, "window": 15,
            "total": 40,
        },
    }  # fmt: skip

    least: int = 0
    """The burn-in is no shorter than this (--minwindow)."""

    def engine(self, problem: Problem) -> Matching:
        return windowed(self, self, problem, Random(size=self.window, total=self.total, least=self.least))
