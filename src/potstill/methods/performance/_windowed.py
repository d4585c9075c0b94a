"""The values that RaT-BPTT and AT-BPTT share, and the engine that they build.

The programs differentiate through a window by ``higher``, whose Adam adds eps to √v before it corrects the bias, where
torch's (which makes the burn-in there, and all steps here) adds it after: at the first steps eps counts for as much as
1/√(1 − β₂) = 32 times more, which no gradient above 1e-6 shows. ``benchmarks/fidelity_functions.py`` compares a window.
"""

from dataclasses import dataclass
from typing import Literal

from potstill.core import Problem, UnitFloat
from potstill.functional.unroll import InnerOptimizer
from potstill.methods.engine import Init, MatchingEngine
from potstill.methods.performance._students import StudentValues, build_unrolled_engine
from potstill.methods.performance._windows import BalancedBatches, Windows

__all__ = ["WindowValues", "build_windowed_engine"]


@dataclass(frozen=True, kw_only=True)
class WindowValues:
    """Fields of RaT-BPTT and AT-BPTT. The defaults are those of RaT-BPTT's README for CIFAR-10 at 10 per class."""

    iterations: int = 12_000
    """Steps. The README's 60,000 passes are 600,000; its author says that about 1,200 passes of 10 steps suffice
    (issue 3 of the repository)."""
    batch_real: int = 5000
    """Real samples of a step, balanced over classes (--batch_size)."""
    init_from: Init = "noise"
    """Initial samples: noise (framework/base.py, x_init)."""
    optimizer: Literal["sgd", "adamw"] = "adamw"
    """Optimizer of the stored values: Adam (--outer_optim)."""
    lr: float = 1e-3
    """Learning rate of the synthetic inputs (--lr)."""
    inner_optimizer: Literal["adam", "sgd"] = "adam"
    """Optimizer of the students (--inner_optim)."""
    lr_net: float = 1e-3
    """Learning rate of the students (--inner_lr)."""
    momentum_net: float = 0.9
    """Momentum of the students, with SGD; below 1 (distill_higher.py). Adam has none."""
    weight_decay_net: float = 5e-4
    """Weight decay of the students, with SGD (distill_higher.py). Adam has none."""
    window: int = 60
    """W: steps that gradients go through (--window)."""
    total: int = 200
    """T: steps of a student, at most (--totwindow)."""
    batch_per_class: int = 10
    """Decoded inputs of each class in a step of a student (--batch_per_class)."""
    clip: float = 2.0
    """The gradient is clipped to so many times the moving average of its norm (base.py); 0: it is not."""
    clip_decay: UnitFloat = 0.9
    """Decay of that average (--clip_coef)."""
    augment: str = "flip-rotate"
    """Per-sample augmentation of the student's batches and of the real one (--syn_strategy, --real_strategy)."""
    network: str = "convnet"
    """Network of the students."""
    parametrization: str = "pixels"
    """Parametrization of the synthetic inputs."""


def build_windowed_engine(
    method: StudentValues, values: WindowValues, problem: Problem, windows: Windows
) -> MatchingEngine:
    """Return the engine of a method with both kinds of fields and these windows."""
    sgd = values.inner_optimizer == "sgd"
    inner = InnerOptimizer(
        optimizer=values.inner_optimizer, momentum=values.momentum_net if sgd else 0.0,
        weight_decay=values.weight_decay_net if sgd else 0.0,
    )  # fmt: skip
    return build_unrolled_engine(
        method, problem, windows=windows, batches=BalancedBatches(per_class=values.batch_per_class),
        inner=inner, clip=values.clip, average=values.clip_decay,
    )  # fmt: skip
